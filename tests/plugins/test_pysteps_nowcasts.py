"""Our methods called as pysteps calls its own: the same forecasts, in pysteps' units and words."""

import importlib.util
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_rain import rain_at

import nowcast
from nowcast.errors import InputError
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.rover import Rover
from nowcast.plugins.pysteps_nowcasts import convgru, dis_flow, dis_flow_inflow, rover
from nowcast.plugins.pysteps_values import FieldValues
from nowcast.radar.units import ZRRelation

needs_pysteps = pytest.mark.skipif(
    importlib.util.find_spec("pysteps") is None, reason="pysteps is not installed"
)
FMI = ZRRelation(223.0, 1.53)


def as_frames(values, units="mm/h", step_minutes=5):
    times = np.datetime64("2020-01-01", "ns") + np.timedelta64(step_minutes, "m") * np.arange(
        len(values)
    )
    return xr.DataArray(
        values, dims=("time", "y", "x"), coords={"time": times}, attrs={"units": units}
    )


def shower(column, row, size=80, width=5.0):
    y, x = np.mgrid[:size, :size]
    return 20 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * width**2))


def moving(frames=5, per_step=(4.0, -2.0)):
    """A shower that moves by so many columns and rows per step, at (30, 45) in the last frame."""
    ago = np.arange(frames - 1, -1, -1)
    return np.stack([shower(30 - n * per_step[0], 45 - n * per_step[1]) for n in ago])


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        (dis_flow, OpticalFlow()),
        (dis_flow_inflow, OpticalFlow(inflow="edge")),
        (rover, Rover("arctangent")),
    ],
)
def test_flows_are_those_of_nowcast_forecast_bit_for_bit(observed, method, ours):
    values = observed[:5].to_numpy()
    expected = nowcast.forecast(ours, observed[:5], 3)["rain_rate"].to_numpy()
    found = method(values, None, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert (expected[-1] > 0.5).mean() > 0.05
    velocity = np.full((2, *values.shape[1:]), 7.0)
    np.testing.assert_array_equal(method(values, velocity, 3), expected)


def test_the_network_in_mm_per_hour_bit_for_bit(observed, network):
    expected = nowcast.forecast(network, observed[:5], 4)["rain_rate"].to_numpy()
    found = convgru(observed[:5].to_numpy().astype(np.float64), None, 4)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)
    # More frames than it has seen in training make no difference.
    np.testing.assert_array_equal(convgru(observed[:5].to_numpy(), None, 4, timestep=5), expected)
    later = nowcast.forecast(network, observed[:9], 1)["rain_rate"].to_numpy()
    np.testing.assert_array_equal(convgru(observed[:9].to_numpy(), None, 1), later)


def test_amounts_bit_for_bit(observed, network):
    # Over 7.5 minutes, so that the factor, 8, is exact in binary numbers.
    expected = nowcast.forecast(network, observed[:5], 2)["rain_rate"].to_numpy() / 8
    found = convgru(observed[:5].to_numpy().astype(float) / 8, None, 2, unit="mm", accutime=7.5)
    np.testing.assert_array_equal(found, expected)


def test_amounts_are_over_the_time_step_where_nothing_else_is_said(observed):
    rates = observed[:5].to_numpy().astype(float)
    for keywords in ({"timestep": 5}, {"accutime": 5}, {"timestep": 10, "accutime": 5}):
        found = dis_flow(rates / 12, None, 2, unit="mm", **keywords)
        np.testing.assert_allclose(found * 12, dis_flow(rates, None, 2), rtol=1e-5, atol=1e-6)
    # A network knows its own.
    np.testing.assert_array_equal(
        convgru(rates / 12, None, 1, unit="mm"), convgru(rates / 12, None, 1, unit="mm", accutime=5)
    )


