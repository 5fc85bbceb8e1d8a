"""Seeds and the search space of MEmeL-Tune (E.3), which all of the paper's tables share."""

import math
from collections.abc import Sequence

from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

TOPS = (1, 5, 10, 50, 100)
DELTAS = (1.0, 5.0, 10.0, 50.0, 100.0)
"""The paper's search space."""


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are none, negative, or the same twice.

    Raises:
        InputError: with what was found and expected.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: found {list(seeds)}, expected different numbers from 0")


def check_space(tops: Sequence[int], deltas: Sequence[float]) -> None:
    """Refuse a search space that makes no sense.

    Raises:
        InputError: with what was found and expected.
    """
    sensible = tops and deltas and min(tops) > 0 and 0 < min(deltas) <= max(deltas) < math.inf
    if not sensible:
        raise InputError(
            f"tuning: found tops {list(tops)} and Δ {list(deltas)}, "
            "expected at least one of each, all above 0 (E.3)"
        )


def tried(tops: Sequence[int], deltas: Sequence[float]) -> tuple[Inhibition, ...]:
    """MEmeL's own top and Δ, then each top with each Δ."""
    grid = [Inhibition(top, delta) for top in tops for delta in deltas]
    return tuple(dict.fromkeys([Inhibition(), *grid]))
