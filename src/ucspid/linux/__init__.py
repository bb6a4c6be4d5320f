"""What the event loop's process drops before it meets the network, as far as the kernel lets it."""