@pytest.mark.parametrize("transform", [None, "dB"])
def test_reflectivity_bit_for_bit(observed, network, transform):
    with np.errstate(divide="ignore"):
        dbz = FMI.rain_rate_to_dbz(observed[:5].to_numpy().astype(float))
    dbz[dbz < -10] = -32.0
    rates = nowcast.forecast(network, as_frames(dbz, "dBZ"), 2, relation=FMI)["rain_rate"]
    with np.errstate(divide="ignore"):
        expected = 223 * rates.to_numpy().astype(float) ** 1.53
        expected = 10 * np.log10(expected)
    found = convgru(
        dbz, None, 2, unit="dBZ", transform=transform, zr_a=223, zr_b=1.53, zerovalue=-32.0
    )
    # Bit for bit before dBZ are made of it, which is written out in another way here.
    np.testing.assert_allclose(found, np.where(rates == 0, -32.0, expected), rtol=0, atol=1e-11)
    assert 0 < (found == -32.0).mean() < 0.5


def test_decibels_of_rain_rate_bit_for_bit(observed, network):
    rates = observed[:5].to_numpy().astype(float)
    rates[rates < 0.1] = 0.0
    decibels = np.where(rates > 0, 10 * np.log10(np.where(rates > 0, rates, 1)), -15.0)
    seen = np.where(decibels == -15.0, 0.0, 10.0 ** (decibels / 10.0))
    forecast = nowcast.forecast(network, as_frames(seen), 2)["rain_rate"].to_numpy().astype(float)
    expected = 10 * np.log10(np.maximum(forecast, 1e-3))
    expected[expected < -10] = -15.0
    found = convgru(decibels, None, 2, transform="dB")
    np.testing.assert_array_equal(found, expected)
    assert (found == -15.0).any()
    assert (found > 0).any()


@needs_pysteps
@pytest.mark.parametrize("unit", ["mm/h", "mm", "dBZ"])
def test_pysteps_reads_our_values_as_we_mean_them(observed, unit):
    from pysteps.utils import conversion, transformation

    metadata = {
        "unit": "mm/h", "transform": None, "accutime": 5.0, "threshold": 0.1, "zerovalue": 0.0,
        "zr_a": 223.0, "zr_b": 1.53,
    }  # fmt: skip
    rates = observed[:5].to_numpy().astype(float)
    rates[rates < 0.1] = 0.0
    change = {
        "mm/h": transformation.dB_transform,
        "mm": conversion.to_raindepth,
        "dBZ": conversion.to_reflectivity,
    }[unit]
    values, described = change(rates.copy(), metadata)
    assert described["unit"] == unit
    assert described["transform"] == (None if unit == "mm" else "dB")
    found, _ = conversion.to_rainrate(dis_flow(values, None, 3, metadata=described), described)
    expected = dis_flow(rates, None, 3)
    # pysteps takes what is below its threshold for no rain.
    rainy = expected > 0.11
    assert rainy.mean() > 0.1
    np.testing.assert_allclose(found[rainy], expected[rainy], rtol=2e-5)
    assert found[expected < 0.09].max() < (0.1 if unit == "mm" else 1e-12)


def test_keywords_stand_above_metadata(observed):
    rates = observed[:5].to_numpy()
    wrong = {"unit": "mm", "accutime": 60.0, "transform": None, "projection": "anything"}
    found = dis_flow(rates, None, 1, metadata=wrong, unit="mm/h")
    np.testing.assert_array_equal(found, dis_flow(rates, None, 1))
    # A threshold in mm/h is none in decibels.
    linear = {"unit": "mm/h", "transform": None, "threshold": 0.1, "zerovalue": 0.0}
    decibels = np.where(rates >= 0.1, 10 * np.log10(np.maximum(rates, 0.1)), -15.0)
    found = dis_flow(decibels, None, 1, metadata=linear, transform="dB")
    np.testing.assert_array_equal(found, dis_flow(decibels, None, 1, transform="dB"))
    assert ((found > -10) & (found < 0)).mean() > 0.05


def test_a_field_upside_down_is_turned_round_and_back(observed):
    rates = observed[:5].to_numpy()
    lower = dis_flow(rates[:, ::-1], None, [1, 1.5], metadata={"yorigin": "lower"})
    np.testing.assert_array_equal(lower[:, ::-1], dis_flow(rates, None, [1, 1.5]))


