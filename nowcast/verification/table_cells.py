"""Entries of tables of scores: how a score is taken from a report, written and judged.

Which scores stand in which table is `score_tables`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

from nowcast.verification.report_contents import Bounds, Report, ScoreDifference

SMALLEST_P_VALUE = 0.001
"""Smaller ones are shown as below it."""


class Cell(TypedDict):
    """An entry: its `text`, its `interval` and `p_value` ("" without), and whether it is `best`."""

    text: str
    interval: str
    p_value: str
    best: bool


class Row(TypedDict):
    """A line of a table."""

    name: str
    cells: list[Cell]


class ScoreTable(TypedDict):
    """A table: its title, the headings of its columns, its rows, and notes to it."""

    title: str
    columns: list[str]
    rows: list[Row]
    notes: list[str]


class Column(NamedTuple):
    """A score of a table: how it is taken from a method's scores, shown and judged.

    `places` are those along the axes that are left when lead times are averaged over; `distance` is
    smallest for the best.
    """

    heading: str
    score: str
    places: tuple[int, ...]
    digits: int
    distance: Callable[[float], float]


def lowest(value: float) -> float:
    """Distance from the best of a score that is best when small."""
    return value


def highest(value: float) -> float:
    """Distance from the best of a score that is best when large."""
    return -value


def nearest_0(value: float) -> float:
    """Distance from the best of a score that is best at 0."""
    return abs(value)


def nearest_1(value: float) -> float:
    """Distance from the best of a ratio that is best at 1."""
    return abs(math.log(value)) if value > 0 else math.inf


def by_threshold(
    report: Report,
    label: str,
    score: str,
    distance: Callable[[float], float],
    digits: int = 3,
    further: tuple[int, ...] = (),
) -> list[Column]:
    """A column for each threshold; `further` are places along the axes after it."""
    return [
        Column(
            f"{'' if index else label + ' '}≥{rate:g}", score, (index, *further), digits, distance
        )
        for index, rate in enumerate(report["thresholds_mm_h"])
    ]


def cells_of(
    values: Sequence[float],
    column: Column,
    intervals: Sequence[str] | None = None,
    lead_times: Sequence[int] | None = None,
) -> list[Cell]:
    """Entries of the same score, the best marked; what prints alike is marked alike.

    Args:
        values: means over lead times.
        column: the score.
        intervals: of the values, as text.
        lead_times: of how many lead times each is the mean; one of fewer than others is no rival.
    """
    texts = [number_text(value, column.digits) for value in values]
    rivals = (
        [count == max(lead_times) for count in lead_times] if lead_times else [True] * len(texts)
    )
    defined = [
        (column.distance(value), text)
        for value, text, is_rival in zip(values, texts, rivals, strict=True)
        if value == value and is_rival
    ]
    best = min(defined)[1] if len({text for _, text in defined}) > 1 else None
    return [
        {"text": text, "interval": interval, "p_value": "", "best": text == best}
        for text, interval in zip(texts, intervals or [""] * len(texts), strict=True)
    ]


def difference_cell(found: ScoreDifference | None, column: Column) -> Cell:
    """Entry of what a paired test has found; a dash where nothing was tested."""
    if found is None:
        return {"text": number_text(math.nan, 0), "interval": "", "p_value": "", "best": False}
    value, p_value = (number_at(found[part], column.places) for part in ("difference", "p_value"))
    p_text = f"<{SMALLEST_P_VALUE:g}" if p_value < SMALLEST_P_VALUE else number_text(p_value, 3)
    return {
        "text": ("+" if value > 0 else "") + number_text(value, column.digits),
        "interval": interval_text(found, column),
        "p_value": f"p {p_text}" if p_value == p_value else "",
        "best": False,
    }


def number_text(value: float, digits: int) -> str:
    """A number with so many digits; a dash where it is undefined."""
    return f"{value:z,.{digits}f}" if value == value else "–"


def interval_text(found: Bounds | ScoreDifference | None, column: Column) -> str:
    """An interval of a score, in full numbers from 1,000 on; "" where there is none."""
    if found is None:
        return ""
    low, high = number_at(found["low"], column.places), number_at(found["high"], column.places)
    if low != low or high != high:
        return ""
    digits = 0 if low >= 1000 else column.digits
    joint = " to " if low < 0 else "–"
    return f"{number_text(low, digits)}{joint}{number_text(high, digits)}"


def number_at(values: Any, places: Sequence[int]) -> float:
    """A number out of nested lists; NaN where there are none."""
    for place in places:
        if values is None:
            break
        values = values[place]
    return math.nan if values is None else float(values)
