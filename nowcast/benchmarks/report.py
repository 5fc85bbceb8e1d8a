"""What a part of the benchmark found: rows with spread and ratios, as a table and as JSON."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nowcast import files
from nowcast.benchmarks.machine import Machine, MatrixProducts
from nowcast.benchmarks.rounds import Spread

CEILING = "matrix product {}"
"""Name of the row of matrix products in a precision."""

PRODUCTS_IN_A_ROUND = 5
"""So many that caches are warm and threads awake for most of them."""


@dataclass(frozen=True)
class Row:
    """One thing that was timed.

    Args:
        name: what it is; unique within a report.
        seconds: of each round.
        work: how much one round does, in `unit`.
        unit: such as "GFLOP", "clips"; the rate is shown per second.
        compared_with: name of the row that it ran in the same rounds with, or None.
        ceiling: precision of the matrix product that bounds its rate, or None. Where the report has
            a row of such products, as `with_ceilings` makes them, it is that of the same round.
    """

    name: str
    seconds: tuple[float, ...]
    work: float
    unit: str
    compared_with: str | None = None
    ceiling: str | None = None


@dataclass(frozen=True)
class Report:
    """What one part found.

    Args:
        part: name of the part.
        settings: what it ran with, plain values.
        rows: what was timed.
        facts: what else was found, plain values by what they are.
    """

    part: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]


def time_ratios(report: Report, row: Row) -> tuple[float, ...]:
    """Seconds of a row over those of the row it is compared with, round by round."""
    (other,) = (other for other in report.rows if other.name == row.compared_with)
    return tuple(own / base for own, base in zip(row.seconds, other.seconds, strict=True))


def with_ceilings(
    variants: Mapping[str, Callable[[], object]], precisions: Iterable[str], device: torch.device
) -> dict[str, Callable[[], object]]:
    """Variants to time and, in the same rounds, the matrix products that bound their rates."""
    products = {
        CEILING.format(name): MatrixProducts(name, device, times=PRODUCTS_IN_A_ROUND)
        for name in sorted(set(precisions))
    }
    return {**variants, **products}


def ceiling_rows(
    variants: Mapping[str, Callable[[], object]], seconds: Mapping[str, tuple[float, ...]]
) -> list[Row]:
    """The rows of the matrix products that `with_ceilings` has added."""
    return [
        Row(name, seconds[name], variant.gflop, "GFLOP")
        for name, variant in variants.items()
        if isinstance(variant, MatrixProducts)
    ]


def shares_of_ceiling(report: Report, row: Row, machine: Machine) -> tuple[float, ...]:
    """Rates of a row over that of the matrix product, in each round where that was measured so."""
    assert row.ceiling is not None
    for other in report.rows:
        if other.name == CEILING.format(row.ceiling):
            pairs = zip(row.seconds, other.seconds, strict=True)
            return tuple(row.work / own * of / other.work for own, of in pairs)
    rate = row.work / Spread.of(row.seconds).median
    return (rate / machine.matrix_product_gflop_s[row.ceiling].largest,)


def as_plain(report: Report, machine: Machine) -> dict[str, Any]:
    """Report and machine as what JSON can hold."""
    return {
        "part": report.part,
        "settings": dict(report.settings),
        "machine": asdict(machine),
        "rows": [_plain_row(report, row, machine) for row in report.rows],
        "facts": dict(report.facts),
    }


def _plain_row(report: Report, row: Row, machine: Machine) -> dict[str, Any]:
    spread = Spread.of(row.seconds)
    rate = row.work / spread.median
    plain: dict[str, Any] = {
        "name": row.name,
        "seconds": {**asdict(spread), "rounds": list(row.seconds)},
        "work": row.work,
        "unit": row.unit,
        "rate_per_second": rate,
    }
    if row.ceiling is not None:
        plain["ceiling"] = row.ceiling
        shares = shares_of_ceiling(report, row, machine)
        plain["share_of_ceiling"] = {**asdict(Spread.of(shares)), "rounds": list(shares)}
    if row.compared_with is not None:
        ratios = time_ratios(report, row)
        plain["compared_with"] = row.compared_with
        plain["time_ratio"] = {**asdict(Spread.of(ratios)), "rounds": list(ratios)}
    return plain


def write_json(path: Path, report: Report, machine: Machine) -> None:
    """Write report and machine as JSON; `path` is complete or untouched."""
    files.write_json(path, as_plain(report, machine))


def format_table(report: Report, machine: Machine) -> str:
    """Report and machine as aligned text: medians, with smallest and largest in brackets."""
    cells = [["", "seconds", "rate", "of ceiling", "time ratio", "times as fast as"]]
    for row in report.rows:
        plain = _plain_row(report, row, machine)
        line = [
            row.name,
            _spread_text(Spread.of(row.seconds), 4),
            f"{plain['rate_per_second']:,.1f} {row.unit}/s",
            _share_text(report, row, machine) if row.ceiling else "",
            "",
            "",
        ]
        if row.compared_with is not None:
            ratio = Spread.of(time_ratios(report, row))
            line[4:] = [_spread_text(ratio, 3), f"{1 / ratio.median:.2f}× {row.compared_with}"]
        cells.append(line)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    facts = [f"{name}: {_fact_text(value)}" for name, value in report.facts.items()]
    rounds = " or ".join(map(str, sorted({len(row.seconds) for row in report.rows})))
    legend = f"Median (smallest–largest) of {rounds} rounds; ratios within each round."
    return "\n".join([*lines, "", *facts, legend, str(machine)])


def _share_text(report: Report, row: Row, machine: Machine) -> str:
    shares = shares_of_ceiling(report, row, machine)
    spread = Spread.of(shares)
    extremes = f" ({spread.smallest:.0%}–{spread.largest:.0%})" if len(shares) > 1 else ""
    return f"{spread.median:.0%}{extremes} {row.ceiling}"


def _spread_text(spread: Spread, digits: int) -> str:
    """Median and extremes to that many significant digits."""
    middle, low, high = (
        f"{value:#.{digits}g}".rstrip(".")
        for value in (spread.median, spread.smallest, spread.largest)
    )
    return f"{middle} ({low}–{high})"


def _fact_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_fact_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_fact_text, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