@settings(deadline=None)
@given(
    rate=st.floats(0.2, 200),
    unit=st.sampled_from(["mm/h", "mm", "dBZ"]),
    transform=st.sampled_from([None, "dB"]),
    minutes=st.sampled_from([1.0, 2.5, 5.0, 60.0]),
)
def test_values_come_back_from_all_kinds(rate, unit, transform, minutes):
    kind = FieldValues.described(
        {"unit": unit, "transform": transform, "accutime": minutes, "zr_a": 200, "zr_b": 1.6,
         "threshold": -40, "zerovalue": -45}
    )  # fmt: skip
    values = kind.of_rain_rate(np.array([[rate, 0.0, np.nan]]))
    assert values[0, 1] == (-45 if kind.decibels else 0)
    found, units = kind.to_frames(values)
    # Independent: Z = 200 R^1.6.
    back = (10 ** (found / 10) / 200) ** (1 / 1.6) if units == "dBZ" else found
    np.testing.assert_allclose(back, [[rate, 0.0, np.nan]], rtol=1e-12)


def test_whole_steps_of_a_list_are_those_of_a_number(observed):
    rates = observed[:5].to_numpy()
    all_of_them = convgru(rates, None, 4)
    np.testing.assert_array_equal(convgru(rates, None, [1, 3.0, 4]), all_of_them[[0, 2, 3]])
    np.testing.assert_array_equal(convgru(rates, None, np.array([2])), all_of_them[[1]])
    mixed = convgru(rates, None, [0.5, 1, 1.25, 2, 3.5, 4])
    np.testing.assert_array_equal(mixed[[1, 3, 5]], all_of_them[[0, 1, 3]])
    missing = np.isnan(mixed).mean(axis=(1, 2))
    assert (np.diff(missing) > 0).all()
    assert 0.005 < missing[0] < missing[-1] < 0.3
    assert np.isfinite(convgru(rates, None, [0.5, 1, 3.5], coverage="stays")).all()


@pytest.mark.parametrize("method", [dis_flow, convgru])
def test_between_steps_a_shower_is_where_it_has_moved(method):
    times = [0.25, 0.5, 1.5, 2.75]
    found = method(moving(), None, times)
    y, x = np.mgrid[:80, :80]
    for field, ahead in zip(found, times, strict=True):
        # Centre of mass: no crossfade would tell it from motion, but how wide the shower is.
        weight = np.nan_to_num(field) / np.nansum(field)  # It is far from where air comes in.
        centre = np.array([(weight * x).sum(), (weight * y).sum()])
        np.testing.assert_allclose(centre, (30 + 4 * ahead, 45 - 2 * ahead), atol=0.6)
        spread = np.sqrt((weight * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)).sum() / 2)
        assert 4.5 < spread < 5.8


def test_between_steps_real_rain_is_better_known_than_by_a_mean_of_both(observed):
    # What 10-minute frames know of the time between them, on real rain.
    ten = observed[:9:2].to_numpy()
    between = dis_flow(ten, None, [0.5, 1.5, 2.5])
    truth = observed[[9, 11, 13]].to_numpy()
    whole = np.concatenate([ten[-1:], dis_flow(ten, None, 3)])
    crossfaded = np.stack([(a + b) / 2 for a, b in pairwise(whole)])
    known = ~np.isnan(between) & ~np.isnan(crossfaded)
    assert known.mean() > 0.75
    ours, theirs = (np.abs(field - truth)[known].mean() for field in (between, crossfaded))
    assert ours < 0.97 * theirs


@pytest.mark.parametrize("coverage", ["moves", "stays"])
@pytest.mark.parametrize(
    ("method", "ours"),
    [(convgru, "convgru-5min"), (dis_flow, OpticalFlow()), (rover, Rover("arctangent"))],
)
def test_coverage_is_that_of_nowcast_forecast(observed, method, ours, coverage):
    frames = observed[:5].copy()
    frames[:, :, :20] = np.nan
    frames[2:, 70:80, 90:110] = np.nan
    model = nowcast.load(ours) if isinstance(ours, str) else ours
    expected = nowcast.forecast(model, frames, 3, coverage=coverage)["rain_rate"].to_numpy()
    found = method(frames.to_numpy(), None, 3, coverage=coverage)
    np.testing.assert_array_equal(found, expected)
    now = np.isnan(frames[-1].to_numpy())
    assert (np.isnan(found) == now).all() == (coverage == "stays")


