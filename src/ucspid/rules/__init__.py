"""Access rules: who may connect to a service, and what the program is told about it.

Policy only: addresses and names in, a Rule out. Files are read and written by the functions
read_text, read_cdb and install and by nothing else, and nothing here looks anything up.
"""
