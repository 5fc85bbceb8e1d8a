"""`python scripts/probe.py` is the same as `nowcast probe`."""

import sys

from nowcast.commands.probe import main

if __name__ == "__main__":
    sys.exit(main())