@pytest.mark.parametrize("method", [convgru, dis_flow, dis_flow_inflow])
def test_between_steps_what_is_missing_has_moved_on_with_the_air(method):
    """Showers go 3 pixels to the right and 1 down in a step; so does what is not observed."""
    rates = rain_at(0, 5, 10, 15, 20).to_numpy()
    times = np.array([0.25, 0.5, 1.5, 2.5, 3.25])
    for field, ahead in zip(np.isnan(method(rates, None, times)), times, strict=True):
        assert np.median(field.sum(axis=1)) == pytest.approx(3 * ahead, abs=1.01)
        assert np.median(field.sum(axis=0)) == pytest.approx(ahead, abs=1.01)


@pytest.mark.parametrize("method", [convgru, dis_flow, dis_flow_inflow])
def test_between_steps_no_more_and_no_less_is_missing_than_before_and_after(method):
    rates = rain_at(0, 5, 10, 15, 20).to_numpy()
    rates[:, :, :40] = np.nan
    rates[:, 70:90, 80:110] = np.nan
    times = np.arange(0.25, 3.1, 0.25)
    missing = np.isnan(method(rates, None, times))
    whole = np.stack([np.isnan(rates[-1]), *missing[times % 1 == 0]])
    for field, ahead in zip(missing, times, strict=True):
        before, after = whole[int(ahead)], whole[int(np.ceil(ahead))]
        assert (field & ~before & ~after).mean() < 0.005
        assert (~field & before & after).mean() < 0.005
    stays = np.isnan(method(rates, None, times, coverage="stays"))
    np.testing.assert_array_equal(stays, np.broadcast_to(whole[0], stays.shape))


def test_no_data_stays_where_the_last_frame_has_none(observed):
    rates = observed[:6].to_numpy().copy()
    rates[5, :10] = np.nan
    rates[3, 20:30] = np.nan
    for values in (rates, np.ma.masked_invalid(rates)):
        for times in (2, [0.5, 1]):
            found = convgru(values, None, times, coverage="stays")
            assert type(found) is np.ndarray
            assert np.isnan(found[:, :10]).all()
            assert np.isfinite(found[:, 10:]).all()


@pytest.mark.parametrize("method", [convgru, dis_flow, dis_flow_inflow, rover])
@pytest.mark.parametrize(
    ("dry", "keywords"),
    [
        (0.0, {}),
        (-15.0, {"transform": "dB"}),
        (-20.0, {"transform": "dB", "threshold": -12.0, "zerovalue": -20.0}),
        (-15.0, {"unit": "dBZ", "zr_a": 200, "zr_b": 1.6}),
    ],
)
def test_no_rain_stays_none(method, dry, keywords):
    found = method(np.full((5, 30, 40), dry), None, [0.5, 1, 2], **keywords)
    np.testing.assert_array_equal(found, np.full((3, 30, 40), dry))


@needs_pysteps
@pytest.mark.parametrize("method", [convgru, dis_flow, rover])
@pytest.mark.parametrize("frames", [slice(None), slice(-1, None)])
def test_without_data_in_the_last_frame_there_is_no_forecast_as_in_pysteps(method, frames):
    """S-PROG gives fields without data for no data at all; STEPS says that there is no rain."""
    from pysteps.nowcasts.extrapolation import forecast as extrapolation

    precip = np.ones((5, 30, 40))
    precip[frames] = np.nan
    for keywords in ({}, {"unit": "dBZ", "zr_a": 200, "zr_b": 1.6}):
        with pytest.raises(InputError, match="precip: found no data in the last frame, expected"):
            method(precip, None, [0.5, 1], **keywords)
    with pytest.raises(ValueError, match="only non-finite values"):
        extrapolation(precip[-1], np.zeros((2, 30, 40)), 1)


