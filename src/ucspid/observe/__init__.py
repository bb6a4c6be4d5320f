"""What an operator sees: log, events, status."""
