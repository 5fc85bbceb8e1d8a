"""Several processes that train together, as torchrun starts them."""

import os


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the one that writes files and says what is done."""
    return int(os.environ.get("RANK", "0")) == 0
