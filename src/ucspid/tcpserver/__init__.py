"""tcpserver of ucspi-tcp, by its own command line: the daemon with one service."""
