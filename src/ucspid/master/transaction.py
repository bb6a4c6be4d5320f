"""A reload as a transaction: read, acquire everything new, and only then go over to it.

Anything wrong before that leaves the plan in force untouched, releases what was acquired, and
says what and where. The first start is the same transaction, with nothing in force.
"""
