"""The table for the terminal, and the tables it is made from."""

import copy

import numpy as np
import pytest
from made_up_results import SETTINGS, made_up_results

from nowcast.verification.comparison import side_by_side
from nowcast.verification.report import make_report
from nowcast.verification.report_facts import facts
from nowcast.verification.results import MethodResult
from nowcast.verification.score_tables import (
    difference_tables,
    event_tables,
    fraction_tables,
    score_tables,
    skill_tables,
)
from nowcast.verification.scores import Scores
from nowcast.verification.table import format_table
from nowcast.verification.table_cells import Column, cells_of, lowest


@pytest.fixture(scope="module")
def made():
    results = made_up_results({"near": 0.02, "far": 0.1, "ensemble": 0.05})
    return make_report(results, SETTINGS, resamples=100)


@pytest.fixture
def report(made):
    return copy.deepcopy(made)


def test_the_table_shows_the_means_and_marks_the_best_of_each_column(report):
    lines = format_table(report).splitlines()
    assert max(map(len, lines)) <= 100
    header, near, interval, far = (line.split() for line in lines[1:5])
    assert header == ["B-MSE+B-MAE", "B-MSE", "B-MAE", "CSI", "≥0.5", "≥2", "≥30"]
    mean = report["methods"]["near"]["mean"]
    assert near[:2] == ["near", f"{mean['balanced_mse_mae']:,.1f}*"]
    assert near[4] == f"{mean['csi'][0]:.3f}*"
    bounds = report["methods"]["near"]["interval"]["balanced_mse_mae"]
    assert interval == [f"{bounds['low']:.1f}–{bounds['high']:.1f}"]
    assert far[0] == "far"
    assert not any("*" in cell for cell in far)


def test_the_footer_says_what_the_intervals_rest_on(report):
    averaged, resting, mean, what = format_table(report).splitlines()[-4:]
    assert averaged.startswith("Mean over 3 lead times (+6 to +18 min)")
    assert resting.startswith("95 % intervals from 100 resamples of 4 events")
    assert mean == "ensemble: scores of the mean rain rate of its 4 members"
    assert what == "protocol offline; split test; store rain.h5; clips 6"
    one = make_report(made_up_results(events=1), SETTINGS)
    assert "no intervals: found one event, at least two are needed" in format_table(one)


def test_the_footer_says_whose_forecasts_were_replaced(report):
    report["methods"]["far"]["replaced"] = {"no\nmotion": 1, "dry " + "x" * 90: 5}
    *_, mean, one, other, what = format_table(report).splitlines()
    assert (mean[:9], what[:8]) == ("ensemble:", "protocol")
    assert one == "far: 1 of 6 clips replaced: no motion"
    assert other.startswith("far: 5 of 6 clips replaced: dry xxx")
    assert len(other) == 100


def test_a_mean_of_fewer_lead_times_than_others_is_not_the_best():
    column = Column("FAR", "far", (), 3, lowest)
    texts = [cell["best"] for cell in cells_of([0.5, 0.6, 0.7], column, None, [1, 3, 3])]
    assert texts == [False, True, False]
    assert [cell["best"] for cell in cells_of([0.5, 0.6], column)] == [True, False]


def test_the_fractions_skill_score_is_shown_at_every_window(report):
    tables = fraction_tables(report)
    assert [table["title"] for table in tables] == [
        f"Fractions skill score by window, rain ≥ {rate:g} mm/h"
        for rate in report["thresholds_mm_h"]
    ]
    windows = report["coordinates"]["window_pixels"]
    assert tables[0]["columns"] == [f"{window:g} × {window:g}" for window in windows]
    fss = report["methods"]["near"]["mean"]["fss"]
    found = [cell["text"] for cell in tables[1]["rows"][0]["cells"]]
    assert found == [f"{value:.3f}" if value == value else "–" for value in fss[1]]
    plain = make_report(made_up_results(kinds=("benchmark",)), SETTINGS, resamples=3)
    assert fraction_tables(plain) == []


def test_further_scores_are_shown_where_they_are_there(report):
    lines = format_table(report).splitlines()
    (title,) = (line for line in lines if line.startswith("Errors in mm/h"))
    assert title == "Errors in mm/h; FSS in windows of 3 × 3 pixels"
    heading, near, _, ensemble = lines[lines.index(title) + 1 :][:4]
    assert heading.split() == [
        "RMSE", "MAE", "mean", "error", "CRPS", "FSS", "≥0.5", "≥2", "≥30",
    ]  # fmt: skip
    means = [report["methods"][name]["mean"] for name in ("near", "ensemble")]
    assert near.split()[1:5:3] == [f"{means[0]['rmse_mm_h']:.3f}*", "–"]
    # A single entry has nothing to be better than.
    assert ensemble.split()[4:6] == [
        f"{means[1]['crps_mm_h']:.3f}", f"{means[1]['fss'][0][1]:.3f}",
    ]  # fmt: skip
    plain = make_report(made_up_results(kinds=("benchmark",)), SETTINGS, resamples=3)
    assert "mm/h; FSS" not in format_table(plain)
    assert len(score_tables(plain)) == 2


