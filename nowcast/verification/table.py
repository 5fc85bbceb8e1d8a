"""The score table for the terminal, from a report. Files are written in `report`."""

from collections.abc import Callable
from typing import NamedTuple

from nowcast.verification.report import MethodScores, Report

LONGEST_NAME = 28


class Column(NamedTuple):
    """A score of the table: how it is taken from a method's scores and shown."""

    heading: str
    value: Callable[[MethodScores], float]
    digits: int
    best: Callable[..., float]


def format_table(report: Report) -> str:
    """Mean scores over lead times as aligned text, the best of each column marked with `*`
    unless all are alike.

    Two blocks of at most about 90 characters: balanced errors and CSI; plain errors and HSS. Errors
    are on the benchmark's scale, sums per frame.
    """
    thresholds = [f"≥{rate:g}" for rate in report["thresholds_mm_h"]]
    blocks = [
        [
            Column("B-MSE+B-MAE", _balanced_sum, 1, min),
            Column("B-MSE", _mean("balanced_mse"), 1, min),
            Column("B-MAE", _mean("balanced_mae"), 1, min),
            *_skill_columns("CSI", "csi", thresholds),
        ],
        [
            Column("MSE", _mean("mse"), 1, min),
            Column("MAE", _mean("mae"), 1, min),
            *_skill_columns("HSS", "hss", thresholds),
        ],
    ]
    names = {name: _shown(name) for name in report["methods"]}
    lines = [line for block in blocks for line in [*_block(block, names, report), ""]]
    return "\n".join([*lines, *_footer(report)])


def _skill_columns(label: str, score: str, thresholds: list[str]) -> list[Column]:
    return [
        Column(f"{label} {threshold}" if index == 0 else threshold, _mean(score, index), 3, max)
        for index, threshold in enumerate(thresholds)
    ]


def _mean(score: str, threshold: int | None = None) -> Callable[[MethodScores], float]:
    def value(method: MethodScores) -> float:
        mean = method["mean"][score]
        return float(mean if threshold is None else mean[threshold])

    return value


def _balanced_sum(method: MethodScores) -> float:
    return float(method["mean"]["balanced_mse"] + method["mean"]["balanced_mae"])


def _block(columns: list[Column], names: dict[str, str], report: Report) -> list[str]:
    cells = [["", *names.values()]]
    for column in columns:
        values = [column.value(report["methods"][name]) for name in names]
        texts = [f"{value:z,.{column.digits}f}" if value == value else "–" for value in values]
        best = column.best((value for value in values if value == value), default=None)
        # What prints alike is marked alike.
        best_text = None if best is None else f"{best:z,.{column.digits}f}"
        differ = len(set(texts)) > 1
        marked = [text + ("*" if differ and text == best_text else " ") for text in texts]
        cells.append([column.heading + " ", *marked])
    widths = [max(map(len, column)) for column in cells]
    rows = zip(*cells, strict=True)
    return [
        " ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _footer(report: Report) -> list[str]:
    minutes = report["lead_minutes"]
    settings = report["settings"]
    clips = sorted({method["clips"] for method in report["methods"].values()})
    what = [
        f"{name} {settings[name]}" for name in ("protocol", "split", "store") if name in settings
    ]
    what.append(f"clips {' or '.join(f'{count:,}' for count in clips)}")
    return [
        f"Mean over {len(minutes)} lead times (+{minutes[0]:g} to +{minutes[-1]:g} min); "
        "thresholds in mm/h; * best; – undefined",
        "; ".join(what),
    ]


def _shown(name: str) -> str:
    """A name on one line, shortened."""
    flat = " ".join(name.split())
    return flat if len(flat) <= LONGEST_NAME else flat[: LONGEST_NAME - 1] + "…"
