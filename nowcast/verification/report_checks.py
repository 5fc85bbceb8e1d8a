"""Checks of a report that was read from a file, which anybody may have written or damaged."""

from collections.abc import Sequence
from typing import Any, NoReturn

from nowcast.errors import InputError
from nowcast.verification.report_contents import (
    FORMAT,
    FURTHER_AXES,
    MEMBER_AXES,
    SHOWN_AXES,
    MethodScores,
    Report,
    on_one_line,
)


def check_report(path: str, found: Any) -> None:
    """Refuse what is not of the kind that `make_report` gives.

    Args:
        path: the file, for messages.
        found: what stands in it, with NaN for null among the scores.

    Raises:
        InputError: names the file, the place in it, what was found there and what was expected.
    """
    check = _Check(path)
    check.mapping("", found, ())
    if "methods" in found and found.get("format") != FORMAT:
        raise InputError(
            f"{path}: found a score report of format {_named(found.get('format', 1))}, expected "
            f"{FORMAT}: evaluate again"
        )
    check.mapping("", found, sorted(Report.__required_keys__))
    _check_head(check, found)
    if not found["methods"]:
        raise InputError(f"{path}: found no methods, expected at least one")
    for name, scores in found["methods"].items():
        _check_method(check, name, scores, found)
    _check_differences(check, found)


def _check_head(check: "_Check", found: Any) -> None:
    """Refuse what is wrong in all but the scores."""
    check.mapping("settings", found["settings"], ())
    check.mapping("versions", found["versions"], ())
    if found["commit"] is not None:
        check.text("commit", found["commit"])
    for name in ("lead_minutes", "thresholds_mm_h"):
        check.numbers(name, found[name], (None,))
    check.mapping("coordinates", found["coordinates"], ())
    for axis, values in found["coordinates"].items():
        check.numbers(f"coordinates: {axis}", values, (None,))
    if found["coordinates"].get("threshold_mm_h") != found["thresholds_mm_h"]:
        check.refuse("coordinates: threshold_mm_h", found["coordinates"], "thresholds_mm_h")
    check.mapping("dimensions", found["dimensions"], sorted(SHOWN_AXES))
    shown = SHOWN_AXES | FURTHER_AXES
    for score, axes in found["dimensions"].items():
        known = {*found["coordinates"], *MEMBER_AXES}
        fits = isinstance(axes, list) and axes[:1] == ["lead_time"]
        if not fits or not all(isinstance(axis, str) and axis in known for axis in axes[1:]):
            check.refuse(f"dimensions: {score}", axes, "lead_time and axes with coordinates")
        if score in shown and tuple(axes) != shown[score]:
            check.refuse(f"dimensions: {score}", axes, ", ".join(shown[score]))
    resampling = found["resampling"]
    check.mapping("resampling", resampling, ("events", "level", "resamples", "seed", "why_none"))
    for name in ("events", "resamples", "seed"):
        check.whole(f"resampling: {name}", resampling[name])
    check.numbers("resampling: level", resampling["level"], ())
    if resampling["why_none"] is not None:
        check.text("resampling: why_none", resampling["why_none"])
    check.mapping("methods", found["methods"], ())


