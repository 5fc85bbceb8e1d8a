"""Our optical flow beside pysteps' Lucas–Kanade extrapolation on real events, as measured."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nowcast.benchmarks.flow import OURS, THEIRS, mean_csi, measure_flow
from nowcast.benchmarks.report import time_ratios
from nowcast.errors import InputError

EVENTS = ("knmi_20100826", "fmi_20160928")


def _skip_without_pysteps():
    # Not imported here: that prints, and it is the benchmark's to keep it quiet.
    if importlib.util.find_spec("pysteps") is None:
        pytest.skip("needs pysteps: it is what is compared with")


@pytest.fixture(scope="module")
def measured(shared):
    _skip_without_pysteps()
    folder = shared / "real-radar" / "events"
    return measure_flow(tuple(folder / f"{event}.nc" for event in EVENTS), at_most=1)


@pytest.mark.slow
def test_it_is_not_worse_than_lucas_kanade_on_any_event(measured):
    # The first start of each event; all of them are for the benchmark.
    for event in EVENTS:
        mean = measured.facts[f"{event}, mean of 1 starts"]
        assert min(mean["difference"]) > -0.005
        assert mean["verdict"] == "worse by more than 0.01: nowhere"


@pytest.mark.slow
def test_pysteps_scores_are_those_of_an_independent_measurement(measured):
    # FMI 2016-09-28 15:05 UTC, pysteps called and scored outside of the project.
    first = measured.facts["fmi_20160928 2016-09-28T15:05"]
    assert first[THEIRS] == pytest.approx([0.4900, 0.2133, 0.1006], abs=2e-4)
    assert first["difference"] == pytest.approx(
        np.subtract(first[OURS], first[THEIRS]), abs=1.01e-4
    )


@pytest.mark.slow
def test_both_are_timed_in_the_same_rounds(measured):
    ours = [row for row in measured.rows if row.compared_with is not None]
    assert [row.name for row in ours] == [f"{event}, 1 starts: {OURS}" for event in EVENTS]
    assert all(len(time_ratios(measured, row)) == 1 for row in ours)


@pytest.fixture
def event(tmp_path):
    """A made-up event file of showers in motion, 9 frames with a gap after the third."""

    def write(name="made_up", frames=9):
        y, x = np.mgrid[:64, :80].astype(np.float64)
        minutes = np.arange(frames) * 5 + np.where(np.arange(frames) > 2, 5, 0)
        rates = np.stack(
            [
                8 * np.exp(-((x - 20 - 0.4 * t) ** 2 + (y - 30) ** 2) / 60)
                + 6 * np.exp(-((x - 40 - 0.4 * t) ** 2 + (y - 20) ** 2) / 90)
                for t in minutes
            ]
        )
        rates[:, :, 70:] = np.nan
        field = xr.DataArray(
            rates.astype(np.float32),
            dims=("time", "y", "x"),
            coords={
                "time": np.datetime64("2020-06-01T12:00", "ns") + minutes * np.timedelta64(60, "s"),
                "y": ("y", 1000.0 * np.arange(64)[::-1], {"units": "m"}),
                "x": ("x", 1000.0 * np.arange(80), {"units": "m"}),
            },
            attrs={"units": "mm h-1", "standard_name": "rainfall_rate"},
        )
        path = tmp_path / f"{name}.nc"
        field.to_dataset(name="rain_rate").to_netcdf(path, engine="h5netcdf")
        return path

    return write


def test_every_start_without_a_gap_is_listed(event, capfd):
    _skip_without_pysteps()
    report = measure_flow((event(),), input_frames=3, lead_times=2)
    starts = [name for name in report.facts if re.match(r"made_up \d", name)]
    assert starts == ["made_up 2020-06-01T12:30", "made_up 2020-06-01T12:35"]
    own = np.array([report.facts[name][OURS] for name in starts], float)
    mean = report.facts["made_up, mean of 2 starts"]
    np.testing.assert_allclose(mean[OURS], own.mean(axis=0), atol=6e-5)
    assert min(mean[OURS]) > 0.8
    theirs, ours = report.rows
    assert (len(theirs.seconds), len(ours.seconds), ours.compared_with) == (2, 2, theirs.name)
    assert report.settings["lead_times"] == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Warning" not in captured.err


def test_starts_are_spread_evenly(event):
    _skip_without_pysteps()
    report = measure_flow((event(frames=13),), input_frames=2, lead_times=1, at_most=3)
    minutes = [name[-5:] for name in report.facts if re.match(r"made_up \d", name)]
    # Frames at 12:00 to 12:10 and from 12:20 on.
    assert minutes == ["12:05", "12:40", "13:00"]


def test_a_miss_is_marked(event, monkeypatch):
    _skip_without_pysteps()

    class Standing:
        def forecast(self, frames, lead_times):
            return frames[:, -1:].nan_to_num().repeat(1, lead_times, 1, 1, 1)

    monkeypatch.setattr("nowcast.benchmarks.flow.OpticalFlow", Standing)
    report = measure_flow((event(),), input_frames=3, lead_times=2, thresholds_mm_h=(0.5, 200.0))
    mean = report.facts["made_up, mean of 2 starts"]
    assert mean["verdict"] == "MISS, worse by more than 0.01: 0.5 mm/h"
    # What neither reaches is not defined, and no miss.
    assert mean[OURS][1] is mean[THEIRS][1] is mean["difference"][1] is None


def test_csi_is_that_of_the_contingency_table_of_what_was_observed():
    random = np.random.default_rng(3)
    forecast, truth = random.gamma(0.5, 3, (2, 4, 30, 40)).astype(np.float32)
    forecast[:, :5], truth[:, :, 30:] = np.nan, np.nan
    truth[0], forecast[0] = 0, 0
    truth[1, 10, 10] = forecast[1, 10, 10] = 2.0
    expected = []
    for threshold in (0.5, 2.0, 50.0):
        by_lead = []
        for said, was in zip(forecast, truth, strict=True):
            seen = ~np.isnan(was)
            yes = np.r_[np.nan_to_num(said)[seen] >= threshold, True, False, True, False]
            happened = np.r_[was[seen] >= threshold, True, True, False, False]
            table = stats.contingency.crosstab(yes, happened).count - 1
            if table.sum() > table[0, 0]:
                by_lead.append(table[1, 1] / (table.sum() - table[0, 0]))
        expected.append(np.mean(by_lead) if by_lead else np.nan)
    np.testing.assert_allclose(mean_csi(forecast, truth, (0.5, 2.0, 50.0)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"events": ()}, "found 0 events"),
        ({"input_frames": 1}, "input_frames=1"),
        ({"lead_times": 0}, "lead_times=0"),
        ({"at_most": 0}, "at_most=0"),
        ({"thresholds_mm_h": ()}, "0 thresholds"),
        ({"lead_times": 9}, "made_up.nc: found 9 frames, expected 12 without a gap"),
    ],
)
def test_unfit_settings_are_refused_in_one_line(event, settings, message):
    with pytest.raises(InputError) as refused:
        measure_flow(**{"events": (event(),), "input_frames": 3, "lead_times": 2, **settings})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_event_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.nc"):
        measure_flow((tmp_path / "nothing.nc",))


def test_without_pysteps_it_says_how_to_install_it(event, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysteps", None)
    with pytest.raises(InputError, match=r"pip install 'nowcast\[pysteps\]'"):
        measure_flow((event(),), input_frames=3, lead_times=2)
