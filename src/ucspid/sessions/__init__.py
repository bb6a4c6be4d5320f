"""Services and their sessions."""