def _check_method(check: "_Check", name: str, scores: Any, found: Any) -> None:
    """Refuse scores of a method that are not of the kind that `make_report` gives."""
    check.mapping(name, scores, sorted(MethodScores.__required_keys__))
    for count in ("clips", "members"):
        check.whole(f"{name}: {count}", scores[count])
    check.mapping(f"{name}: replaced", scores["replaced"], ())
    for reason, clips in scores["replaced"].items():
        check.whole(f"{name}: replaced: {reason}", clips)
    check.mapping(f"{name}: coordinates", scores["coordinates"], ())
    for axis, values in scores["coordinates"].items():
        check.numbers(f"{name}: coordinates: {axis}", values, (None,))
    axes = _Axes(found, scores)
    for part, first in (("per_lead", 0), ("mean", 1)):
        check.mapping(f"{name}: {part}", scores[part], sorted(SHOWN_AXES))
        for score, values in scores[part].items():
            where = f"{name}: {part}: {score}"
            check.numbers(where, values, axes.shape(check, where, score)[first:])
    for part, first in (("per_lead_interval", 0), ("interval", 1)):
        check.mapping(f"{name}: {part}", scores[part], ())
        for score, bounds in scores[part].items():
            where = f"{name}: {part}: {score}"
            check.mapping(where, bounds, ("high", "low"))
            for bound in ("high", "low"):
                shape = axes.shape(check, where, score)[first:]
                check.numbers(f"{where}: {bound}", bounds[bound], shape)
    check.mapping(f"{name}: by_event", scores["by_event"], ())
    for event, of_event in scores["by_event"].items():
        where = f"{name}: by_event: {event}"
        check.mapping(where, of_event, ("clips", "mean"))
        check.whole(f"{where}: clips", of_event["clips"])
        check.mapping(f"{where}: mean", of_event["mean"], ())
        for score, values in of_event["mean"].items():
            shape = axes.shape(check, where, score)[1:]
            check.numbers(f"{where}: mean: {score}", values, shape)


def _check_differences(check: "_Check", found: Any) -> None:
    if not isinstance(found["differences"], list):
        check.refuse("differences", found["differences"], "a list")
    for one in found["differences"]:
        check.mapping("differences", one, ("method", "reference", "scores"))
        for role in ("method", "reference"):
            if not isinstance(one[role], str) or one[role] not in found["methods"]:
                check.refuse(f"differences: {role}", one[role], "the name of a method")
        axes = _Axes(found, found["methods"][one["method"]])
        check.mapping("differences: scores", one["scores"], ())
        for score, values in one["scores"].items():
            where = f"differences: {score}"
            parts = ("difference", "high", "low", "p_value")
            check.mapping(where, values, parts)
            for part in parts:
                check.numbers(f"{where}: {part}", values[part], axes.shape(check, where, score)[1:])


class _Axes:
    """Lengths of the axes of one method's scores."""

    def __init__(self, report: Any, method: Any) -> None:
        self.dimensions = report["dimensions"]
        every = {"lead_time": report["lead_minutes"]} | report["coordinates"]
        self.lengths = {a: len(values) for a, values in (every | method["coordinates"]).items()}

    def shape(self, check: "_Check", where: str, score: str) -> tuple[int, ...]:
        axes = self.dimensions.get(score)
        if axes is None or not self.lengths.keys() >= set(axes):
            check.refuse(where, axes, "a score whose axes have coordinates")
        return tuple(self.lengths[axis] for axis in axes)


class _Check:
    """Refuses, naming the file, what is not of the expected type."""

    def __init__(self, path: str) -> None:
        self.path = path

    def refuse(self, where: str, found: Any, expected: str) -> NoReturn:
        place = f"{on_one_line(where, 80)}: " if where else ""
        raise InputError(f"{self.path}: {place}found {_named(found)}, expected {expected}")

    def mapping(self, where: str, found: Any, keys: Sequence[str]) -> None:
        if not isinstance(found, dict):
            self.refuse(where, found, "a mapping" if where else "a score report")
        if missing := [key for key in keys if key not in found]:
            self.refuse(where, found, f"{', '.join(missing)} in it")

    def whole(self, where: str, found: Any) -> None:
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**63:
            self.refuse(where, found, "a whole number")

    def text(self, where: str, found: Any) -> None:
        if not isinstance(found, str):
            self.refuse(where, found, "text")

    def numbers(self, where: str, found: Any, shape: tuple[int | None, ...]) -> None:
        if not _is_nested(found, *shape):
            text = " × ".join("any" if one is None else str(one) for one in shape) or "one"
            self.refuse(where, found, f"{text} numbers" if shape else "a number")


def _named(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    return f"{value!r:.40}"


def _is_nested(values: Any, *shape: int | None) -> bool:
    """Whether these are numbers in lists within lists of these lengths; None is any but 0."""
    if not shape:
        number = isinstance(values, int | float) and not isinstance(values, bool)
        return number and not abs(values) > 1e300
    fits = isinstance(values, list) and len(values) > 0 and shape[0] in (None, len(values))
    return fits and all(_is_nested(one, *shape[1:]) for one in values)
