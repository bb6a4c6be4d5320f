"""Programs in Python that are imported once and run in a fork for each connection.

The process is a launcher like any other; but when it has taken its privileges, it executes the service's own
interpreter, Python 3.9 or newer, which may know nothing of ucspid. So what runs there is loaded from memory
(handover, bundle) and needs nothing but the standard library of Python 3.9.
"""
