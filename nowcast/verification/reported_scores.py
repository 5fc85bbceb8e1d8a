"""What of the results of several methods a report is made of: the same clips, the same axes.

What is made of them is `report`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import LEAD_TIME, Accumulator, Sums
from nowcast.verification.report_contents import BALANCED_SUM, MEMBER_AXES
from nowcast.verification.results import MethodResult
from nowcast.verification.scores import Scores


class BenchmarkScores(Scores):
    """The benchmark's scores with B-MSE + B-MAE among them: its interval is that of the sum."""

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **Scores.DIMENSIONS,
        BALANCED_SUM: (LEAD_TIME,),
    }

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores of `Scores` and their sum `balanced_mse_mae` (time,)."""
        found = super().scores_from(sums)
        return found | {BALANCED_SUM: found["balanced_mse"] + found["balanced_mae"]}


def common_events(results: Mapping[str, MethodResult]) -> list[str]:
    """Events of all methods, in order.

    Raises:
        InputError: no methods or events, or methods were scored on different clips.
    """
    if not results:
        raise InputError("report: found no methods, expected at least one")
    clips = {
        name: {
            event: {kind: scores.clips for kind, scores in kinds.items()}
            for event, kinds in result.events.items()
        }
        for name, result in results.items()
    }
    first_name, first = next(iter(clips.items()))
    if not first:
        raise InputError("report: found no events, expected at least one")
    for name, found in clips.items():
        for event in first.keys() | found.keys():
            numbers = {
                number for one in (first, found) for number in one.get(event, {"": 0}).values()
            }
            if len(numbers) != 1:
                raise InputError(
                    f"report: found other clips of {event} for {name} than for {first_name}, "
                    "expected the same"
                )
    return list(first)


def by_kind(result: MethodResult, events: Sequence[str]) -> dict[str, dict[str, Accumulator]]:
    """Accumulators of a method by kind and event, those of the benchmark with its sum of errors."""
    return {
        kind: {event: _with_balanced_sum(result.events[event][kind]) for event in events}
        for kind in result.kinds
    }


def _with_balanced_sum(scores: Accumulator) -> Accumulator:
    if not isinstance(scores, Scores):
        return scores
    twin = BenchmarkScores(scores.lead_times, scores.thresholds_mm_h)
    twin.sums = dict(scores.sums)
    return twin


def axes_of(
    totals: Mapping[str, Mapping[str, Accumulator]],
) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """Axes of all scores, and the values along those that all methods share.

    Args:
        totals: accumulators by method and kind.

    Raises:
        InputError: methods or kinds differ in lead times or along an axis that they share.
    """
    dimensions: dict[str, list[str]] = {}
    coordinates: dict[str, list[float]] = {}
    kind_of: dict[str, str] = {}
    lead_times = {one.lead_times for kinds in totals.values() for one in kinds.values()}
    if len(lead_times) > 1:
        raise InputError(f"report: found different lead times: {sorted(lead_times)}")
    for kinds in totals.values():
        for kind, scores in kinds.items():
            for score, axes in scores.DIMENSIONS.items():
                if kind_of.setdefault(score, kind) != kind:
                    raise ValueError(f"score {score} of both {kind_of[score]} and {kind}")
                dimensions[score] = list(axes)
            for axis, values in scores.coordinates.items():
                shared = axis not in MEMBER_AXES
                if shared and coordinates.setdefault(axis, list(values)) != list(values):
                    raise InputError(
                        f"report: found different values of {axis}: {values}, {coordinates[axis]}"
                    )
    return dimensions, coordinates
