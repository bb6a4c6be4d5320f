"""Those who give orders: control clients and the master."""
