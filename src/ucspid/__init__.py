"""ucspid: one superserver for all of a host's UCSPI services."""

__version__ = "0.1.0"
