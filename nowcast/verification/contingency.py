"""Contingency tables of events, and the skill scores that follow from them.

An event is a value at or above a threshold. What is counted, and over which pixels, is decided
elsewhere.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

COUNT_NAMES = ("hits", "misses", "false_alarms", "correct_negatives")
SKILL_NAMES = ("pod", "far", "csi", "hss", "gss", "frequency_bias")


def contingency_tables(
    hits: ArrayLike, forecast_events: ArrayLike, observed_events: ArrayLike, pixels: ArrayLike
) -> dict[str, NDArray[Any]]:
    """The four counts of contingency tables, by name.

    Args:
        hits: pixels with an event both forecast and observed, any shape.
        forecast_events: pixels with an event forecast; same shape.
        observed_events: pixels with an event observed; same shape.
        pixels: all that count; broadcasts against the others.
    """
    both, forecast, observed = map(np.asarray, (hits, forecast_events, observed_events))
    return {
        "hits": both,
        "misses": observed - both,
        "false_alarms": forecast - both,
        "correct_negatives": pixels - forecast - observed + both,
    }


def skill_scores(
    hits: ArrayLike, misses: ArrayLike, false_alarms: ArrayLike, correct_negatives: ArrayLike
) -> dict[str, NDArray[np.float64]]:
    """Skill scores of contingency tables, NaN where one is undefined (a division by 0).

    With a hits, b false alarms, c misses and d correct negatives: POD = a / (a + c),
    FAR = b / (a + b), CSI = a / (a + b + c),
    HSS = 2 (a d − b c) / ((a + c)(c + d) + (a + b)(b + d)),
    GSS = (a d − b c) / ((b + c)(a + b + c + d) + a d − b c), the Gilbert skill score (also called
    equitable threat score), and frequency bias = (a + b) / (a + c), above 1 where events are
    forecast more often than observed.

    Args:
        hits: observed and forecast, any shape.
        misses: observed, not forecast; same shape.
        false_alarms: forecast, not observed; same shape.
        correct_negatives: neither; same shape.
    """
    a, c, b, d = (
        np.asarray(table, np.float64) for table in (hits, misses, false_alarms, correct_negatives)
    )
    more_than_chance = a * d - b * c
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "pod": a / (a + c),
            "far": b / (a + b),
            "csi": a / (a + b + c),
            "hss": 2.0 * more_than_chance / ((a + c) * (c + d) + (a + b) * (b + d)),
            "gss": more_than_chance / ((b + c) * (a + b + c + d) + more_than_chance),
            "frequency_bias": np.where(a + c > 0, (a + b) / (a + c), np.nan),
        }
