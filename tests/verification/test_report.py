"""Reports: what they hold is what was scored, with intervals and tests that can be done by hand."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from made_up_results import (
    LEAD_TIMES,
    MEMBERS,
    SETTINGS,
    THRESHOLDS_MM_H,
    WINDOWS_PIXELS,
    made_up_results,
)

from nowcast.errors import InputError
from nowcast.verification.report import _numbers, make_report
from nowcast.verification.report_contents import coordinates_of
from nowcast.verification.report_facts import reading
from nowcast.verification.report_files import write_json
from nowcast.verification.resampling import paired_test, resample_weights
from nowcast.verification.results import MethodResult
from nowcast.verification.scores import Scores

ALL = {"near": 0.02, "far": 0.1, "ensemble": 0.05}


@pytest.fixture(scope="module")
def results():
    return made_up_results(ALL)


@pytest.fixture(scope="module")
def report(results):
    return make_report(results, SETTINGS, resamples=200, seed=3)


def balanced_sums(result):
    """B-MSE + B-MAE of each event, summed over clips, by lead time; and the number of clips."""
    sums = [kinds["benchmark"].sums for kinds in result.events.values()]
    errors = np.array([one["balanced_mse"] + one["balanced_mae"] for one in sums])
    return errors, np.array([one["clips"] for one in sums])


def test_scores_of_every_kind_are_those_of_all_events_together(results, report):
    for name, result in results.items():
        found = report["methods"][name]
        assert (found["clips"], found["members"]) == (6, result.members)
        expected = {}
        for kind in result.kinds:
            expected |= result.total(kind).compute()
        assert found["per_lead"].keys() - expected.keys() == {"balanced_mse_mae"}
        for score, values in expected.items():
            finite = np.where(np.isfinite(values), values, np.nan)
            np.testing.assert_array_equal(found["per_lead"][score], finite)
            axes = coordinates_of(report, name, score)
            assert tuple(map(len, axes.values())) == values.shape
        means = {}
        for kind in result.kinds:
            means |= result.total(kind).summary()
        assert found["mean"].keys() - means.keys() == {"balanced_mse_mae"}
        for score, values in means.items():
            finite = np.where(np.isfinite(values), values, np.nan)
            np.testing.assert_array_equal(found["mean"][score], finite)
    assert "hits" not in report["methods"]["near"]["mean"]
    assert "crps_mm_h" not in report["methods"]["near"]["mean"]
    assert report["lead_minutes"] == [6, 12, 18]
    assert report["thresholds_mm_h"] == list(THRESHOLDS_MM_H)
    assert report["coordinates"]["window_pixels"] == list(WINDOWS_PIXELS)
    assert report["methods"]["ensemble"]["coordinates"]["rank"] == list(range(MEMBERS + 1))
    assert report["dimensions"]["fss"] == ["lead_time", "threshold_mm_h", "window_pixels"]


def test_the_interval_of_the_balanced_sum_is_that_of_the_resampled_sum(results, report):
    weights = resample_weights(4, 200, 3)
    for name, result in results.items():
        errors, clips = balanced_sums(result)
        found = report["methods"][name]
        per_lead = errors.sum(axis=0) / clips.sum()
        np.testing.assert_allclose(found["per_lead"]["balanced_mse_mae"], per_lead, rtol=1e-12)
        np.testing.assert_allclose(found["mean"]["balanced_mse_mae"], per_lead.mean(), rtol=1e-12)
        resampled = np.einsum("re,el->rl", weights, errors) / (weights @ clips)[:, None]
        for values, interval in (
            (resampled, found["per_lead_interval"]["balanced_mse_mae"]),
            (resampled.mean(axis=1), found["interval"]["balanced_mse_mae"]),
        ):
            low, high = np.quantile(values, [0.025, 0.975], axis=0)
            np.testing.assert_allclose(interval["low"], low, rtol=1e-12)
            np.testing.assert_allclose(interval["high"], high, rtol=1e-12)
    assert report["resampling"] == {
        "events": 4, "resamples": 200, "seed": 3, "level": 0.95, "why_none": None,
    }  # fmt: skip


def test_an_interval_stands_beside_every_mean_and_what_is_plotted(report):
    for name, scores in report["methods"].items():
        assert scores["interval"].keys() == scores["mean"].keys()
        for score, bounds in scores["interval"].items():
            mean = np.asarray(scores["mean"][score])
            assert np.shape(bounds["low"]) == np.shape(bounds["high"]) == mean.shape
        plotted = {"balanced_mse_mae", "balanced_mse", "balanced_mae", "csi", "rmse_mm_h",
                   "mae_mm_h"}  # fmt: skip
        if name == "ensemble":
            plotted |= {"crps_mm_h"}
        assert scores["per_lead_interval"].keys() == plotted


def test_a_paired_test_goes_through_all_ways_to_swap_the_methods(results, report):
    pairs = [(one["reference"], one["method"]) for one in report["differences"]]
    assert pairs == list(itertools.combinations(ALL, 2))
    near, far = (balanced_sums(results[name])[0].mean(axis=1) for name in ("near", "far"))
    found = report["differences"][0]["scores"]["balanced_mse_mae"]
    difference = (far - near).sum() / 6
    np.testing.assert_allclose(found["difference"], difference, rtol=1e-12)
    reached = [
        abs(np.dot(signs, far - near)) >= abs((far - near).sum()) * (1 - 1e-12)
        for signs in itertools.product((-1, 1), repeat=4)
    ]
    assert found["p_value"] == np.mean(reached)
    assert found["low"] <= difference <= found["high"]
    # The members of a single forecast have no ensemble scores to compare with.
    assert "crps_mm_h" not in report["differences"][1]["scores"]
    assert "power_ratio" not in report["differences"][0]["scores"]
    assert np.shape(report["differences"][0]["scores"]["fss"]["p_value"]) == (3, 3)


def test_ways_to_swap_are_drawn_by_the_seed_where_there_are_too_many():
    results = made_up_results(dict.fromkeys(("a", "b"), 0.1), events=15, kinds=("benchmark",))
    first, second = (
        [kinds["benchmark"] for kinds in results[name].events.values()] for name in ("b", "a")
    )
    p_values = []
    for seed in (0, 1):
        report = make_report(results, SETTINGS, resamples=2, seed=seed)
        found = report["differences"][0]["scores"]["mse"]["p_value"]
        weights = resample_weights(15, 2, seed)
        assert found == paired_test(first, second, weights, seed=seed)["mse"].p_value
        p_values.append(found)
    assert p_values[0] != p_values[1]


def test_clips_whose_forecast_was_replaced_are_reported(results):
    counted = dataclasses.replace(results["near"], replaced={"no motion: extrapolation": 2})
    report = make_report({**results, "near": counted}, SETTINGS, resamples=0)
    assert report["methods"]["near"]["replaced"] == {"no motion: extrapolation": 2}
    assert report["methods"]["far"]["replaced"] == {}
    assert reading(report)[2:] == [
        "ensemble: scores of the mean rain rate of its 4 members",
        "near: 2 of 6 clips replaced: no motion: extrapolation",
    ]


def test_many_methods_are_each_tested_against_optical_flow():
    errors = dict.fromkeys(("a", "persistence", "b", "optical flow", "c"), 0.1)
    results = made_up_results(errors, events=2, kinds=("benchmark",))
    pairs = [
        (one["reference"], one["method"])
        for one in make_report(results, SETTINGS, resamples=2)["differences"]
    ]
    assert pairs == [("optical flow", name) for name in ("a", "persistence", "b", "c")]
    others = {name: results[name] for name in ("a", "b", "c")} | {
        "d": results["a"], "e": results["b"],
    }  # fmt: skip
    differences = make_report(others, SETTINGS, resamples=2)["differences"]
    assert {one["reference"] for one in differences} == {"a"}


def test_scores_of_each_event_are_kept_without_long_ones(results, report):
    for name, result in results.items():
        by_event = report["methods"][name]["by_event"]
        assert list(by_event) == [f"event {number}" for number in range(4)]
        for event, kinds in result.events.items():
            assert by_event[event]["clips"] == kinds["benchmark"].clips
            mean = by_event[event]["mean"]
            np.testing.assert_array_equal(mean["csi"], kinds["benchmark"].summary()["csi"])
            np.testing.assert_array_equal(mean["fss"], kinds["fractions"].summary()["fss"])
            assert not mean.keys() & {"power_ratio", "observed_frequency", "rank_histogram"}


@pytest.mark.parametrize(
    ("events", "resamples", "why"),
    [(1, 50, "found one event, at least two are needed"), (3, 0, "no resamples were asked for")],
)
def test_without_resampling_a_report_says_why_there_are_no_intervals(events, resamples, why):
    found = make_report(made_up_results(events=events), SETTINGS, resamples=resamples)
    assert found["resampling"]["why_none"] == why
    assert found["differences"] == []
    for scores in found["methods"].values():
        assert scores["interval"] == scores["per_lead_interval"] == {}


def test_an_infinite_number_is_undefined_in_a_report():
    found = _numbers({"score": np.array([1.0, np.inf, -np.inf]), "count": np.array([1, 2])})
    np.testing.assert_array_equal(found["score"], [1.0, np.nan, np.nan])
    assert found["count"] == [1, 2]


def test_methods_scored_on_other_clips_are_refused(results):
    fewer = made_up_results({"few": 0.1}, events=3)
    with pytest.raises(InputError, match="other clips of event 3 for few than for near"):
        make_report({**results, **fewer}, SETTINGS)
    moved = MethodResult(1, dict(fewer["few"].events))
    moved.events["event 3"] = moved.events["event 0"]
    with pytest.raises(InputError, match="other clips of event 3 for few than for near"):
        make_report({**results, "few": moved}, SETTINGS)
    shorter = MethodResult(1, {"e": {"benchmark": Scores(2)}})
    longer = MethodResult(1, {"e": {"benchmark": Scores(3)}})
    with pytest.raises(InputError, match=r"different lead times: \[2, 3\]"):
        make_report({"a": shorter, "b": longer}, SETTINGS)
    others = MethodResult(1, {"e": {"benchmark": Scores(2, (1.0,))}})
    with pytest.raises(InputError, match="different values of threshold_mm_h"):
        make_report({"a": shorter, "b": others}, SETTINGS)


def test_what_makes_no_report_is_refused(results):
    with pytest.raises(InputError, match="no methods"):
        make_report({}, SETTINGS)
    with pytest.raises(InputError, match="no events"):
        make_report({"a": MethodResult(1)}, SETTINGS)
    with pytest.raises(InputError, match="step_minutes"):
        make_report(results, {"split": "test"})
    for change in ({"resamples": -1}, {"level": 1.0}, {"seed": -1}):
        with pytest.raises(InputError, match=r"report: found .* resamples, seed .* and level"):
            make_report(results, SETTINGS, **change)


def test_a_report_of_many_events_stays_small(tmp_path):
    """61 events and two methods: what the events add is about 20 numbers for each score."""
    results = made_up_results(events=61, kinds=("benchmark", "rain rate", "fractions", "spectra"))
    found = make_report(results, SETTINGS, resamples=20)
    write_json(tmp_path / "scores.json", found)
    numbers = (
        61
        * 2
        * sum(
            np.size(values)
            for values in found["methods"]["near"]["by_event"]["event 0"]["mean"].values()
        )
    )
    assert (tmp_path / "scores.json").stat().st_size < 40 * numbers
    assert json.loads((tmp_path / "scores.json").read_text())["methods"]["far"]["clips"] == 91
    assert len(found["methods"]["far"]["per_lead"]["mse"]) == LEAD_TIMES
