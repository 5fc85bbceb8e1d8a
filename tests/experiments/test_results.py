"""Means over seeds, paired differences and their intervals; the table as text and files."""

import csv
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nowcast.experiments.results import (
    Cell,
    Results,
    cells,
    format_results,
    paired,
    write_results,
)

NUMBERS = st.floats(-1e4, 1e4).map(lambda x: round(x, 3))


@given(st.lists(NUMBERS, min_size=2, max_size=8))
def test_intervals_are_students(values):
    cell = Cell.of(dict(enumerate(values)))
    assert cell.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert cell.deviation == pytest.approx(stats.tstd(values), rel=1e-9, abs=1e-9)
    if cell.deviation > 1e-6:
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert cell.low == pytest.approx(low, rel=1e-9, abs=1e-7)
        assert cell.high == pytest.approx(high, rel=1e-9, abs=1e-7)
    else:
        assert cell.high - cell.low == pytest.approx(0, abs=1e-4)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=6))
def test_differences_are_paired(pairs):
    first = {seed: {"B-MAE": a} for seed, (a, _) in enumerate(pairs)}
    # In another order: it is the seed that pairs.
    second = {seed: {"B-MAE": b} for seed, (_, b) in reversed(list(enumerate(pairs)))}
    cell = paired(first, second, ["B-MAE"])["B-MAE"]
    a, b = zip(*pairs, strict=True)
    assert cell.mean == pytest.approx(sum(a) / len(a) - sum(b) / len(b), abs=1e-8)
    if cell.deviation > 1e-6:
        low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
        assert (cell.low, cell.high) == pytest.approx((low, high), rel=1e-8, abs=1e-7)


def test_one_seed_has_no_interval_and_no_number_gives_none():
    assert Cell.of({3: 2.5}) == Cell({3: 2.5}, 2.5, None, None, None)
    broken = Cell.of({0: 1.0, 1: math.inf})
    assert math.isnan(broken.mean)
    assert math.isnan(broken.low)
    assert math.isnan(broken.deviation)


def results():
    scores = {
        "P-Original": {0: (1000.0, 300.0, 0.5, 0.3, 0.1), 1: (1010.0, 320.0, 0.52, 0.3, 0.1)},
        "P-MEmeL": {0: (996.0, 301.0, 0.51, 0.3, 0.1), 1: (1004.0, 319.0, 0.55, 0.3, 0.1)},
    }
    columns = ("B-MAE", "B-MSE", "CSI 0.5", "CSI 2", "CSI 5")
    of = {
        row: {seed: dict(zip(columns, values, strict=True)) for seed, values in seeds.items()}
        for row, seeds in scores.items()
    }
    return Results(
        "Table 4",
        "test",
        columns,
        {row: cells(seeds, columns) for row, seeds in of.items()},
        {("P-MEmeL", "P-Original"): paired(of["P-MEmeL"], of["P-Original"], columns)},
        {"persistence": dict.fromkeys(columns, 2000.0)},
        {"P-MEmeL": "top 1, Δ 1"},
        {},
        {"P-MEmeL": {0: {"train_loss": {"steps": [1.0], "values": [0.5]}}}},
        ("a note",),
        {"plan": {"seeds": [0, 1]}},
    )


def test_the_text_says_what_was_measured_and_what_was_published():
    lines = [" ".join(line.split()) for line in format_results(results()).splitlines()]
    assert lines == [
        "Table 4",
        "",
        "measured B-MAE B-MSE CSI 0.5 CSI 2",
        "P-Original 1,005.00 ± 7.07 310.00 ± 14.14 0.5100 ± 0.0141 0.3000 ± 0.0000",
        "P-MEmeL (top 1, Δ 1) 1,000.00 ± 5.66 310.00 ± 12.73 0.5300 ± 0.0283 0.3000 ± 0.0000",
        "persistence 2,000.00 2,000.00 2000.0000 2000.0000",
        "paper (HKO-7)",
        "P-Original 1,004.25 311.54",
        "P-MEmeL 1,000.98 306.67",
        "",
        "difference B-MAE B-MSE CSI 0.5 CSI 2",
        # −4 and −6: ∓ 12.706 (Student's t for one degree of freedom) · √2 / √2.
        "P-MEmeL − P-Original −5.00 (−17.71 to +7.71) +0.00 (−12.71 to +12.71) "
        "+0.0200 (−0.1071 to +0.1471) +0.0000 (+0.0000 to +0.0000)",
        "paper (HKO-7)",
        "P-MEmeL − P-Original −3.27 −4.87",
        "",
        "a note",
    ]


def test_files_hold_every_value(tmp_path):
    found = results()
    write_results(tmp_path, "table4", found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table4.csv", "table4.json", "table4.txt"]
    plain = json.loads((tmp_path / "table4.json").read_text())
    cell = plain["rows"]["P-MEmeL"]["B-MAE"]
    assert cell["values"] == {"0": 996.0, "1": 1004.0}
    assert cell["mean"] == 1000.0
    (difference,) = plain["differences"]
    assert (difference["row"], difference["minus"]) == ("P-MEmeL", "P-Original")
    assert difference["scores"]["B-MSE"]["values"] == {"0": 1.0, "1": -1.0}
    assert plain["paper"]["P-Original"] == {"B-MAE": 1004.25, "B-MSE": 311.54}
    assert plain["learning_curves"]["P-MEmeL"]["0"]["train_loss"]["values"] == [0.5]
    with (tmp_path / "table4.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (2 * 2 + 2 + 1)
    assert rows[0] == {
        "row": "P-Original",
        "minus": "",
        "column": "B-MAE",
        "seed": "0",
        "value": "1000.0",
    }
    assert (tmp_path / "table4.txt").read_text() == format_results(found) + "\n"
