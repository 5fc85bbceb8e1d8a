"""Timing in rounds: A B A B …, so that whatever else the machine does hits all variants alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from nowcast.errors import InputError
from nowcast.progress import progress


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements with the smallest and the largest."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> "Spread":
        """Of one or more measurements."""
        return cls(median(values), min(values), max(values))


def time_rounds(
    variants: Mapping[str, Callable[[], object]], repeats: int, warmup: int, description: str
) -> dict[str, tuple[float, ...]]:
    """Run the variants one after the other, round after round, and time each run.

    Args:
        variants: what to time, by name, in the order in which a round runs them; each returns when
            its work is done, on a GPU too.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        description: the work, in a few words, for the progress bar.

    Returns:
        Seconds of each variant, one value per round; values at the same place belong together.

    Raises:
        InputError: for a number of rounds that makes no sense.
    """
    check_rounds(repeats, warmup)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    collecting = gc.isenabled()
    gc.collect()
    # What is there already need not be looked through again in every round.
    gc.freeze()
    try:
        for number in progress(range(warmup + repeats), description, unit="rounds"):
            # Between rounds, not between variants, whose caches it would empty unevenly.
            gc.collect()
            gc.disable()
            for name, variant in variants.items():
                started = time.perf_counter()
                variant()
                elapsed = time.perf_counter() - started
                if number >= warmup:
                    seconds[name].append(elapsed)
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    return {name: tuple(values) for name, values in seconds.items()}


def check_rounds(repeats: int, warmup: int) -> None:
    """Refuse a number of rounds that makes no sense, before work is prepared for them.

    Raises:
        InputError: as `time_rounds` raises it.
    """
    if repeats < 1 or warmup < 0:
        raise InputError(
            f"rounds: found repeats={repeats} and warmup={warmup}, expected at least 1 and 0"
        )