def test_time_is_measured_as_in_sprog(observed):
    forecast, prepared, forecasting = dis_flow(
        observed[:5].to_numpy(), None, 2, measure_time=True, seed=3, kmperpixel=1.0
    )
    assert forecast.shape == (2, 160, 160)
    assert prepared > 0
    assert forecasting > 0


def test_a_checkpoint_of_ones_own_is_loaded_again_when_it_changes(observed, tmp_path, network):
    from nowcast.models.checkpoint import export
    from nowcast.models.weights_file import write_weights

    rates, path = observed[:5].to_numpy(), tmp_path / "mine.safetensors"
    export("convgru-5min", path)
    np.testing.assert_array_equal(
        convgru(rates, None, 1, checkpoint=path), convgru(rates, None, 1, checkpoint="convgru-5min")
    )
    state = {f"network.{k}": v * 0 for k, v in network.network.state_dict().items()}
    write_weights(path, network.description.as_entry(), state)
    other = nowcast.forecast(nowcast.load(path), observed[:5], 1)["rain_rate"].to_numpy()
    np.testing.assert_array_equal(convgru(rates, None, 1, checkpoint=str(path)), other)
    assert not np.array_equal(other, convgru(rates, None, 1))


WRONG = [
    (np.zeros((30, 30)), 3, {}, r"found one frame, \(y, x\)"),
    (np.zeros((4, 30, 30)), 3, {}, "found 4 frames every 5 minutes, expected at least 5"),
    (np.zeros((5, 30)), 3, {}, "found one frame"),
    (np.zeros((2, 5, 30, 30)), 3, {}, r"found shape \(2, 5, 30, 30\), expected"),
    (np.zeros((5, 0, 30)), 3, {}, r"found shape \(5, 0, 30\)"),
    (np.full((5, 30, 30), "a"), 3, {}, "found values of type <U1"),
    (np.full((5, 30, 30), 1j), 3, {}, "found values of type complex128"),
    (np.full((5, 30, 30), -15.0), 3, {}, "found -15 as mm/h without transform, expected 0 or more"),
    (np.full((5, 30, 30), np.inf), 3, {}, "found inf as mm/h"),
    (np.full((5, 30, 30), 50.0), 3, {"transform": "dB"}, "found 50 as dB of mm/h, expected at mo"),
    (np.full((5, 30, 30), 1e5), 3, {"unit": "dBZ", "zr_a": 200, "zr_b": 1.6}, "found 100000 as"),
    (np.zeros((5, 30, 30)), 3, {"unit": "dBZ"}, "found zr_a=None for dBZ, expected the Z–R"),
    (np.zeros((5, 30, 30)), 3, {"unit": "dBZ", "zr_a": 200, "zr_b": -1}, "found zr_b=-1 for dBZ"),
    (np.zeros((5, 30, 30)), 3, {"unit": "mm", "accutime": 0}, "found accutime=0 for mm"),
    (np.zeros((5, 30, 30)), 3, {"unit": "mm h-1"}, "found unit 'mm h-1', expected one of mm/h"),
    (np.zeros((5, 30, 30)), 3, {"transform": "BoxCox"}, "found transform 'BoxCox', expected None"),
    (np.zeros((5, 30, 30)), 0, {}, "timesteps: found 0, expected at least 1"),
    (np.zeros((5, 30, 30)), True, {}, "timesteps: found True"),
    (np.zeros((5, 30, 30)), 2.5, {}, "timesteps: found 2.5"),
    (np.zeros((5, 30, 30)), [], {}, r"timesteps: found \[\]"),
    (np.zeros((5, 30, 30)), [3, 2, 1], {}, r"timesteps: found \[3, 2, 1\], expected ascending"),
    (np.zeros((5, 30, 30)), [0, 1], {}, r"timesteps: found \[0, 1\]"),
    (np.zeros((5, 30, 30)), [1, np.nan], {}, "timesteps: found"),
    (np.zeros((5, 30, 30)), "3", {}, "timesteps: found '3'"),
    (np.zeros((5, 30, 30)), 3, {"timestep": 15.5}, "found 15.5 minutes, expected at most 15: the"),
    (np.zeros((2, 30, 30)), 3, {"timestep": 10}, "found 2 frames every 10 minutes, expected at le"),
    (np.zeros((5, 30, 30)), 3, {"coverage": "goes"}, "coverage: found 'goes', expected moves or"),
    (np.zeros((5, 30, 30)), 3, {"n_ens_members": 0}, "n_ens_members: found 0, expected a whole"),
    (np.zeros((5, 30, 30)), 3, {"n_ens_members": 2.0}, "n_ens_members: found 2.0, expected a whol"),
    (np.zeros((5, 30, 30)), 3, {"seed": -1}, "seed: found -1, expected a whole number from 0 on"),
    (np.zeros((5, 30, 30)), 3, {"timestep": -5}, "timestep: found -5, expected more than 0"),
    (np.zeros((5, 30, 30)), 3, {"timestep": "5"}, "timestep: found '5', expected more than 0"),
    (np.zeros((5, 30, 30)), 3, {"kmperpixel": 0}, "kmperpixel: found 0, expected more than 0"),
    (np.zeros((5, 30, 30)), 3, {"checkpoint": "none"}, "none: found no file, expected a check"),
    (np.zeros((5, 30, 30)), 3, {"device": "abacus"}, "abacus"),
]  # fmt: skip


