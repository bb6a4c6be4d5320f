"""Access rules: who may connect to a service, and what the program is told about it.

Policy only: addresses and names in, a Rule out. Only bounds.read reads a file and only
tcprules.install writes one, and nothing here looks anything up.
"""
