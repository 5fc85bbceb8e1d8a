"""Plots of intervals, reliability and spectra: what is drawn, read from the figure."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from nowcast.errors import InputError
from nowcast.rendering.curves import write_score_curves
from nowcast.rendering.reliability import write_reliability
from nowcast.rendering.spectra import write_spectra

LEAD_MINUTES = [5, 10, 15, 20, 25]
THRESHOLDS_MM_H = [0.5, 5.0]
WAVELENGTHS_PIXELS = [16.0, 8.0, 4.0]
PROBABILITIES = [0.0, 0.5, 1.0]


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is saved."""
    figures = []
    save = Figure.savefig

    def remember(figure, *arguments, **settings):
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def bounds(values, by=0.1):
    return {"low": (np.asarray(values) - by).tolist(), "high": (np.asarray(values) + by).tolist()}


@pytest.fixture
def report():
    rng = np.random.default_rng(0)

    def some(*shape):
        return rng.uniform(0.2, 0.9, shape).tolist()

    methods = {}
    for name in ("flow", "ensemble"):
        per_lead = {
            "csi": some(5, 2),
            "frequency_bias": some(5, 2),
            **{score: some(5) for score in ("balanced_mse", "balanced_mae", "rmse_mm_h")},
            **{score: some(5, 3) for score in ("power_forecast", "power_ratio")},
            "power_observed": [[3.0, 2.0, 1.0]] * 5,
        }
        methods[name] = {
            "per_lead": per_lead,
            "mean": {"frequency_bias": np.mean(per_lead["frequency_bias"], axis=0).tolist()},
            "coordinates": {},
            "per_lead_interval": {"csi": bounds(per_lead["csi"])},
            "interval": {"frequency_bias": bounds([0.5, 0.6])},
        }
    methods["flow"]["per_lead"]["mae_mm_h"] = some(5)
    methods["ensemble"]["coordinates"] = {"probability": PROBABILITIES}
    methods["ensemble"]["per_lead"] |= {
        "crps_mm_h": some(5),
        "forecast_count": rng.integers(1, 50, (5, 2, 3)).tolist(),
        "observed_frequency": some(5, 2, 3),
        "rank_histogram": rng.integers(1, 50, (5, 3)).tolist(),
    }
    return {
        "lead_minutes": LEAD_MINUTES,
        "thresholds_mm_h": THRESHOLDS_MM_H,
        "coordinates": {"wavelength_pixels": WAVELENGTHS_PIXELS},
        "methods": methods,
    }


def fields_of(figure):
    return {axis.get_title(loc="left"): axis for axis in figure.axes if axis.axison}


def test_intervals_are_bands_around_their_lines(report, drawn, tmp_path):
    write_score_curves(tmp_path / "a.png", report, title="Rain")
    (figure,) = drawn
    axis = fields_of(figure)["CSI, rain ≥ 5 mm/h"]
    assert len(axis.lines) == len(axis.collections) == 2
    for line, band, scores in zip(
        axis.lines, axis.collections, report["methods"].values(), strict=True
    ):
        corners = band.get_paths()[0].vertices
        for lead, minutes in enumerate(LEAD_MINUTES):
            at = corners[corners[:, 0] == minutes, 1]
            csi = scores["per_lead"]["csi"][lead][1]
            np.testing.assert_allclose([at.min(), at.max()], [csi - 0.1, csi + 0.1], rtol=1e-12)
        np.testing.assert_array_equal(band.get_facecolor()[0][:3], to_rgb(line.get_color()))
        assert line.get_zorder() > band.get_zorder()
    assert not fields_of(figure)["B-MSE (sum per frame)"].collections
    assert figure.get_suptitle() == "Rain (bands: intervals)"
    write_reliability(tmp_path / "b.png", {**report, "resampling": {"level": 0.9}})
    assert drawn[1].get_suptitle() == "Bands: 90 % intervals"


