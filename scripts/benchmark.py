"""`python scripts/benchmark.py` is the same as `nowcast benchmark`."""

import sys

from nowcast.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
