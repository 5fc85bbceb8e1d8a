"""`python scripts/forecast.py` is the same as `nowcast forecast`."""

import sys

from nowcast.commands.forecast import main

if __name__ == "__main__":
    sys.exit(main())