def test_paired_differences_stand_with_interval_and_p_value(report):
    lines = format_table(report).splitlines()
    first = lines.index("Paired differences") + 2
    found = report["differences"][0]["scores"]
    value, interval, p_values = (line.split() for line in lines[first : first + 3])
    assert value[:4] == ["far", "−", "near", f"{found['balanced_mse_mae']['difference']:+.1f}"]
    assert value[4] == f"{found['csi']['difference'][0]:+.3f}"
    assert float(value[4]) < 0 < float(value[3])
    bounds = found["balanced_mse_mae"]
    assert interval == [f"{bounds['low']:.1f}–{bounds['high']:.1f}"]
    assert p_values[:4] == [
        "p",
        f"{bounds['p_value']:.3f}",
        "p",
        f"{found['csi']['p_value'][0]:.3f}",
    ]
    further = difference_tables(report)[1]
    assert further["columns"][:2] == ["RMSE", "MAE"]


def test_a_tiny_p_value_is_not_shown_as_zero(report):
    report["differences"][0]["scores"]["balanced_mse_mae"]["p_value"] = 0.0001
    (main, _) = difference_tables(report)
    assert main["rows"][0]["cells"][0]["p_value"] == "p <0.001"


def test_what_prints_alike_is_marked_alike_and_what_is_alike_for_all_not_at_all(report):
    for name, error in (("near", 0.12341), ("far", 0.12339), ("ensemble", 0.2)):
        report["methods"][name]["mean"]["rmse_mm_h"] = error
        report["methods"][name]["mean"]["mae_mm_h"] = error if name == "far" else 0.12338
        report["methods"][name]["mean"]["mean_error_mm_h"] = {"near": -0.2, "far": 0.3}.get(name, 9)
    rows = score_tables(report)[2]["rows"]
    assert [[cell["best"] for cell in row["cells"][:3]] for row in rows] == [
        [True, False, True], [True, False, False], [False, False, False],
    ]  # fmt: skip


def test_a_bias_is_best_nearest_to_one(report):
    for name, bias in (("near", 0.5), ("far", 1.9), ("ensemble", 3.0)):
        report["methods"][name]["mean"]["frequency_bias"] = [bias, 1.0, float("nan")]
    bias, detection, false_alarms = skill_tables(report)
    assert [row["cells"][0]["best"] for row in bias["rows"]] == [False, True, False]
    assert [row["cells"][2]["text"] for row in bias["rows"]] == ["–"] * 3
    assert (detection["columns"][0], false_alarms["columns"][0]) == ("POD ≥0.5", "FAR ≥0.5")


def test_a_column_that_is_undefined_for_all_marks_none():
    scores = Scores(2)
    dry = np.zeros((1, 2, 1, 4, 4), np.float32)
    scores.update(dry, dry, np.ones(dry.shape, bool))
    results = {name: MethodResult(1, {"e": {"benchmark": scores}}) for name in ("a", "b")}
    row = format_table(make_report(results, SETTINGS)).splitlines()[2].split()
    assert row == ["a", "0.0", "0.0", "0.0", "–", "–", "–", "–", "–"]


def test_long_names_and_numbers_of_full_size_frames_fit_on_a_short_line(report):
    full = make_report(
        made_up_results({"a": 0.1, "b": 0.2}, kinds=("benchmark",)), SETTINGS, resamples=3
    )
    full["methods"] = {
        "a\nb " + "x" * 90: full["methods"]["a"],
        "\x1b[31m" + "y" * 90: full["methods"]["b"],
    }
    full["differences"][0] |= dict(zip(("reference", "method"), full["methods"], strict=True))
    for scores in full["methods"].values():
        scores["mean"] |= {
            "balanced_mse_mae": 23923.44, "balanced_mse": 8860.97, "balanced_mae": 15062.46,
        }  # fmt: skip
        scores["interval"]["balanced_mse_mae"] = {"low": 20001.6, "high": 28123.4}
    text = format_table(full)
    assert text.splitlines()[2].startswith("a b xxxxx")
    assert "20,002–28,123" in text
    assert text.replace("\n", "").isprintable()
    assert max(map(len, text.splitlines())) <= 100


def test_events_have_a_row_and_methods_a_column(report):
    tables = event_tables(report)
    assert [table["title"] for table in tables] == [
        "B-MSE+B-MAE by event",
        *(f"CSI ≥{rate} mm/h by event" for rate in ("0.5", "2", "30")),
    ]
    csi = tables[2]
    assert csi["columns"] == ["clips", "near", "far", "ensemble"]
    assert [row["name"] for row in csi["rows"]] == [f"event {number}" for number in range(4)]
    by_event = report["methods"]["far"]["by_event"]["event 3"]
    cells = csi["rows"][3]["cells"]
    assert cells[0]["text"] == "2"
    assert cells[2]["text"] == f"{by_event['mean']['csi'][1]:.3f}"
    assert [cell["best"] for cell in cells] == [False, True, False, False]


def test_facts_say_what_was_scored_and_leave_out_what_is_not_there(report):
    found = facts(report)
    assert (found["protocol"], found["split"], found["clips"]) == ("offline", "test", "6")
    assert found["lead times"] == "3, +6 to +18 min"
    assert found["ensembles"] == "ensemble: 4 members"
    assert found["checkpoints"] == "net: file: run/last.ckpt; sha256: abc"
    assert "region" not in found
    report["settings"]["region"] = [30, 90, 30, 90]
    assert facts(report)["region"] == "30, 90, 30, 90"


def test_facts_say_where_the_rows_of_other_reports_come_from(report):
    other = copy.deepcopy(report)
    other["methods"] = {"net": other["methods"].pop("far")}
    other["differences"] = []
    other["settings"] |= {"protocol": "online", "online": {"learning_rate": 1e-4}}
    other["commit"] = "abc"
    found = facts(side_by_side({"first": report, "second": other}))
    assert found["protocol"] == "offline"
    assert found["beside: second"] == (
        "methods: net; protocol: online; online: learning_rate: 0.0001; commit: abc"
    )
