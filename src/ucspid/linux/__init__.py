"""What the event loop's process gives up before it meets the network, as far as the kernel lets it."""