def test_the_mae_of_a_single_forecast_stands_beside_the_crps_of_an_ensemble(
    report, drawn, tmp_path
):
    write_score_curves(tmp_path / "a.png", report)
    methods = report["methods"]
    axis = fields_of(drawn[0])["CRPS, of single forecasts MAE (mm/h)"]
    expected = [
        methods["flow"]["per_lead"]["mae_mm_h"],
        methods["ensemble"]["per_lead"]["crps_mm_h"],
    ]
    assert [list(line.get_ydata()) for line in axis.lines] == expected
    del methods["flow"]["per_lead"]["mae_mm_h"]
    write_score_curves(tmp_path / "a.png", report)
    (line,) = fields_of(drawn[1])["CRPS, of single forecasts MAE (mm/h)"].lines
    assert list(line.get_ydata()) == expected[1]
    del methods["ensemble"]["per_lead"]["crps_mm_h"]
    write_score_curves(tmp_path / "a.png", report)
    assert "CRPS, of single forecasts MAE (mm/h)" not in fields_of(drawn[2])


def test_frequency_bias_is_drawn_by_threshold_for_the_mean_and_some_lead_times(
    report, drawn, tmp_path
):
    report["methods"]["flow"]["mean"]["frequency_bias"] = [None, 40.0]
    write_reliability(tmp_path / "new" / "a.png", report, title="$\\frac{")
    (figure,) = drawn
    fields = fields_of(figure)
    for lead, title in (
        (None, "mean over lead times"), (0, "+5 min"), (2, "+15 min"), (4, "+25 min"),
    ):  # fmt: skip
        axis = fields[title]
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        reference, *lines = axis.lines
        assert set(reference.get_ydata()) == {1.0}
        for line, scores in zip(lines, report["methods"].values(), strict=True):
            values = scores["mean"] if lead is None else scores["per_lead"]
            expected = values["frequency_bias"] if lead is None else values["frequency_bias"][lead]
            np.testing.assert_array_equal(line.get_xdata(), THRESHOLDS_MM_H)
            np.testing.assert_array_equal(line.get_ydata(), np.asarray(expected, float))
        low, high = axis.get_ylim()
        assert low < 0.5
        assert high > 40
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG"


def test_events_that_are_never_forecast_are_marked_on_the_lower_edge(report, drawn, tmp_path):
    report["methods"]["flow"]["mean"]["frequency_bias"] = [1.0, 0.0]
    write_reliability(tmp_path / "a.png", report)
    axis = fields_of(drawn[0])["mean over lead times"]
    marks = [tuple(place) for marked in axis.collections for place in marked.get_offsets()]
    assert (THRESHOLDS_MM_H[1], axis.get_ylim()[0]) in marks


def test_reliability_of_an_ensemble_pools_lead_times_by_how_often_each_probability_came(
    report, drawn, tmp_path
):
    ensemble = report["methods"]["ensemble"]["per_lead"]
    ensemble["forecast_count"][0][1] = [0, 0, 3]
    ensemble["observed_frequency"][0][1] = [None, None, 0.5]
    for lead in range(5):
        ensemble["forecast_count"][lead][0][1] = 0
        ensemble["observed_frequency"][lead][0][1] = None
    write_reliability(tmp_path / "a.png", report)
    fields = [axis for axis in drawn[0].axes if axis.axison]
    for place, rate in enumerate(THRESHOLDS_MM_H):
        (above,) = (
            axis for axis in fields if axis.get_title(loc="left") == f"rain ≥ {rate:g} mm/h"
        )
        diagonal, line, base_rate = above.lines
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
        expected, events, pixels = [], 0.0, 0
        for index, probability in enumerate(PROBABILITIES):
            counts = [ensemble["forecast_count"][lead][place][index] for lead in range(5)]
            observed = [ensemble["observed_frequency"][lead][place][index] for lead in range(5)]
            came = sum(n * (o or 0.0) for n, o in zip(counts, observed, strict=True))
            if sum(counts):
                expected.append((probability, came / sum(counts)))
            events, pixels = events + came, pixels + sum(counts)
        np.testing.assert_allclose(line.get_xydata(), expected, rtol=1e-12)
        np.testing.assert_allclose(base_rate.get_ydata(), events / pixels, rtol=1e-12)
    (ranks,) = (axis for axis in fields if axis.get_xlabel() == "members below the observation")
    counts = np.sum(ensemble["rank_histogram"], axis=0)
    heights = [bar.get_height() for bar in ranks.patches]
    np.testing.assert_allclose(heights, 3 * counts / counts.sum(), rtol=1e-12)


