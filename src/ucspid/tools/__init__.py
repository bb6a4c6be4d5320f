"""The tools of UCSPI other than the server: one module each, and what they share.

They start in the time of a bare interpreter: nothing is imported that has `enum`, `re`, `typing` or
`collections` behind it, each of which takes as long as a tool's work. So `_socket` and `_signal` stand
where `socket` and `signal` would.
"""
