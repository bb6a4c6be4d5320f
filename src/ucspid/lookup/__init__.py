"""What is looked up about a connection before its program starts: names in the DNS, and ident users."""
