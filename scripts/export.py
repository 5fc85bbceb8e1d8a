"""`python scripts/export.py` is the same as `nowcast export`."""

import sys

from nowcast.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
