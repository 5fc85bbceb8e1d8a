"""How sure a score is: block bootstrap over events, and a paired test between two methods.

Clips of one event are not independent, so events are what is resampled. A score is a function of
sums over events; a resample is one matrix product away. Sources: Efron and Tibshirani, An
Introduction to the Bootstrap (1993), chapter 13, for percentile intervals; Hamill, Weather and
Forecasting 14 (1999), 155–167, for the randomisation test.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import Accumulator, Sums, merged

VALUES_AT_A_TIME = 1 << 22
"""Resampled sums that are held at a time, so that memory stays bounded: 32 MiB."""

ROUNDING = 1e-12
"""Differences that are closer than this, relative to the scores, are taken for equal: sums that
are added in another order differ by so much."""


class Interval(NamedTuple):
    """Bounds of a confidence interval, both with the axes of the score."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


class PairedDifference(NamedTuple):
    """First method's score minus the second's, its confidence interval, and its p-value."""

    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_value: NDArray[np.float64]


def resample_weights(events: int, resamples: int = 1000, seed: int = 0) -> NDArray[np.int64]:
    """How often each event is drawn in each resample, `(resamples, events)`.

    Every row is a draw of as many events as there are, with replacement.

    Raises:
        InputError: there is no event or no resample.
    """
    if events < 1 or resamples < 1:
        raise InputError(
            f"resampling: expected at least 1 event and 1 resample, found {events} and {resamples}"
        )
    generator = np.random.default_rng(seed)
    return generator.multinomial(events, np.full(events, 1.0 / events), size=resamples)


def bootstrap_intervals(
    by_event: Sequence[Accumulator],
    weights: NDArray[np.int64],
    level: float = 0.95,
    over_lead_times: bool = True,
) -> dict[str, Interval]:
    """Percentile confidence intervals of scores, by block bootstrap over events.

    Args:
        by_event: what was accumulated in each event, of one kind.
        weights: how often each event is in each resample, `(resamples, events)`: see
            `resample_weights`.
        level: probability that an interval is to cover, above 0 and below 1.
        over_lead_times: whether scores are averaged over lead times (as `Accumulator.summary`), or
            there is an interval for every lead time.

    Returns:
        For every score that is not a count, an interval with the axes of the score, the first
        (lead time) left out if `over_lead_times`. A resample in which a score is undefined (NaN) is
        left out of its interval; where a score is undefined in all, so is its interval. With a
        single event nothing can be said, and all intervals are NaN.

    Raises:
        InputError: there are no events, they are of several kinds, or weights or level do not fit.
    """
    total = merged(by_event)
    _check(weights, len(by_event), level)

    def scores_from(sums: Sums) -> dict[str, NDArray[Any]]:
        if over_lead_times:
            return total.summary_from(sums)
        found = total.scores_from(sums)
        return {name: found[name] for name in found if name not in total.COUNTS}

    stacked = _stacked(by_event)
    parts = [scores_from(sums) for sums in _weighted(weights, stacked)]
    return {
        name: _interval(np.concatenate([part[name] for part in parts]), level, len(by_event))
        for name in parts[0]
    }


