"""Files of reports: what is written is read back; what is damaged or made up is refused."""

import copy
import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_results import SETTINGS, made_up_results

from nowcast.errors import InputError
from nowcast.verification.comparison import side_by_side
from nowcast.verification.report import make_report
from nowcast.verification.report_facts import facts
from nowcast.verification.report_files import read_json, write_csv, write_json
from nowcast.verification.score_tables import (
    difference_tables,
    event_tables,
    fraction_tables,
    score_tables,
    skill_tables,
)
from nowcast.verification.table import format_table


@pytest.fixture(scope="module")
def made():
    results = made_up_results({"near": 0.02, "ensemble": 0.1}, events=3)
    return make_report(results, SETTINGS, resamples=20)


@pytest.fixture
def report(made):
    return copy.deepcopy(made)


@pytest.fixture(scope="module")
def stored(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "scores.json"
    write_json(path, made)
    return path


def refused(path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)
    with pytest.raises(InputError) as problem:
        read_json(path)
    message = str(problem.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def test_json_reads_back_as_it_was_with_undefined_scores_as_null(report, tmp_path):
    path = tmp_path / "new" / "scores.json"
    report["methods"]["near"]["per_lead"]["far"][0][1] = math.nan
    write_json(path, report)
    stored = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert stored["methods"]["near"]["per_lead"]["far"][0][1] is None
    assert stored["settings"] == SETTINGS
    found = read_json(path)
    assert found["settings"]["region"] is None
    # NaN is unequal to itself: compared as text.
    assert json.dumps(found) == json.dumps(report)


def test_csv_has_a_row_for_every_number_and_its_interval(report, tmp_path):
    report["methods"]["near"]["per_lead"]["far"][0][2] = math.nan
    write_csv(tmp_path / "scores.csv", report)
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    axes = ("threshold_mm_h", "window_pixels", "wavelength_pixels", "rank", "probability")
    assert list(rows[0]) == [
        "method", "event", "lead_minutes", "score", *axes, "value", "low", "high",
    ]  # fmt: skip
    numbers = sum(
        np.size(values)
        for scores in report["methods"].values()
        for part in (
            scores["per_lead"], scores["mean"],
            *(event["mean"] for event in scores["by_event"].values()),
        )
        for values in part.values()
    )  # fmt: skip
    assert len(rows) == numbers
    by_place = {tuple(row.values())[:9]: row for row in rows}
    assert len(by_place) == len(rows)
    near, ensemble = (report["methods"][name] for name in ("near", "ensemble"))

    def row(method, event, lead, score, *places):
        return by_place[(method, event, lead, score, *places, *[""] * (5 - len(places)))]

    assert float(row("near", "", "12", "csi", "2.0")["value"]) == near["per_lead"]["csi"][1][1]
    assert (
        float(row("near", "", "12", "csi", "2.0")["low"])
        == (near["per_lead_interval"]["csi"]["low"][1][1])
    )
    mean = row("near", "", "", "balanced_mse_mae")
    assert [float(mean[name]) for name in ("value", "low", "high")] == [
        near["mean"]["balanced_mse_mae"],
        near["interval"]["balanced_mse_mae"]["low"],
        near["interval"]["balanced_mse_mae"]["high"],
    ]
    of_window = row("ensemble", "event 1", "", "fss", "0.5", "3")
    assert float(of_window["value"]) == ensemble["by_event"]["event 1"]["mean"]["fss"][0][1]
    assert of_window["low"] == ""
    of_rank = by_place["ensemble", "", "18", "rank_histogram", "", "", "", "4", ""]
    assert float(of_rank["value"]) == ensemble["per_lead"]["rank_histogram"][2][4]
    count = by_place["ensemble", "", "6", "forecast_count", "30.0", "", "", "", "0.25"]
    assert int(count["value"]) == ensemble["per_lead"]["forecast_count"][0][2][1]
    assert row("near", "", "6", "far", "30.0")["value"] == ""


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"methods": {}}', "null", "[" * 100_000])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path, text):
    refused(tmp_path / "odd.json", text)
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        read_json(tmp_path / "absent.json")


def test_a_report_of_an_older_form_is_refused_in_one_line(tmp_path):
    old = {
        "settings": {}, "commit": None, "versions": {}, "lead_minutes": [6], "methods": {},
        "thresholds_mm_h": [0.5],
    }  # fmt: skip
    found = refused(tmp_path / "old.json", old)
    assert found == "found a score report of format 1, expected 2: evaluate again"
    found = refused(tmp_path / "new.json", {**old, "format": "\x1b[31m"})
    assert found.startswith("found a score report of format '\\x1b[31m', expected 2")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("lead_minutes",), 3, "lead_minutes: found 3, expected any numbers"),
        (("lead_minutes",), [], "lead_minutes: found a list of 0"),
        (("thresholds_mm_h",), ["1"], "thresholds_mm_h: found a list of 1, expected any numbers"),
        (("thresholds_mm_h",), [1], "coordinates: threshold_mm_h: found a mapping of 3"),
        (("settings",), [], "settings: found a list of 0, expected a mapping"),
        (("versions",), None, "versions: found None"),
        (("commit",), 3, "commit: found 3, expected text"),
        (("dimensions", "csi"), ["lead_time"], "dimensions: csi: found a list of 1, expected "),
        (("dimensions", "gss"), ["lead_time", "depth"], "dimensions: gss: found a list of 2"),
        (("dimensions", "gss"), ["lead_time", "rank"], "near: per_lead: gss: found a list of 2"),
        (("resampling", "level"), None, "resampling: level: found None, expected a number"),
        (("methods",), {}, "found no methods"),
        (("methods", "near"), 1, "near: found 1, expected a mapping"),
        (("methods", "near", "clips"), "2", "near: clips: found '2', expected a whole number"),
        (("methods", "near", "clips"), True, "near: clips: found True"),
        (("methods", "near", "replaced"), [], "near: replaced: found a list of 0, expected a map"),
        (("methods", "near", "replaced"), {"a\nb": 0.5}, "near: replaced: a b: found 0.5, expect"),
        (("methods", "near", "per_lead"), {"csi": 3}, "near: per_lead: found a mapping of 1"),
        (("methods", "near", "per_lead", "mse"), [1, 2, "3"], "near: per_lead: mse: found a list"),
        (("methods", "near", "mean", "hss"), 1, "near: mean: hss: found 1, expected 3 numbers"),
        (("methods", "near", "mean", "gdl"), [1], "near: mean: gdl: found a list of 1, expected a"),
        (("methods", "near", "mean", "mse"), 10**400, "near: mean: mse: found 1000000"),
        (("methods", "near", "interval", "mse"), {"low": 1}, "near: interval: mse: found a mapp"),
        (("methods", "near", "by_event", "event 0", "mean", "none"), 1, "near: by_event: event 0"),
        (("methods", "ensemble", "coordinates"), {}, "ensemble: per_lead: rank_histogram: found"),
        (("differences", 0, "reference"), "who", "differences: reference: found 'who'"),
        (("differences", 0, "scores", "csi", "p_value"), 1, "differences: csi: p_value: found 1"),
        (("differences",), {}, "differences: found a mapping of 0, expected a list"),
    ],
)
def test_what_is_of_another_type_or_shape_is_refused_by_its_place(
    stored, tmp_path, place, value, message
):
    content = json.loads(stored.read_text())
    *path, last = place
    inner = content
    for name in path:
        inner = inner[name]
    inner[last] = value
    assert message in refused(tmp_path / "odd.json", content)


