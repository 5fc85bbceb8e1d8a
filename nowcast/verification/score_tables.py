"""Tables of a report: which scores they show, how, and what stands out.

A table is a plain mapping; `table` sets it out for a terminal, a page elsewhere as HTML.
"""

from collections.abc import Sequence

from nowcast.verification.report_contents import BALANCED_SUM, Difference, Report
from nowcast.verification.table_cells import (
    Cell,
    Column,
    Row,
    ScoreTable,
    by_threshold,
    cells_of,
    difference_cell,
    highest,
    interval_text,
    lowest,
    nearest_0,
    nearest_1,
    number_at,
)


def score_tables(report: Report) -> list[ScoreTable]:
    """Mean scores over lead times: the benchmark's main scores, its other errors, and what else
    there is, each with its interval and the best marked unless all are alike.

    Errors of the benchmark are on its scale, sums per frame. What prints alike is marked alike.
    """
    tables = [
        _table(
            report,
            "Balanced errors (sums per frame) and CSI",
            [
                Column("B-MSE+B-MAE", BALANCED_SUM, (), 1, lowest),
                Column("B-MSE", "balanced_mse", (), 1, lowest),
                Column("B-MAE", "balanced_mae", (), 1, lowest),
                *by_threshold(report, "CSI", "csi", highest),
            ],
        ),
        _table(
            report,
            "Errors (sums per frame) and HSS",
            [
                Column("MSE", "mse", (), 1, lowest),
                Column("MAE", "mae", (), 1, lowest),
                *by_threshold(report, "HSS", "hss", highest),
            ],
        ),
    ]
    further = _further_table(report)
    return [*tables, further] if further else tables


def skill_tables(report: Report) -> list[ScoreTable]:
    """What is behind CSI and HSS: how often events are forecast, and how many of them rightly."""
    return [
        _table(report, title, by_threshold(report, label, score, distance, digits))
        for title, label, score, distance, digits in (
            ("Frequency bias", "bias", "frequency_bias", nearest_1, 2),
            ("Probability of detection", "POD", "pod", highest, 3),
            ("False alarm ratio", "FAR", "far", lowest, 3),
        )
    ]


def fraction_tables(report: Report) -> list[ScoreTable]:
    """The fractions skill score at all windows, a table for each threshold; none if not scored."""
    windows = report["coordinates"].get("window_pixels", [])
    return [
        _table(
            report,
            f"Fractions skill score by window, rain ≥ {rate:g} mm/h",
            [
                Column(f"{window:g} × {window:g}", "fss", (place, number), 3, highest)
                for number, window in enumerate(windows)
            ],
        )
        for place, rate in enumerate(report["thresholds_mm_h"])
        if windows
    ]


def _further_table(report: Report) -> ScoreTable | None:
    """Errors in mm/h and the fractions skill score at one window, as far as they are there."""
    there = report["dimensions"].keys()
    columns = [
        Column(heading, score, (), 3, distance)
        for heading, score, distance in (
            ("RMSE", "rmse_mm_h", lowest),
            ("MAE", "mae_mm_h", lowest),
            ("mean error", "mean_error_mm_h", nearest_0),
            ("CRPS", "crps_mm_h", lowest),
        )
        if score in there
    ]
    what = ["Errors in mm/h"] if columns else []
    notes = []
    if "crps_mm_h" in there:
        notes.append("CRPS of ensembles only; that of a single forecast is its MAE")
    if "fss" in there:
        windows = report["coordinates"]["window_pixels"]
        place = len(windows) // 2
        what.append(f"FSS in windows of {windows[place]:g} × {windows[place]:g} pixels")
        columns += by_threshold(report, "FSS", "fss", highest, 3, (place,))
    if not columns:
        return None
    return _table(report, "; ".join(what), columns, notes)


def _table(
    report: Report, title: str, columns: Sequence[Column], notes: Sequence[str] = ()
) -> ScoreTable:
    methods = report["methods"].values()
    by_column = []
    for column in columns:
        values = [number_at(one["mean"].get(column.score), column.places) for one in methods]
        intervals = [interval_text(one["interval"].get(column.score), column) for one in methods]
        defined = [
            sum(number_at(of, column.places) == number_at(of, column.places) for of in by_lead)
            for by_lead in (one["per_lead"].get(column.score, []) for one in methods)
        ]
        by_column.append(cells_of(values, column, intervals, defined))
    return {
        "title": title,
        "columns": [column.heading for column in columns],
        "rows": [
            {"name": name, "cells": [cells[index] for cells in by_column]}
            for index, name in enumerate(report["methods"])
        ],
        "notes": list(notes),
    }


def difference_tables(report: Report) -> list[ScoreTable]:
    """Paired differences, with their intervals and p values: main scores, then what else there is.

    There are none where nothing could be tested.
    """
    there: set[str] = set()
    for one in report["differences"]:
        there |= one["scores"].keys()
    main = [
        Column("B-MSE+B-MAE", BALANCED_SUM, (), 1, lowest),
        *by_threshold(report, "CSI", "csi", highest),
    ]
    further = [
        Column(heading, score, (), 3, lowest)
        for heading, score in (
            *(("RMSE", "rmse_mm_h"), ("MAE", "mae_mm_h"), ("CRPS", "crps_mm_h")),
        )
    ]
    if "fss" in there:
        place = len(report["coordinates"]["window_pixels"]) // 2
        further += by_threshold(report, "FSS", "fss", highest, 3, (place,))
    titles = ("Paired differences", "Paired differences: mm/h and FSS")
    return [
        {
            "title": title,
            "columns": [column.heading for column in columns],
            "rows": [_difference_row(one, columns) for one in report["differences"]],
            "notes": [],
        }
        for title, wanted in zip(titles, (main, further), strict=True)
        if (columns := [column for column in wanted if column.score in there])
    ]


def _difference_row(difference: Difference, columns: Sequence[Column]) -> Row:
    return {
        "name": f"{difference['method']} − {difference['reference']}",
        "cells": [difference_cell(difference["scores"].get(one.score), one) for one in columns],
    }


def event_tables(report: Report) -> list[ScoreTable]:
    """Scores of every event, a table for B-MSE + B-MAE and one for CSI at each threshold."""
    columns = [
        Column("B-MSE+B-MAE", BALANCED_SUM, (), 1, lowest),
        *(
            Column(f"CSI ≥{rate:g} mm/h", "csi", (index,), 3, highest)
            for index, rate in enumerate(report["thresholds_mm_h"])
        ),
    ]
    events = next(iter(report["methods"].values()))["by_event"]
    tables: list[ScoreTable] = []
    for column in columns:
        rows: list[Row] = []
        for event, of_first in events.items():
            means = [one["by_event"].get(event) for one in report["methods"].values()]
            values = [
                number_at(None if one is None else one["mean"].get(column.score), column.places)
                for one in means
            ]
            clips: Cell = {
                "text": f"{of_first['clips']:,}",
                "interval": "",
                "p_value": "",
                "best": False,
            }
            rows.append({"name": event, "cells": [clips, *cells_of(values, column)]})
        tables.append(
            {
                "title": f"{column.heading} by event",
                "columns": ["clips", *report["methods"]],
                "rows": rows,
                "notes": [],
            }
        )
    return tables
