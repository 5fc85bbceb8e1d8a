"""`python scripts/reproduce.py` is the same as `nowcast reproduce`."""

import sys

from nowcast.commands.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
