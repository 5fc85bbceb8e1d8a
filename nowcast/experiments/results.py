"""What an experiment found: scores over seeds, paired differences; as text, CSV and JSON."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from nowcast.experiments.tables import PAPER
from nowcast.files import replacing, write_json

LEVEL = 0.95

PAPER_COLUMNS = ("B-MAE", "B-MSE")
"""Columns that the paper has."""

NO_NUMBER = "–"
"""A CSI without any event, or a score of a network that diverged."""

PER_PIXEL = "/pixel"
"""End of the names of columns that are means over pixels."""

Scores = Mapping[str, float]
"""Scores by column."""


@dataclass(frozen=True)
class Cell:
    """A score, or a difference of scores.

    Args:
        values: by seed.
        mean: over seeds.
        deviation: standard deviation of one seed's value; None for one seed.
        low, high: bounds of the 95 % interval of the mean, by Student's t with a degree of freedom
            less than there are seeds; None for one seed.
    """

    values: Mapping[int, float]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Mapping[int, float]) -> "Cell":
        """Of one or more seeds; NaN where a value is not finite."""
        n = len(values)
        if not all(map(math.isfinite, values.values())):
            one = math.nan if n > 1 else None
            return cls(values, math.nan, one, one, one)
        mean = fmean(values.values())
        if n == 1:
            return cls(values, mean, None, None, None)
        deviation = stdev(values.values())
        reach = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)
        return cls(values, mean, deviation, mean - reach, mean + reach)


@dataclass(frozen=True)
class Results:
    """What was found.

    Args:
        title: of the table.
        split: whose clips were scored; the paper's scores are of test clips.
        columns: of scores.
        rows: cells by row and column.
        differences: cells by pair of rows and column: the first row's values minus the second's of
            the same seed.
        opponents: scores of methods without training, by name.
        chosen: what was chosen for a row by its scores on validation clips.
        diverged: rows, and the seeds with which their network forecasts no finite numbers.
        curves: learning curves by row and seed: steps and values by metric.
        notes: what has to be known to read it.
        settings: all that decides it.
    """

    title: str
    split: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    differences: Mapping[tuple[str, str], Mapping[str, Cell]]
    opponents: Mapping[str, Scores]
    chosen: Mapping[str, str]
    diverged: Mapping[str, Sequence[int]]
    curves: Mapping[str, Mapping[int, Mapping[str, Any]]]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]


def cells(of_seeds: Mapping[int, Scores], columns: Sequence[str]) -> dict[str, Cell]:
    """Cells by column, of the scores of each seed."""
    return {
        column: Cell.of({seed: scores[column] for seed, scores in of_seeds.items()})
        for column in columns
    }


def paired(
    first: Mapping[int, Scores], second: Mapping[int, Scores], columns: Sequence[str]
) -> dict[str, Cell]:
    """Cells of the first's scores minus the second's, seed by seed."""
    differences = {
        seed: {column: scores[column] - second[seed][column] for column in columns}
        for seed, scores in first.items()
    }
    return cells(differences, columns)


def format_results(results: Results) -> str:
    """The tables as aligned text: what was measured, and what the paper has of it below.

    Errors, and of the CSI that at the two lowest thresholds; of differences no means over pixels.
    """
    skill = [column for column in results.columns if column.startswith("CSI")]
    columns = [column for column in results.columns if column not in skill[2:]]
    measured = [["measured", *columns]]
    measured += [
        [_row_name(row, results), *(_score_text(column, of[column]) for column in columns)]
        for row, of in results.rows.items()
    ]
    measured += [
        [name, *(_number(column, scores[column]) for column in columns)]
        for name, scores in results.opponents.items()
    ]
    paper = PAPER if results.split == "test" else {}
    published = [row for row in results.rows if row in paper]
    if published:
        measured.append(["paper (HKO-7)", *[""] * len(columns)])
        measured += [[row, *(_paper_text(row, column) for column in columns)] for row in published]
    parts = [results.title, "", *_aligned(measured)]
    if results.differences:
        columns = [column for column in columns if not column.endswith(PER_PIXEL)]
        compared = [["difference", *columns]]
        compared += [
            [f"{a} − {b}", *(_difference_text(column, of[column]) for column in columns)]
            for (a, b), of in results.differences.items()
        ]
        pairs = [pair for pair in results.differences if set(pair) <= paper.keys()]
        if pairs:
            compared.append(["paper (HKO-7)", *[""] * len(columns)])
            compared += [
                [f"{a} − {b}", *(_paper_difference(a, b, column) for column in columns)]
                for a, b in pairs
            ]
        parts += ["", *_aligned(compared)]
    return "\n".join([*parts, "", *results.notes])


def _row_name(row: str, results: Results) -> str:
    name = f"{row} ({results.chosen[row]})" if row in results.chosen else row
    if row not in results.diverged:
        return name
    return f"{name}, diverged with seed {', '.join(map(str, results.diverged[row]))}"


def _number(column: str, value: float, sign: str = "") -> str:
    """With as many digits as a score of this size needs."""
    if not math.isfinite(value):
        return NO_NUMBER
    if column in PAPER_COLUMNS:
        text = f"{value:{sign},.2f}"
    else:
        text = f"{value:{sign}.4f}" if column.startswith("CSI") else f"{value:{sign}.3g}"
    return text.replace("-", "−")


def _score_text(column: str, cell: Cell) -> str:
    text = _number(column, cell.mean)
    if cell.deviation is None or not math.isfinite(cell.mean):
        return text
    return f"{text} ± {_number(column, cell.deviation)}"


def _difference_text(column: str, cell: Cell) -> str:
    text = _number(column, cell.mean, "+")
    if cell.low is None or cell.high is None or not math.isfinite(cell.mean):
        return text
    return f"{text} ({_number(column, cell.low, '+')} to {_number(column, cell.high, '+')})"


def _paper_text(row: str, column: str) -> str:
    if column not in PAPER_COLUMNS:
        return ""
    return _number(column, PAPER[row][PAPER_COLUMNS.index(column)])


def _paper_difference(first: str, second: str, column: str) -> str:
    if column not in PAPER_COLUMNS:
        return ""
    place = PAPER_COLUMNS.index(column)
    return _number(column, PAPER[first][place] - PAPER[second][place], "+")


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def write_results(out: Path, name: str, results: Results) -> None:
    """Write NAME.json, NAME.csv and NAME.txt into a folder; each is complete or untouched."""
    write_json(out / f"{name}.json", plain(results), indent=1)
    with (
        replacing(out / f"{name}.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["row", "minus", "column", "seed", "value"])
        for row, of in results.rows.items():
            writer.writerows(_csv_rows(row, "", of))
        for (first, second), of in results.differences.items():
            writer.writerows(_csv_rows(first, second, of))
        for row, scores in results.opponents.items():
            writer.writerows([row, "", column, "", value] for column, value in scores.items())
    with replacing(out / f"{name}.txt") as temporary:
        temporary.write_text(format_results(results) + "\n", encoding="utf-8")


def _csv_rows(row: str, minus: str, of: Mapping[str, Cell]) -> list[list[Any]]:
    return [
        [row, minus, column, seed, value]
        for column, cell in of.items()
        for seed, value in cell.values.items()
    ]


def plain(results: Results) -> dict[str, Any]:
    """What the JSON file holds."""
    paper = PAPER if results.split == "test" else {}
    published = {row: paper[row] for row in results.rows if row in paper}
    return {
        "title": results.title,
        "split": results.split,
        "settings": dict(results.settings),
        "columns": list(results.columns),
        "rows": {row: _plain_cells(of) for row, of in results.rows.items()},
        "differences": [
            {"row": first, "minus": second, "scores": _plain_cells(of)}
            for (first, second), of in results.differences.items()
        ],
        "opponents": {name: dict(scores) for name, scores in results.opponents.items()},
        "chosen": dict(results.chosen),
        "diverged": {row: list(seeds) for row, seeds in results.diverged.items()},
        "paper": {
            row: dict(zip(PAPER_COLUMNS, scores, strict=True)) for row, scores in published.items()
        },
        "learning_curves": {
            row: {str(seed): dict(curve) for seed, curve in of.items()}
            for row, of in results.curves.items()
        },
        "notes": list(results.notes),
    }


def _plain_cells(of: Mapping[str, Cell]) -> dict[str, Any]:
    return {column: asdict(cell) for column, cell in of.items()}
