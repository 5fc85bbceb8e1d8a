"""Reports: the scores of several methods gathered, with intervals and paired tests.

What a report holds is `report_contents`, files of it are `report_files`, tables `score_tables`;
plots are drawn elsewhere.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import Accumulator, merged
from nowcast.verification.provenance import commit, versions
from nowcast.verification.report_contents import (
    BALANCED_SUM,
    FORMAT,
    MEMBER_AXES,
    Bounds,
    Difference,
    MethodScores,
    Report,
    Resampling,
    ScoreDifference,
    plain_settings,
)
from nowcast.verification.reported_scores import axes_of, by_kind, common_events
from nowcast.verification.resampling import (
    Interval,
    bootstrap_intervals,
    paired_test,
    resample_weights,
)
from nowcast.verification.results import MethodResult

REFERENCES = ("optical flow", "persistence")
"""Methods that others are tested against where there are many: the first of these that is there."""

MOST_IN_EVERY_PAIR = 4
"""Up to so many methods, every pair is tested."""

PLOTTED = frozenset(
    (BALANCED_SUM, "balanced_mse", "balanced_mae", "csi", "rmse_mm_h", "mae_mm_h", "crps_mm_h")
)
"""Scores that have an interval at every lead time."""

LONG_AXES = frozenset(("wavelength_pixels", *MEMBER_AXES))
"""Axes of so many values that scores along them are neither tested nor kept for each event."""


def make_report(
    results: Mapping[str, MethodResult],
    settings: Mapping[str, Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Report:
    """Gather what an evaluation has found.

    Intervals and tests resample events, because clips of one event are not independent; with a
    single event there are none. With up to four methods every pair is tested, with more each
    against the first of `REFERENCES` that is there, or else the first method.

    Args:
        results: what was found of each method, on the same clips.
        settings: `step_minutes` (minutes between frames) and whatever else names the evaluation:
            protocol, split, region, store and its fingerprint, checkpoints. Of a path only the name
            is kept.
        resamples: number of resamples of the events; 0 goes without intervals and tests.
        seed: of the resampling, in which the same events are drawn for every method, and of the
            tests' ways to swap two methods where there are too many to go through; 0 or more.
        level: of the intervals, as 0.95.

    Raises:
        InputError: no methods, `step_minutes` is missing or not positive, resamples, seed or level
            make no sense, or methods were scored on other clips or with other lead times,
            thresholds or windows.
    """
    step_minutes = settings.get("step_minutes")
    if not isinstance(step_minutes, int | float) or not step_minutes > 0:
        raise InputError(f"report settings: found step_minutes {step_minutes}, expected minutes")
    if resamples < 0 or seed < 0 or not 0 < level < 1:
        raise InputError(
            f"report: found {resamples} resamples, seed {seed} and level {level}, expected 0 or "
            "more, 0 or more and a level between 0 and 1"
        )
    events = common_events(results)
    scored = {name: by_kind(result, events) for name, result in results.items()}
    weights = None
    if resamples and len(events) > 1:
        weights = resample_weights(len(events), resamples, seed)
    totals = {
        name: {kind: merged(by_event.values()) for kind, by_event in kinds.items()}
        for name, kinds in scored.items()
    }
    dimensions, coordinates = axes_of(totals)
    benchmark = next(iter(totals.values()))["benchmark"]
    report: Report = {
        "format": FORMAT,
        "settings": plain_settings(settings),
        "commit": commit(),
        "versions": versions(),
        "lead_minutes": [step_minutes * (index + 1) for index in range(benchmark.lead_times)],
        "thresholds_mm_h": coordinates["threshold_mm_h"],
        "dimensions": dimensions,
        "coordinates": coordinates,
        "resampling": _resampling(len(events), resamples, seed, level),
        "methods": {
            name: _method_scores(results[name], scored[name], totals[name], weights, level)
            for name in results
        },
        "differences": [],
    }
    if weights is not None:
        report["differences"] = [
            _difference(name, reference, scored, weights, level, seed)
            for reference, name in _pairs(list(results))
        ]
    return report


def _resampling(events: int, resamples: int, seed: int, level: float) -> Resampling:
    why_none = None
    if events < 2:
        why_none = "found one event, at least two are needed"
    elif not resamples:
        why_none = "no resamples were asked for"
    return {
        "events": events,
        "resamples": resamples,
        "seed": seed,
        "level": level,
        "why_none": why_none,
    }


def _method_scores(
    result: MethodResult,
    kinds: Mapping[str, Mapping[str, Accumulator]],
    totals: Mapping[str, Accumulator],
    weights: NDArray[Any] | None,
    level: float,
) -> MethodScores:
    scores: MethodScores = {
        "clips": result.clips,
        "members": result.members,
        "replaced": dict(result.replaced),
        "coordinates": {},
        "per_lead": {},
        "mean": {},
        "interval": {},
        "per_lead_interval": {},
        "by_event": {},
    }
    for kind, total in totals.items():
        for axis in MEMBER_AXES & total.coordinates.keys():
            scores["coordinates"][axis] = list(total.coordinates[axis])
        scores["per_lead"] |= _numbers(total.compute())
        scores["mean"] |= _numbers(total.summary())
        if weights is None:
            continue
        events = list(kinds[kind].values())
        scores["interval"] |= _bounds(bootstrap_intervals(events, weights, level))
        if PLOTTED & total.DIMENSIONS.keys():
            per_lead = bootstrap_intervals(events, weights, level, over_lead_times=False)
            scores["per_lead_interval"] |= _bounds(
                {name: values for name, values in per_lead.items() if name in PLOTTED}
            )
    for event in result.events:
        summaries = [of_event[event].summary() for of_event in kinds.values()]
        scores["by_event"][event] = {
            "clips": next(iter(kinds.values()))[event].clips,
            "mean": {
                name: values
                for summary, total in zip(summaries, totals.values(), strict=True)
                for name, values in _numbers(summary).items()
                if _is_short(total, name)
            },
        }
    return scores


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Reference and method of every paired test."""
    if len(names) <= MOST_IN_EVERY_PAIR:
        return list(itertools.combinations(names, 2))
    reference = next((name for name in REFERENCES if name in names), names[0])
    return [(reference, name) for name in names if name != reference]


def _difference(
    method: str,
    reference: str,
    scored: Mapping[str, Mapping[str, Mapping[str, Accumulator]]],
    weights: NDArray[Any],
    level: float,
    seed: int,
) -> Difference:
    """What a paired test finds of all scores that both methods have, along the same axes."""
    found: Difference = {"method": method, "reference": reference, "scores": {}}
    for kind in scored[method]:
        first, second = (
            list(one.get(kind, {}).values()) for one in (scored[method], scored[reference])
        )
        alike = bool(second) and first[0].coordinates == second[0].coordinates
        names = [name for name in first[0].DIMENSIONS if _is_short(first[0], name)]
        if not alike or not names:
            continue
        tested = paired_test(first, second, weights, level, seed=seed)
        for name in names:
            if name in tested:
                found["scores"][name] = cast(ScoreDifference, _numbers(tested[name]._asdict()))
    return found


def _is_short(scores: Accumulator, name: str) -> bool:
    return LONG_AXES.isdisjoint(scores.DIMENSIONS[name])


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, Bounds]:
    return {name: cast(Bounds, _numbers(one._asdict())) for name, one in intervals.items()}


def _numbers(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Numbers and lists in place of arrays, NaN in place of what is infinite."""
    return {
        name: np.where(np.isfinite(of), of, np.nan).tolist()
        if np.issubdtype(of.dtype, np.floating)
        else of.tolist()
        for name, of in values.items()
    }
