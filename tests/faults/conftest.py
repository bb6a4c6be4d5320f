"""What all tests of this folder may use."""

from each_launcher import each_launcher

__all__ = ["each_launcher"]