@pytest.mark.parametrize(("precip", "timesteps", "keywords", "message"), WRONG)
def test_what_cannot_be_forecast_is_said_in_one_line(precip, timesteps, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        convgru(precip, None, timesteps, **keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((30, 30), "found one frame"), ((1, 30, 30), "found 1, expected at least 2"),
     ((5, 30, 8), "12 pixels on each side")],
)  # fmt: skip
def test_optical_flow_needs_frames_and_pixels(shape, message):
    with pytest.raises(InputError, match=message):
        dis_flow(np.zeros(shape), None, 1)


def test_amounts_without_a_time_are_refused():
    with pytest.raises(InputError, match="found accutime=None for mm, expected over how many"):
        dis_flow(np.zeros((5, 30, 30)), None, 1, unit="mm")


def test_keywords_that_nobody_knows_are_refused():
    with pytest.raises(TypeError, match="untis"):
        convgru(np.zeros((5, 30, 30)), None, 1, untis="mm/h")


@needs_pysteps
def test_verification_of_pysteps_takes_our_forecasts(observed):
    """Scores of pysteps beside their definitions; 30 minutes ahead of observed rain."""
    from pysteps import verification

    rates, truth = observed[:5].to_numpy().astype(float), observed[10].to_numpy().astype(float)
    forecast = convgru(rates, None, 6)[-1]
    found = verification.det_cat_fct(forecast, truth, 2.0, ["CSI", "POD"])
    yes, rain = forecast > 2, truth > 2
    hits = (yes & rain).sum()
    assert found["CSI"] == pytest.approx(hits / (yes | rain).sum(), rel=1e-12)
    assert found["POD"] == pytest.approx(hits / rain.sum(), rel=1e-12)
    persistence = verification.det_cat_fct(rates[-1], truth, 2.0, ["CSI"])
    assert found["CSI"] > persistence["CSI"]
    # Where the forecast is missing, errors leave it out, and the table counts no rain: without
    # observations there, neither hits, misses nor false alarms.
    known = ~np.isnan(forecast)
    assert 0.6 < known.mean() < 0.9
    error = verification.det_cont_fct(forecast, truth, ["MAE"])["MAE"]
    assert error == pytest.approx(np.abs(forecast - truth)[known].mean(), rel=1e-12)
    assert error < np.abs(rates[-1] - truth)[known].mean()
    left = verification.det_cat_fct(forecast, np.where(known, truth, np.nan), 2.0, ["CSI", "POD"])
    assert left["CSI"] == pytest.approx(hits / (yes | rain)[known].sum(), rel=1e-12)
    assert left["POD"] == pytest.approx(hits / rain[known].sum(), rel=1e-12)
    assert left["POD"] > 1.05 * found["POD"]
    fss = verification.get_method("FSS")(forecast, truth, 2.0, 8)
    assert found["CSI"] < fss < 1
