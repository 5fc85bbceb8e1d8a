"""`python scripts/finetune.py` is the same as `nowcast finetune`."""

import sys

from nowcast.commands.finetune import main

if __name__ == "__main__":
    sys.exit(main())
