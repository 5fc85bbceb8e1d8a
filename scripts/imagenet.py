"""`python scripts/imagenet.py` is the same as `nowcast imagenet`."""

import sys

from nowcast.commands.imagenet import main

if __name__ == "__main__":
    sys.exit(main())
