"""The program of a service with `forward`: passes its client on to another server.

It is preloaded, and so runs in a fork of a launcher for each connection. Imported by launchers: of the
standard library no more than they have already.
"""
