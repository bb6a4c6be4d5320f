"""Configurations of other servers, read and described as services; nothing in them is executed."""
