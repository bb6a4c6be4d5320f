"""The stages between accept(2) and a slot: one module each, in the order of pipeline.STAGES."""
