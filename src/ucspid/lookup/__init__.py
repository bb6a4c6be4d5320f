"""Names of clients: DNS, ident, within a deadline."""