def test_a_report_with_a_lead_time_cut_off_is_refused(stored, tmp_path):
    content = json.loads(stored.read_text())
    content["lead_minutes"].pop()
    assert "found a list of 3, expected 2 × 3 numbers" in refused(tmp_path / "a.json", content)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(stored, tmp_path, constant):
    content = json.loads(stored.read_text())
    content["methods"]["near"]["mean"]["mse"] = "here"
    refused(tmp_path / "odd.json", json.dumps(content).replace('"here"', constant))


def places_in(value, place=()):
    yield place
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in inner:
            yield from places_in(one, (*place, name))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.just(10**400), st.floats(allow_nan=False),
    st.text(max_size=3), st.sampled_from(["\x1b[2J", "\ud800", "csi", "near"]),
    st.just([]), st.just({}), st.just([[1, 2], [3]]), st.just({"csi": []}),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file with little in it, so that every place in it is damaged sooner or later."""
    results = made_up_results(
        {"near": 0.02, "ensemble": 0.1}, events=2, kinds=("benchmark", "fractions")
    )
    path = tmp_path_factory.mktemp("report") / "scores.json"
    write_json(path, make_report(results, SETTINGS, resamples=2))
    return path


@settings(deadline=None)
@given(data=st.data(), odd=ODD, drop=st.booleans())
def test_a_damaged_report_is_refused_in_one_line_or_can_be_shown(
    small, tmp_path_factory, data, odd, drop
):
    content = json.loads(small.read_text())
    places = sorted(places_in(content), key=len)
    # Long lists of numbers would hide everything else.
    place = data.draw(st.sampled_from([one for one in places if 0 < len(one) < 6]))
    *path, last = place
    inner = content
    for name in path:
        inner = inner[name]
    if drop:
        del inner[last]
    elif isinstance(inner, dict) and isinstance(odd, str):
        inner[odd] = inner.pop(last)
    else:
        inner[last] = odd
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_text(json.dumps(content))
    try:
        found = read_json(file)
    except InputError as problem:
        message = str(problem)
    else:
        message = shown_in_every_way(found)
    assert message.isprintable()


def shown_in_every_way(found):
    joined = side_by_side({"damaged": found})
    for tables in (
        score_tables, skill_tables, difference_tables, event_tables, fraction_tables,
    ):  # fmt: skip
        tables(joined)
    facts(joined)
    return format_table(joined).replace("\n", "")


def test_a_failed_write_leaves_the_earlier_report(report, tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, report)
    before = path.read_bytes()
    report["settings"]["seed"] = object()
    with pytest.raises(TypeError):
        write_json(path, report)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.json"]
