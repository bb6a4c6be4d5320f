"""python -m ucspid: the same as the command ucspid."""

import sys

from ucspid.command import main

sys.exit(main())
