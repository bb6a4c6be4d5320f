"""What decides: no I/O, the time as an argument."""
