"""Refusing settings that cannot be, in one line each."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from nowcast.errors import InputError

Check = tuple[str, Any, bool, str]
"""Name of a setting, what was found, whether it can be, and what was expected."""


def refuse_misfits(part: str, checks: Iterable[Check]) -> None:
    """Refuse the first setting that does not fit.

    Args:
        part: that the settings belong to.
        checks: of its settings.

    Raises:
        InputError: with what was found and expected.
    """
    for name, found, fits, expected in checks:
        if not fits:
            raise InputError(f"{part}: found {name}={found}, expected {expected}")


def count(name: str, found: int) -> Check:
    """At least 1."""
    return name, found, found >= 1, "at least 1"


def not_negative(name: str, found: float) -> Check:
    """A finite number from 0."""
    return name, found, 0 <= found < inf, "0 or more"


def share(name: str, found: float) -> Check:
    """From 0 to below 1."""
    return name, found, 0 <= found < 1, "a share, 0 to below 1"


def probability(name: str, found: float) -> Check:
    """From 0 to 1."""
    return name, found, 0 <= found <= 1, "a probability, 0 to 1"


def check_learning_rates(rates: Sequence[float]) -> None:
    """Refuse none, the same twice, and what is no rate; those are the same whose folders are.

    Raises:
        InputError: with what was found and expected.
    """
    names = {f"{rate:g}" for rate in rates}
    if not rates or len(names) < len(rates) or not all(0 < rate < inf for rate in rates):
        raise InputError(f"learning_rates: found {list(rates)}, expected different ones above 0")
