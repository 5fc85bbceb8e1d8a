"""`python scripts/evaluate.py` is the same as `nowcast evaluate`."""

import sys

from nowcast.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
