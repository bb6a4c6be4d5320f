"""The master: the privileged process that holds everything and meets nobody."""
