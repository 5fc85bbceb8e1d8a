"""`python scripts/prepare_data.py` is the same as `nowcast prepare_data`."""

import sys

from nowcast.commands.prepare_data import main

if __name__ == "__main__":
    sys.exit(main())
