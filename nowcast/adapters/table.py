"""Tables 1 and 2 as measured, beside the paper's: text, CSV and JSON."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nowcast.adapters.experiment import chosen, scores
from nowcast.adapters.runs import Outcome, Run
from nowcast.files import replacing, write_json

AVERAGE = "average"


@dataclass(frozen=True)
class Cell:
    """A score as a fraction of 1: its mean over seeds, and the standard deviation of one seed's.

    Args:
        mean: over seeds.
        deviation: of the values over seeds; None for one seed.
        values: by seed.
    """

    mean: float
    deviation: float | None
    values: Mapping[int, float]

    @classmethod
    def of(cls, values: Mapping[int, float]) -> "Cell":
        """Of one or more seeds."""
        deviation = None
        if len(values) > 1:
            finite = all(map(math.isfinite, values.values()))
            deviation = stdev(values.values()) if finite else math.nan
        return cls(fmean(values.values()), deviation, dict(values))


@dataclass(frozen=True)
class Table:
    """What was measured.

    Args:
        title: what it is.
        columns: in their order, with the average last where there is one.
        rows: cells by row and column.
        settings: learning rate, top and Δ of each row, by task.
        paper: the paper's values, in percent, by row and column.
        notes: lines below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]
    paper: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]


def tabulate(
    title: str,
    rows: Sequence[str],
    outcomes: Mapping[str, Mapping[Run, Outcome]],
    deciding: Mapping[str, Sequence[str]],
    further: Mapping[str, Sequence[str]],
    paper: Mapping[str, Mapping[str, float]],
    notes: Sequence[str],
    averaged: Sequence[str] = (),
) -> Table:
    """Make the table of finished finetunings.

    Args:
        title: what it is.
        rows: to show.
        outcomes: by task.
        deciding: columns that each task fills and whose mean decides what is chosen, by task.
        further: columns that are shown beside them, by task.
        paper: its values in percent, by row and column.
        notes: lines below the table.
        averaged: columns whose mean is the last column; left out where one of them is missing.
    """
    cells: dict[str, dict[str, Cell]] = {row: {} for row in rows}
    settings: dict[str, dict[str, dict[str, Any]]] = {row: {} for row in rows}
    columns: list[str] = []
    for task, done in outcomes.items():
        shown = [*deciding[task], *further[task]]
        columns += shown
        for row in rows:
            runs = chosen(row, done, deciding[task])
            for column in shown:
                cells[row][column] = Cell.of(
                    {run.seed: scores(row, done[run])[column] for run in runs}
                )
            what = runs[0].inhibition
            settings[row][task] = {"learning_rate": runs[0].learning_rate}
            if what is not None:
                settings[row][task] |= {"top": what.top, "delta": what.delta}
    if averaged and set(averaged) <= set(columns):
        for row in rows:
            parts = [cells[row][column].values for column in averaged]
            cells[row][AVERAGE] = Cell.of(
                {seed: fmean(values[seed] for values in parts) for seed in parts[0]}
            )
        columns.append(AVERAGE)
    return Table(title, tuple(columns), cells, settings, paper, tuple(notes))


def format_table(table: Table) -> str:
    """The table as aligned text, in percent; what the paper has of it below what is measured."""
    lines = [["measured", *table.columns]]
    lines += [
        [row, *(_percent(cells[column]) for column in table.columns)]
        for row, cells in table.rows.items()
    ]
    paper = [
        [row, *(f"{values[c]:.1f}" if c in values else "" for c in table.columns)]
        for row, values in table.paper.items()
        if row in table.rows and not values.keys().isdisjoint(table.columns)
    ]
    if paper:
        lines += [["paper", *[""] * len(table.columns)], *paper]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, "", *text, "", *table.notes])


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 epoch", "3 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _percent(cell: Cell) -> str:
    value = f"{100 * cell.mean:.1f}"
    return value if cell.deviation is None else f"{value} ± {100 * cell.deviation:.1f}"


def write_table(out: Path, table: Table, settings: Mapping[str, Any]) -> None:
    """Write table.json and table.csv into a folder; each is complete or untouched."""
    plain = {
        "title": table.title,
        "settings": dict(settings),
        "rows": {
            row: {
                "chosen": table.settings[row],
                "scores": {
                    column: {
                        "mean": cell.mean,
                        "deviation": cell.deviation,
                        "values": dict(cell.values),
                    }
                    for column, cell in cells.items()
                },
            }
            for row, cells in table.rows.items()
        },
        "paper": {row: dict(values) for row, values in table.paper.items()},
        "notes": list(table.notes),
    }
    write_json(out / "table.json", plain)
    with (
        replacing(out / "table.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["row", "column", "seed", "score"])
        for row, cells in table.rows.items():
            for column, cell in cells.items():
                for seed, value in cell.values.items():
                    writer.writerow([row, column, seed, value])
