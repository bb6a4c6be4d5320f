"""The master: the privileged process that holds everything and reads nothing from the network."""
