"""The configuration file: text to checked values. Read in a process of its own, not in the master."""
