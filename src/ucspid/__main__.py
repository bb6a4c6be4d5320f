"""python -m ucspid: the same as the command ucspid."""

import sys

from ucspid.cli.main import main

sys.exit(main())
