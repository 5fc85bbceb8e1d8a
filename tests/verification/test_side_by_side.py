"""Reports of several evaluations in one: what is joined, where rows come from, what is refused."""

import copy
import dataclasses
import json

import pytest
from made_up_results import SETTINGS, THRESHOLDS_MM_H, WINDOWS_PIXELS, made_up_results

from nowcast.errors import InputError
from nowcast.verification.comparison import Scope, check_comparable, side_by_side
from nowcast.verification.report import make_report
from nowcast.verification.report_files import read_json, write_json


@pytest.fixture(scope="module")
def made():
    results = made_up_results({"near": 0.02, "ensemble": 0.1}, events=3)
    return make_report(results, SETTINGS, resamples=20)


@pytest.fixture
def report(made):
    return copy.deepcopy(made)


def test_reports_of_the_same_clips_are_put_side_by_side(report):
    other = make_report(
        made_up_results({"near": 0.02, "far": 0.3}, events=3, seed=1), SETTINGS, resamples=20
    )
    joined = side_by_side({"first": report, "second": other})
    assert list(joined["methods"]) == ["near", "ensemble", "near (second)", "far"]
    assert joined["methods"]["near (second)"] == other["methods"]["near"]
    pairs = [(one["method"], one["reference"]) for one in joined["differences"]]
    assert pairs == [("ensemble", "near"), ("far", "near (second)")]
    assert joined["dimensions"].keys() >= {"crps_mm_h", "csi"}
    alike = side_by_side({"first": report, "second": copy.deepcopy(report)})
    assert list(alike["methods"]) == ["near", "ensemble"]
    assert len(alike["differences"]) == 1
    changed = copy.deepcopy(report)
    changed["methods"]["near"]["mean"]["mse"] += 1
    again = side_by_side({"a": report, "b": changed, "c": changed})
    assert list(again["methods"]) == ["near", "ensemble", "near (b)"]


def test_reports_of_both_protocols_stand_side_by_side_and_say_where_rows_come_from(
    report, tmp_path
):
    online = copy.deepcopy(report)
    online["settings"] |= {"protocol": "online", "online": {"optimizer": "AdaGrad"}}
    online["settings"]["checkpoints"] = {"net": {"file": "other/last.ckpt", "sha256": "def"}}
    online["methods"]["ensemble"]["mean"]["mse"] += 1
    online["commit"] = "0123abc"
    online["resampling"]["seed"] = 4
    joined = side_by_side({"first": report, "second": online, "third": report})
    assert list(joined["methods"]) == ["near", "ensemble", "ensemble (second)"]
    assert joined["settings"] == {
        **SETTINGS,
        "beside": {
            "second": {
                "methods": ["ensemble (second)"],
                "protocol": "online",
                "checkpoints": online["settings"]["checkpoints"],
                "online": {"optimizer": "AdaGrad"},
                "commit": "0123abc",
                "resampling": online["resampling"],
            },
            "third": {"methods": []},
        },
    }
    assert report["settings"] == SETTINGS
    write_json(tmp_path / "joined.json", joined)
    assert json.dumps(read_json(tmp_path / "joined.json")) == json.dumps(joined)
    # What is merged once more keeps what it has said.
    again = side_by_side({"joined": joined, "fourth": report})
    assert list(again["settings"]["beside"]) == ["second", "third", "fourth"]


def test_other_windows_are_refused_before_any_work(report):
    coordinates = {name: tuple(values) for name, values in report["coordinates"].items()}
    expected = Scope(
        report["settings"], report["lead_minutes"], THRESHOLDS_MM_H, 4,
        coordinates | {"rank": range(9), "depth": (1.0,)},
    )  # fmt: skip
    check_comparable("new", expected, {"old": report})
    scope = dataclasses.replace(expected, coordinates=coordinates | {"window_pixels": (1, 3)})
    with pytest.raises(
        InputError, match=r"old: not comparable with new: window_pixels \[1, 3, 5\], not \[1, 3\]"
    ):
        check_comparable("new", scope, {"old": report})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lead_minutes": [5, 10, 15]}, "second: not comparable with first: lead times"),
        ({"settings": {**SETTINGS, "split": "valid"}}, "split valid, not test"),
        ({"settings": {**SETTINGS, "region": [1, 2, 3, 4]}}, r"region \[1, 2, 3, 4\], not None"),
        ({"settings": {**SETTINGS, "frame_shape": [60, 60]}}, r"frame_shape \[60, 60\], not None"),
        ({"settings": {**SETTINGS, "fingerprint": "ab"}}, "fingerprint ab, not None"),
        ({"settings": {**SETTINGS, "stride": 1}}, "stride 1, not None"),
        ({"settings": {**SETTINGS, "at_most": 9}}, "at_most 9, not None"),
        ({"settings": {**SETTINGS, "split": "\x1b[31m\n"}}, r"split \[31m, not test"),
        ({"coordinates": {"window_pixels": [7]}}, r"window_pixels \[7\], not \[1, 3, 5\]"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(report, change, message):
    assert report["coordinates"]["window_pixels"] == list(WINDOWS_PIXELS)
    assert report["thresholds_mm_h"] == list(THRESHOLDS_MM_H)
    with pytest.raises(InputError, match=message):
        side_by_side({"first": report, "second": {**report, **change}})
