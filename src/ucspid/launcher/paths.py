"""Where the launchers are: both are executed by the master."""

import os

_FOLDER = os.path.dirname(os.path.abspath(__file__))

PYTHON = os.path.join(_FOLDER, "__main__.py")
NATIVE = os.path.join(_FOLDER, "ucspid-launcher")
"""Not there if ucspid was installed without a C compiler, or on a machine that it is not written for."""