def paired_test(
    first: Sequence[Accumulator],
    second: Sequence[Accumulator],
    weights: NDArray[np.int64],
    level: float = 0.95,
    swaps: int = 10_000,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """Whether two methods differ in their scores averaged over lead times.

    The interval is that of the difference when both methods are given the same resamples. The
    p-value is of a randomisation test, two-sided: if the methods were alike, either could have made
    the forecasts of an event, so their sums are swapped event by event, and it is counted how often
    the difference is at least as large as the one found. All 2^events ways to swap are gone through
    if they are no more than `swaps`; the p-value is then the share k / n that reach it, one of them
    being what was found. Otherwise `swaps` ways are drawn, and it is (k + 1) / (n + 1).

    Args:
        first: what the one method has accumulated in each event, of one kind.
        second: the same of the other method, for the same clips of the same events in the same
            order.
        weights: how often each event is in each resample, `(resamples, events)`.
        level: probability that an interval is to cover, above 0 and below 1.
        swaps: how many ways to swap are looked at, at most.
        seed: of the draw of the ways to swap.

    Returns:
        For every score that is not a count, with the score's axes but lead time: the difference of
        summaries, NaN where either is undefined, then also in its p-value. Resamples and ways to
        swap in which either score is undefined are left out of k and n. With a single event the
        interval is NaN and the p-value 1.

    Raises:
        InputError: there are no events, they are of several kinds or not as many for both methods,
            an event has other clips in one than in the other, or weights, level or swaps do not
            fit.
    """
    if len(first) != len(second):
        raise InputError(
            f"paired test: found {len(first)} and {len(second)} events, expected the same"
        )
    total, other = merged(first), merged(second)
    merged([total, other])
    for event, (one, two) in enumerate(zip(first, second, strict=True), start=1):
        if one.clips != two.clips:
            raise InputError(
                f"paired test: found {one.clips} and {two.clips} clips in event {event}, "
                "expected the same"
            )
    _check(weights, len(first), level)
    if swaps < 1:
        raise InputError(f"paired test: found {swaps} swaps, expected at least 1")

    sums = _stacked(first), _stacked(second)
    scores = total.summary(), other.summary()
    resampled = _differences(
        total.summary_from,
        *(_weighted(weights, one) for one in sums),
    )
    swapped, exact = _swaps(len(first), swaps, seed)
    both = {name: np.concatenate([one[name] for one in sums]) for name in sums[0]}
    randomised = _differences(
        total.summary_from,
        _weighted(np.hstack([~swapped, swapped]), both),
        _weighted(np.hstack([swapped, ~swapped]), both),
    )
    found = {}
    for name, own in scores[0].items():
        others = scores[1][name]
        with np.errstate(invalid="ignore"):
            difference = np.asarray(own - others, np.float64)
            # An infinite score is equal to nothing but itself.
            rounding = ROUNDING * np.nan_to_num(np.abs(own) + np.abs(others), posinf=0.0)
            reached = np.abs(randomised[name]) >= np.abs(difference) - rounding
            defined = ~np.isnan(randomised[name])
            drawn = 0 if exact else 1
            p_value = (reached.sum(axis=0) + drawn) / (defined.sum(axis=0) + drawn)
        interval = _interval(resampled[name], level, len(first))
        p_value = np.where(np.isnan(difference), np.nan, p_value)
        found[name] = PairedDifference(difference, *interval, p_value)
    return found


def _check(weights: NDArray[np.int64], events: int, level: float) -> None:
    if weights.ndim != 2 or weights.shape[1] != events or len(weights) == 0:
        raise InputError(
            f"weights of events: found shape {weights.shape}, expected (resamples, {events})"
        )
    if not 0.0 < level < 1.0:
        raise InputError(f"confidence level: found {level}, expected above 0 and below 1")


def _stacked(by_event: Sequence[Accumulator]) -> dict[str, NDArray[np.float64]]:
    """Sums with the events in front, in double precision, which holds counts up to 2⁵³."""
    return {
        name: np.stack([np.asarray(one.sums[name], np.float64) for one in by_event])
        for name in by_event[0].sums
    }


def _weighted(
    weights: NDArray[np.integer | np.bool_], stacked: dict[str, NDArray[np.float64]]
) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Weighted sums over events, some rows of weights at a time."""
    values = sum(sums[0].size for sums in stacked.values())
    rows = max(1, VALUES_AT_A_TIME // values)
    for start in range(0, len(weights), rows):
        part = weights[start : start + rows].astype(np.float64)
        yield {name: np.tensordot(part, sums, axes=1) for name, sums in stacked.items()}


def _differences(
    summary_from: Callable[[Sums], dict[str, NDArray[Any]]],
    first: Iterator[Sums],
    second: Iterator[Sums],
) -> dict[str, NDArray[np.float64]]:
    """Differences of summaries, the resamples in front."""
    parts = []
    for one, two in zip(first, second, strict=True):
        minuend, subtrahend = summary_from(one), summary_from(two)
        with np.errstate(invalid="ignore"):
            parts.append({name: minuend[name] - subtrahend[name] for name in minuend})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _swaps(events: int, swaps: int, seed: int) -> tuple[NDArray[np.bool_], bool]:
    """Which events are swapped, `(ways, events)`, and whether these are all the ways there are."""
    if events < swaps.bit_length():
        ways = np.arange(1 << events)[:, None] >> np.arange(events)
        return (ways & 1).astype(np.bool_), True
    generator = np.random.default_rng(seed)
    return generator.integers(0, 2, size=(swaps, events), dtype=np.int8).astype(np.bool_), False


def _interval(values: NDArray[np.float64], level: float, events: int) -> Interval:
    if events < 2:
        undefined = np.full(values.shape[1:], np.nan)
        return Interval(undefined, undefined.copy())
    outside = (1.0 - level) / 2.0
    ordered = np.sort(values, axis=0)
    return Interval(_quantile(ordered, outside), _quantile(ordered, 1.0 - outside))


def _quantile(ordered: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Quantile of what is defined, linear between neighbours; NaN stands at the end of the order.

    `numpy.nanquantile` gives the same, one score at a time.
    """
    defined = (~np.isnan(ordered)).sum(axis=0)
    place = share * np.maximum(defined - 1, 0)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(defined - 1, 0))
    low, high = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (below, above))
    with np.errstate(invalid="ignore"):
        between = low + (place - below) * (high - low)
    # The difference of two infinite scores is undefined, what lies between them is not.
    return np.asarray(np.where(low == high, low, between))
