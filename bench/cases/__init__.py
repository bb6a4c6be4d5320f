"""The cases of the bench: one module for each question that is asked."""