def test_without_an_ensemble_only_the_frequency_bias_is_drawn(report, drawn, tmp_path):
    del report["methods"]["ensemble"]
    write_reliability(tmp_path / "a.png", report)
    assert len(drawn[0].axes) == 4
    report["lead_minutes"] = [5]
    report["methods"]["flow"]["per_lead"]["frequency_bias"] = [[0.0, math.nan]]
    write_reliability(tmp_path / "a.png", report)
    assert len(drawn[1].axes) == 2


@pytest.mark.parametrize(("spacing_km", "unit"), [(None, "pixels"), (2.5, "km")])
def test_spectra_stand_over_wavelength_beside_what_was_observed(
    report, drawn, tmp_path, spacing_km, unit
):
    write_spectra(tmp_path / "a.png", report, grid_spacing_km=spacing_km)
    (figure,) = drawn
    above, below = figure.axes[:4], figure.axes[4:]
    assert [axis.get_title(loc="left") for axis in above] == [
        "+5 min", "+10 min", "+20 min", "+25 min",
    ]  # fmt: skip
    for lead, power, ratio in zip((0, 1, 3, 4), above, below, strict=True):
        observed, *lines = power.lines
        assert list(observed.get_ydata()) == [3.0, 2.0, 1.0]
        expected = np.multiply(WAVELENGTHS_PIXELS, spacing_km or 1)
        for line, of_ratio, scores in zip(
            lines, ratio.lines[1:], report["methods"].values(), strict=True
        ):
            np.testing.assert_array_equal(line.get_xdata(), expected)
            assert list(line.get_ydata()) == scores["per_lead"]["power_forecast"][lead]
            assert list(of_ratio.get_ydata()) == scores["per_lead"]["power_ratio"][lead]
        assert (power.get_xscale(), power.get_yscale()) == ("log", "log")
        left, right = power.get_xlim()
        assert left > right
        assert ratio.get_xlabel() == f"wavelength ({unit})"
    assert len({axis.get_ylim() for axis in above}) == len({axis.get_ylim() for axis in below}) == 1
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["observed", "flow", "ensemble"]


def test_methods_without_spectra_are_left_out_and_zero_power_leaves_a_gap(report, drawn, tmp_path):
    del report["methods"]["ensemble"]["per_lead"]["power_forecast"]
    report["methods"]["flow"]["per_lead"]["power_forecast"][0] = [1.0, 0.0, None]
    write_spectra(tmp_path / "a.png", report)
    assert len(drawn[0].axes[0].lines) == 2
    assert all(math.isfinite(value) for value in drawn[0].axes[0].get_ylim())


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(report, tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="grid spacing: found 0 km"):
        write_spectra(path, report, grid_spacing_km=0)
    report["methods"]["flow"]["per_lead"]["power_ratio"] = [[1.0]]
    with pytest.raises(
        InputError, match=r"power_ratio of flow: found shape \(1, 1\), expected \(5"
    ):
        write_spectra(path, report)
    report["methods"]["ensemble"]["per_lead"]["rank_histogram"].pop()
    with pytest.raises(InputError, match=r"rank_histogram of ensemble: found shape \(4, 3\)"):
        write_reliability(path, report)
    del report["methods"]["flow"]["per_lead"]["frequency_bias"]
    with pytest.raises(InputError, match=r"frequency_bias of flow: found shape \(0,\)"):
        write_reliability(path, report)
    report["methods"]["flow"]["per_lead_interval"]["csi"]["low"].pop()
    with pytest.raises(InputError, match=r"csi of flow: found shape \(4, 2\)"):
        write_score_curves(path, report)
    for write in (write_reliability, write_spectra):
        with pytest.raises(InputError, match="found no method"):
            write(path, {**report, "methods": {}})
    assert list(tmp_path.iterdir()) == []
