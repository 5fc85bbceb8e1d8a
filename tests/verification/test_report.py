"""Reports: what is written can be read back, and the table marks the best."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from nowcast.errors import InputError
from nowcast.verification import (
    Scores,
    format_table,
    make_report,
    read_json,
    side_by_side,
    write_csv,
    write_json,
)

SETTINGS = {
    "protocol": "offline",
    "split": "test",
    "store": Path("somewhere/rain.h5"),
    "step_minutes": 6,
    "checkpoint": None,
}


def scores_with_error(error, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 0.7, (2, 3, 1, 20, 20)).astype(np.float32)
    scores = Scores(3)
    scores.update(truth + np.float32(error), truth, np.ones(truth.shape, bool))
    return scores


@pytest.fixture
def report():
    return make_report({"near": scores_with_error(0.01), "far": scores_with_error(-0.1)}, SETTINGS)


def test_json_reads_back_as_it_was_with_undefined_scores_as_null(report, tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(path, report)
    stored = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert stored["methods"]["far"]["per_lead"]["far"][0][4] is None
    assert stored["settings"] == {**SETTINGS, "store": "rain.h5"}
    found = read_json(path)
    assert found["settings"]["checkpoint"] is None
    assert found["lead_minutes"] == [6, 12, 18]
    assert found["thresholds_mm_h"] == [0.5, 2, 5, 10, 30]
    for name, method in report["methods"].items():
        for kind in ("per_lead", "mean"):
            for score, values in method[kind].items():
                np.testing.assert_array_equal(found["methods"][name][kind][score], values)
    assert math.isnan(found["methods"]["far"]["per_lead"]["far"][0][4])


def test_csv_has_one_row_per_method_lead_time_score_and_threshold(report, tmp_path):
    write_csv(tmp_path / "scores.csv", report)
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 3 * (9 * 5 + 9)
    keys = [tuple(row.values())[:4] for row in rows]
    assert len(set(keys)) == len(keys)
    values = {key: row["value"] for key, row in zip(keys, rows, strict=True)}
    near = report["methods"]["near"]["per_lead"]
    assert float(values["near", "12", "csi", "2.0"]) == near["csi"][1][1]
    assert float(values["near", "18", "balanced_mse", ""]) == near["balanced_mse"][2]
    assert values["far", "6", "far", "30.0"] == ""


def test_the_table_shows_the_means_and_marks_the_best_of_each_column(report):
    text = format_table(report)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    header, near, far = (line.split() for line in lines[:3])
    assert header == ["B-MSE+B-MAE", "B-MSE", "B-MAE", "CSI", "≥0.5", "≥2", "≥5", "≥10", "≥30"]
    mean = report["methods"]["near"]["mean"]
    assert near[1] == f"{mean['balanced_mse'] + mean['balanced_mae']:,.1f}*"
    assert near[4] == f"{mean['csi'][0]:.3f}*"
    assert far[0] == "far"
    assert not any("*" in cell for cell in far)
    assert "+6 to +18 min" in lines[-2]
    assert "offline" in lines[-1]
    assert "clips 2" in lines[-1]


def test_a_table_column_that_is_undefined_or_alike_for_all_marks_none():
    scores = Scores(2)
    dry = np.zeros((1, 2, 1, 4, 4), np.float32)
    scores.update(dry, dry, np.ones(dry.shape, bool))
    report = make_report({"a": scores, "b": scores}, SETTINGS)
    row = format_table(report).splitlines()[1].split()
    assert row == ["a", "0.0", "0.0", "0.0", "–", "–", "–", "–", "–"]


def test_long_and_many_line_method_names_stay_on_one_short_line(report):
    report["methods"] = {"a\nb " + "x" * 90: report["methods"]["near"]}
    assert format_table(report).splitlines()[1].startswith("a b xxxxx")
    assert max(map(len, format_table(report).splitlines())) <= 100


def test_reports_of_the_same_clips_are_put_side_by_side(report):
    other = make_report({"near": scores_with_error(0.02), "far": scores_with_error(-0.1)}, SETTINGS)
    joined = side_by_side({"first": report, "second": other})
    assert list(joined["methods"]) == ["near", "far", "near (second)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lead_minutes": [5, 10, 15]}, "second: not comparable with first: lead times"),
        ({"settings": {**SETTINGS, "split": "valid"}}, "split valid, not test"),
        ({"settings": {**SETTINGS, "frame_shape": [60, 60]}}, r"frame_shape \[60, 60\], not None"),
        ({"settings": {**SETTINGS, "fingerprint": "ab"}}, "fingerprint ab, not None"),
        ({"settings": {**SETTINGS, "stride": 1}}, "stride 1, not None"),
        ({"settings": {**SETTINGS, "at_most": 9}}, "at_most 9, not None"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(report, change, message):
    with pytest.raises(InputError, match=message):
        side_by_side({"first": report, "second": {**report, **change}})


@pytest.mark.parametrize("text", ["{", "[]", '{"methods": {}}', "null"])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.json") as refused:
        read_json(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lead_minutes": 3}, "lead_minutes: found 3, expected numbers"),
        ({"lead_minutes": []}, "lead_minutes: found a list of 0"),
        ({"thresholds_mm_h": ["1"]}, "thresholds_mm_h: found a list of 1, expected numbers"),
        ({"settings": []}, "settings: found a list of 0, expected a mapping"),
        ({"versions": None}, "versions: found None"),
        ({"methods": {"near": 1}}, "near: found 1, expected clips, mean, per_lead"),
    ],
)
def test_a_report_with_wrong_types_is_refused(report, tmp_path, change, message):
    (tmp_path / "odd.json").write_text(json.dumps({**report, **change}))
    with pytest.raises(InputError, match=rf"odd\.json: {message}"):
        read_json(tmp_path / "odd.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": "2"}, "clips: found '2', expected a number"),
        ({"per_lead": []}, "per_lead: found a list of 0, expected all scores"),
        ({"per_lead": {"csi": 3}}, "per_lead: found a mapping of 1, expected all scores"),
        ({"mean": {"csi": 3}}, "mean: found a mapping of 1, expected all scores"),
    ],
)
def test_scores_of_wrong_types_are_refused(report, tmp_path, change, message):
    report["methods"]["far"] |= change
    (tmp_path / "odd.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=rf"odd\.json: far: {message}"):
        read_json(tmp_path / "odd.json")


@pytest.mark.parametrize(
    ("kind", "score", "value"),
    [
        ("per_lead", "csi", 3),
        ("per_lead", "mse", [1, 2, "3"]),
        ("mean", "hss", 1),
        ("mean", "gdl", [1]),
    ],
)
def test_a_score_of_another_shape_is_refused(report, tmp_path, kind, score, value):
    report["methods"]["far"][kind][score] = value
    (tmp_path / "odd.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=rf"odd\.json: far: {kind}: {score}: found "):
        read_json(tmp_path / "odd.json")


def test_a_report_with_a_lead_time_cut_off_is_refused(report, tmp_path):
    report["lead_minutes"].pop()
    write_json(tmp_path / "cut.json", report)
    with pytest.raises(InputError, match=r"hits: found a list of 3, expected 2 × 5 numbers"):
        read_json(tmp_path / "cut.json")


def test_a_report_needs_methods_of_one_kind_and_the_step():
    with pytest.raises(InputError, match="no methods"):
        make_report({}, SETTINGS)
    with pytest.raises(InputError, match="different lead times"):
        make_report({"a": Scores(2), "b": Scores(3)}, SETTINGS)
    with pytest.raises(InputError, match="step_minutes"):
        make_report({"a": Scores(2)}, {"split": "test"})


def test_a_failed_write_leaves_the_earlier_report(report, tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, report)
    before = path.read_bytes()
    report["settings"]["seed"] = object()
    with pytest.raises(TypeError):
        write_json(path, report)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.json"]
