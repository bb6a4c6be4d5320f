"""The loop's ends of the control socket and of the master's channel."""
