"""The bench: ucspid side by side with the servers that it replaces. See bench/README.md."""
