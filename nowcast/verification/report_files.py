"""Files of reports: JSON, which is read back, and CSV. What is in them is `report_contents`."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.verification.report_checks import check_report
from nowcast.verification.report_contents import Bounds, Report, coordinates_of

SCORE_AXES = ("threshold_mm_h", "window_pixels", "wavelength_pixels", "rank", "probability")
"""Axes that have a column in CSV files."""


def write_json(path: str | os.PathLike[str], report: Report) -> None:
    """Write a report as JSON, a list of numbers to a line."""
    text = "".join(_lines(_swapped(report, _nan_to_none), ""))
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _lines(value: Any, indent: str) -> Iterator[str]:
    """JSON text with a line for every entry of a mapping and every list without mappings."""
    deeper = indent + " "
    if isinstance(value, Mapping) and value:
        yield "{"
        for number, (key, one) in enumerate(value.items()):
            yield f"{',' if number else ''}\n{deeper}{_json(str(key))}: "
            yield from _lines(one, deeper)
        yield f"\n{indent}}}"
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        yield "["
        for number, one in enumerate(value):
            yield f"{',' if number else ''}\n{deeper}"
            yield from _lines(one, deeper)
        yield f"\n{indent}]"
    else:
        yield _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_json(path: str | os.PathLike[str]) -> Report:
    """Read a report that `write_json` wrote.

    Raises:
        InputError: the file is missing, of another format or damaged.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"found {constant}, expected null where a score is undefined")

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)
        if isinstance(found, dict):
            # Only scores go through NaN; a setting that is null stays None.
            for name in {"methods", "differences"} & found.keys():
                found[name] = _swapped(found[name], _none_to_nan)
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: cannot be read as a score report: {problem}") from None
    except RecursionError:
        raise InputError(f"{path}: cannot be read as a score report: too deeply nested") from None
    check_report(str(path), found)
    return cast(Report, found)


def write_csv(path: str | os.PathLike[str], report: Report) -> None:
    """Write all scores in long form, a row for each number.

    Columns: `method`; `event`, empty for all events together; `lead_minutes`, empty for the mean
    over lead times; `score`; `threshold_mm_h`, `window_pixels`, `wavelength_pixels`, `rank`,
    `probability`, each empty for scores without such an axis; `value`, empty where undefined; `low`
    and `high` of its interval, empty where there is none.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(
            ("method", "event", "lead_minutes", "score", *SCORE_AXES, "value", "low", "high")
        )
        for method, scores in report["methods"].items():
            for score in scores["per_lead"]:
                parts: list[tuple[str, Mapping[str, Any], Mapping[str, Bounds]]] = [
                    ("", scores["per_lead"], scores["per_lead_interval"]),
                    ("", scores["mean"], scores["interval"]),
                    *((event, one["mean"], {}) for event, one in scores["by_event"].items()),
                ]
                for event, values, bounds in parts:
                    if score not in values:
                        continue
                    axes = coordinates_of(report, method, score)
                    if values is not scores["per_lead"]:
                        del axes["lead_time"]
                    found = bounds.get(score)
                    low, high = (found["low"], found["high"]) if found else (None, None)
                    for place, *numbers in _flattened(axes, values[score], low, high):
                        writer.writerow(
                            (
                                *(method, event, place.get("lead_time", ""), score),
                                *(place.get(axis, "") for axis in SCORE_AXES),
                                *(_nan_to_empty(number) for number in numbers),
                            )
                        )


def _flattened(axes: Mapping[str, Sequence[float]], *nested: Any) -> Iterator[tuple[Any, ...]]:
    """Coordinates by axis and the numbers of each nest there; None is nowhere a number."""
    if not axes:
        yield ({}, *nested)
        return
    (axis, places), *others = axes.items()
    for index, place in enumerate(places):
        parts = (None if one is None else one[index] for one in nested)
        for coordinates, *numbers in _flattened(dict(others), *parts):
            yield ({axis: place, **coordinates}, *numbers)


def _swapped(value: Any, swap: Callable[[Any], Any]) -> Any:
    """The same nest of mappings and lists with `swap` applied to every leaf."""
    if isinstance(value, Mapping):
        return {key: _swapped(one, swap) for key, one in value.items()}
    if isinstance(value, list):
        return [_swapped(one, swap) for one in value]
    return swap(value)


def _nan_to_none(value: Any) -> Any:
    return None if value != value else value


def _none_to_nan(value: Any) -> Any:
    return math.nan if value is None else value


def _nan_to_empty(value: Any) -> Any:
    return "" if value is None or value != value else value
