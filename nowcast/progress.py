"""Progress of long work: a bar on a terminal, log lines otherwise."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
log = logging.getLogger("nowcast")

SECONDS_BETWEEN_LINES = 10.0


def progress(
    items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "it"
) -> Iterator[Item]:
    """Pass `items` on, one by one, and show how far it is.

    Args:
        items: what is worked through.
        description: the work, in a few words.
        total: how many items there are, where `items` cannot say.
        unit: what one item is called.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, unit=unit, dynamic_ncols=True)
        return
    started = said = time.monotonic()
    done = 0
    of_total = "" if total is None else f" of {total:,}"
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done != total:
            left = (
                "" if total is None else f", {_duration((now - started) * (total / done - 1))} left"
            )
            log.info(
                "%s: %s%s %s in %s%s",
                *(description, f"{done:,}", of_total, unit, _duration(now - started), left),
            )
            said = now
    log.info("%s: %s %s in %.1f s", description, f"{done:,}", unit, time.monotonic() - started)


def _duration(seconds: float) -> str:
    """A duration as people say it, to two digits or better."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
