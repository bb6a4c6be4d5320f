"""TLS between a socket and a program that knows nothing of it."""
