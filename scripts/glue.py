"""`python scripts/glue.py` is the same as `nowcast glue`."""

import sys

from nowcast.commands.glue import main

if __name__ == "__main__":
    sys.exit(main())
