"""`python scripts/benchmark.py` is the same as `nowcast benchmark`."""

import sys

if __name__ == "__main__":
    # Here alone: the processes that are measured by themselves read this file, too.
    from nowcast.commands.benchmark import main

    sys.exit(main())
