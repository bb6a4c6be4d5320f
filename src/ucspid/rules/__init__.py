"""Access rules: who may connect to a service, and which variables its program gets.

Policy only: addresses and names in, a Rule out. Only bounds.read reads a file and only
tcprules.install writes one, and nothing here looks anything up.
"""
