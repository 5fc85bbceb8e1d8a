"""`python scripts/render.py` is the same as `nowcast render`."""

import sys

from nowcast.commands.render import main

if __name__ == "__main__":
    sys.exit(main())
