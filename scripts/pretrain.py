"""`python scripts/pretrain.py` is the same as `nowcast pretrain`."""

import sys

from nowcast.commands.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
