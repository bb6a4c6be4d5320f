"""From accept(2) to a session."""
