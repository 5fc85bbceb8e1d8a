"""Units, time, grid and coverage on the way from frames to forecast and back."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import nowcast
from nowcast.errors import InputError
from nowcast.inference import load
from nowcast.models.checkpoint import KEY, PREFIX, Description, TrainedNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster, NetworkSettings
from nowcast.models.ensembles import PerturbedInputs, SeveralMethods
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.radar.units import ZRRelation

# What is missing because the air moves is tested apart.
forecast = functools.partial(nowcast.forecast, coverage="stays")

START = np.datetime64("2020-06-01T12:00", "ns")


def as_frames(values, units="mm h-1", step_minutes=6, **coordinates):
    values = np.asarray(values)
    step = np.timedelta64(step_minutes, "m")
    return xr.DataArray(
        values,
        dims=("time", "y", "x"),
        coords={"time": START + step * np.arange(len(values)), **coordinates},
        attrs={"units": units},
    )


def rain(frames=5, height=30, width=30, seed=0):
    """Rain rates in mm/h between 0.02, which has a pixel value above 0, and 200."""
    random = np.random.default_rng(seed)
    return 10 ** random.uniform(np.log10(0.02), np.log10(200), (frames, height, width))


def trained(coordinates=False):
    torch.manual_seed(1)
    shape = NetworkSettings(
        hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6), coordinates=coordinates
    )
    network = EncoderForecaster(shape).eval()
    # Raised, so that the forecasts of an untrained network are not all dry.
    network.forecaster.head[-1].bias.data.fill_(0.5)
    about = {"step_minutes": 6, "input_frames": 5, "lead_times": 20, "frame_shape": (30, 30)}
    return TrainedNetwork(network, Description(shape, **about, inhibition=None, run={}))


def as_rain_rate(pixel):
    """Rain rate of a pixel value, written out from dBZ = 70 p − 10 = 10 lg 58.53 + 15.6 lg R."""
    pixel = np.asarray(pixel, np.float64)
    return np.where(pixel > 0, 10 ** ((70 * pixel - 10 - 10 * np.log10(58.53)) / 15.6), 0)


class Constant:
    """Forecasts one pixel value and remembers what it was given."""

    def __init__(self, pixel):
        self.pixel = pixel

    def forecast(self, frames, lead_times):
        self.seen = frames
        return frames.new_full((len(frames), lead_times, *frames.shape[2:]), self.pixel)


@pytest.mark.parametrize("units", ["mm h-1", "mm/h"])
def test_persistence_returns_the_last_rain_rates(units):
    rates = rain()
    rates[-1, 3, 4] = 0.0
    result = forecast(Persistence(), as_frames(rates, units), 3)
    assert result["rain_rate"].dims == ("lead_time", "y", "x")
    assert result["rain_rate"].dtype == np.float32
    np.testing.assert_allclose(result["rain_rate"], np.stack(3 * [rates[-1]]), rtol=3e-6)
    assert result["rain_rate"][0, 3, 4] == 0


@given(reflectivity_dbz=st.floats(10, 60), a=st.floats(100, 400), b=st.floats(1.2, 2.0))
@settings(max_examples=50, deadline=None)
def test_reflectivity_becomes_rain_rate_by_its_own_relation(reflectivity_dbz, a, b):
    frames = as_frames(np.full((2, 3, 3), reflectivity_dbz), "dBZ")
    expected = (10 ** (reflectivity_dbz / 10) / a) ** (1 / b)
    # Pixel values end at 60 dBZ of the HKO-7 relation and at −10 dBZ.
    expected = np.clip(expected, 0, as_rain_rate(1.0)) if expected > as_rain_rate(1e-9) else 0
    result = forecast(Persistence(), frames, 1, relation=ZRRelation(a, b))
    np.testing.assert_allclose(result["rain_rate"], expected, rtol=3e-6)


def test_reflectivity_without_its_relation_is_refused():
    frames = as_frames(np.full((2, 3, 3), 30.0), "dBZ")
    with pytest.raises(InputError, match="found reflectivity without relation"):
        forecast(Persistence(), frames, 1)


def test_echoes_above_60_dbz_count_as_60():
    relation = ZRRelation(223.0, 1.53)
    strong, limit = (as_frames(np.full((2, 3, 3), dbz), "dBZ") for dbz in (78.0, 60.0))
    strong = forecast(Persistence(), strong, 1, relation=relation)
    limit = forecast(Persistence(), limit, 1, relation=relation)
    xr.testing.assert_identical(strong, limit)


def test_pixel_values_enter_as_they_are_and_leave_as_rain_rate():
    pixels = np.linspace(0, 1, 60).reshape(2, 5, 6)
    method = Constant(0.4624)
    result = forecast(method, as_frames(pixels, "1"), 2)
    np.testing.assert_array_equal(method.seen[0, :, 0], pixels.astype(np.float32))
    np.testing.assert_allclose(result["rain_rate"], 2.0, rtol=1e-3)


@pytest.mark.parametrize(("pixel", "counted_as"), [(-0.3, 0.0), (0.0, 0.0), (1.4, 1.0)])
def test_forecast_pixel_values_outside_of_0_to_1_are_clipped_and_0_is_dry(pixel, counted_as):
    result = forecast(Constant(pixel), as_frames(rain()), 1)
    np.testing.assert_allclose(result["rain_rate"], as_rain_rate(counted_as), rtol=3e-6)


def test_what_the_last_frame_does_not_cover_is_missing_and_enters_as_dry():
    rates = rain()
    rates[:, 0, 0] = np.nan
    rates[-1, 0, 1] = -1.0
    rates[:-1, 0, 2] = np.nan
    method = Constant(0.5)
    result = forecast(method, as_frames(rates), 2)["rain_rate"].to_numpy()
    assert np.isnan(result[:, 0, :2]).all()
    assert np.isnan(result).sum() == 4
    assert (method.seen[0, :, 0, 0, 0] == 0).all()
    assert (method.seen[0, :-1, 0, 0, 2] == 0).all()
    assert (method.seen[0, :-1, 0, 0, 1] > 0).all()
    assert method.seen[0, -1, 0, 0, 2] > 0


def test_a_network_forecasts_what_it_makes_of_the_pixel_values():
    model, rates = trained(), rain()
    pixels = (10 * np.log10(58.53) + 15.6 * np.log10(rates) + 10) / 70
    inputs = torch.from_numpy(pixels).float().clamp(0, 1)[None, :, None]
    expected = as_rain_rate(model.network.forecast(inputs, 4)[0, :, 0].numpy())
    assert (expected > 0).any()
    result = forecast(model, as_frames(rates).assign_coords(lead_time=7), 4)
    # A pixel value is off by 1e-6 at most, which is 1e-5 of a rain rate.
    np.testing.assert_allclose(result["rain_rate"], expected, rtol=2e-5, atol=1e-6)


def test_a_network_sees_its_last_input_frames_only():
    rates = rain(frames=8)
    model = trained()
    xr.testing.assert_identical(
        forecast(model, as_frames(rates), 2),
        forecast(model, as_frames(rates).isel(time=slice(3, None)), 2),
    )


def test_another_grid_is_padded_with_dry_pixels_and_cut_back():
    rates = rain(height=47, width=60)
    padded = np.zeros((5, 60, 60))
    padded[:, :47] = rates
    result = forecast(trained(), as_frames(rates), 2)
    whole = forecast(trained(), as_frames(padded), 2)
    assert result["rain_rate"].shape == (2, 47, 60)
    np.testing.assert_array_equal(result["rain_rate"], whole["rain_rate"][:, :47])


def test_a_network_with_coordinates_forecasts_its_own_grid_and_refuses_others():
    model = trained(coordinates=True)
    assert forecast(model, as_frames(rain()), 1)["rain_rate"].shape == (1, 30, 30)
    with pytest.raises(InputError, match=r"found 60 × 30 pixels.* 30 × 30 that it was trained"):
        forecast(model, as_frames(rain(height=60)), 1)


def test_rows_from_the_south_and_columns_from_the_east_are_turned_round():
    rates, model = rain(), trained()
    north_up = as_frames(rates, y=np.arange(30.0)[::-1], x=np.arange(30.0))
    turned = north_up.isel(y=slice(None, None, -1), x=slice(None, None, -1))
    expected = forecast(model, north_up, 2)
    result = forecast(model, turned, 2)
    xr.testing.assert_identical(
        result, expected.isel(y=slice(None, None, -1), x=slice(None, None, -1))
    )
    without = forecast(model, north_up.drop_vars(["y", "x"]), 2)
    np.testing.assert_array_equal(without["rain_rate"], expected["rain_rate"])


def test_times_follow_the_last_frame():
    result = forecast(Persistence(), as_frames(rain(), step_minutes=5), 3)
    last = START + np.timedelta64(20, "m")
    minutes = np.array([5, 10, 15], "timedelta64[m]")
    assert result["forecast_reference_time"] == last
    np.testing.assert_array_equal(result["lead_time"], minutes)
    np.testing.assert_array_equal(result["time"], last + minutes)
    assert result["time"].dims == ("lead_time",)


def test_coordinates_and_grid_mapping_survive_a_netcdf_file(tmp_path):
    crs = xr.DataArray(0, attrs={"grid_mapping_name": "polar_stereographic"})
    y = xr.DataArray(np.arange(30.0)[::-1] * 1e3, dims="y", attrs={"units": "m"})
    longitude = (("y", "x"), np.ones((30, 30)))
    frames = as_frames(rain(), y=y, crs=crs, longitude=longitude)
    frames = frames.assign_coords(quality=("time", np.arange(5)))
    frames.encoding["grid_mapping"] = "crs"
    forecast(Persistence(), frames, 2).to_netcdf(tmp_path / "forecast.nc", engine="h5netcdf")
    with xr.open_dataset(
        tmp_path / "forecast.nc", engine="h5netcdf", decode_coords="all", decode_timedelta=True
    ) as read:
        assert read["crs"].attrs["grid_mapping_name"] == "polar_stereographic"
        assert read["rain_rate"].encoding["grid_mapping"] == "crs"
        assert read["rain_rate"].attrs["units"] == "mm h-1"
        assert read["rain_rate"].attrs["standard_name"] == "rainfall_rate"
        assert set(read.coords) == {
            "lead_time", "time", "forecast_reference_time", "y", "longitude", "crs",
        }  # fmt: skip
        np.testing.assert_array_equal(read["lead_time"], np.array([6, 12], "timedelta64[m]"))
        np.testing.assert_array_equal(read["y"], y)


def late(frames):
    times = frames["time"].to_numpy().copy()
    times[-1] += np.timedelta64(12, "m")
    return frames.assign_coords(time=times)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (
            as_frames(rain(), step_minutes=5),
            "to .*12:20:00, .* needs them from .*11:56:00 on .5 at steps of 6 minutes",
        ),
        (as_frames(rain(frames=4)), "found 4 from 2020-06-01T12:00:00 to .* needs them from"),
        (as_frames(rain(), "mm"), "found units 'mm', expected one of mm h-1"),
        (as_frames(rain()).drop_attrs(), "found units None"),
        (
            late(as_frames(rain())),
            "found none for 18 minutes from .*12:18:00 on, .* to 15 min",
        ),
        (
            as_frames(np.where(np.arange(5) < 4, 1.0, np.nan)[:, None, None] * rain()),
            "found nothing observed in the last one, of 2020-06-01T12:24:00",
        ),
        (as_frames(rain()).isel(time=slice(None, None, -1)), "expected strictly increasing"),
        (as_frames(rain()).drop_vars("time"), "found no coordinate as time, expected datetime64"),
        (as_frames(rain()).assign_coords(time=range(5)), "found int64 as time"),
        (as_frames(rain()).transpose("y", "time", "x"), r"found \(y: 30, time: 5, x: 30\)"),
        (as_frames(rain())[0], r"found \(y: 30, x: 30\), expected \(time, y, x\)"),
        (as_frames(rain()).to_dataset(name="rain"), "found Dataset, expected an xarray DataArray"),
        (as_frames(np.full((5, 30, 30), 128.0), "1"), "found pixel value 128, expected 0 to 1"),
    ],
)
def test_frames_that_do_not_fit_are_refused_in_one_line(frames, message):
    with pytest.raises(InputError, match=message) as error:
        forecast(trained(), frames)
    assert "\n" not in str(error.value)


def test_methods_without_training_take_any_step_but_need_one_and_a_lead_time():
    for step_minutes in (1, 10):
        assert forecast(Persistence(), as_frames(rain(), step_minutes=step_minutes)).sizes == {
            "lead_time": 20, "y": 30, "x": 30,
        }  # fmt: skip
    with pytest.raises(InputError, match="found 1, expected at least 2"):
        forecast(Persistence(), as_frames(rain(frames=1)))
    with pytest.raises(InputError, match="found lead_times=0, expected at least 1"):
        forecast(Persistence(), as_frames(rain()), 0)


def test_a_checkpoint_forecasts_as_the_network_that_was_saved(tmp_path):
    model = trained()
    state = {f"{PREFIX}{name}": value for name, value in model.network.state_dict().items()}
    content = {KEY: model.description.as_entry(), "state_dict": state}
    torch.save(content, tmp_path / "network.ckpt")
    loaded = load(tmp_path / "network.ckpt")
    assert dataclasses.asdict(loaded.description) == dataclasses.asdict(model.description)
    frames = as_frames(rain())
    found = forecast(loaded, frames, 3)
    assert "network.ckpt (SHA-256 " in found.attrs.pop("source")
    xr.testing.assert_identical(found, forecast(model, frames, 3).drop_attrs(deep=False))


def test_optical_flow_on_real_rain_keeps_its_amount_and_beats_persistence(shared):
    path = shared / "real-radar" / "events" / "fmi_20160928.nc"
    with xr.open_dataset(path, engine="h5netcdf", decode_coords="all") as event:
        relation = ZRRelation(float(event.attrs["zr_a"]), float(event.attrs["zr_b"]))
        reflectivity = event["reflectivity"].isel(time=slice(10, 21), y=slice(200, 1000)).load()
    rates = relation.dbz_to_rain_rate(reflectivity)
    coarse = rates.coarsen(y=4, x=4).mean().assign_attrs(units="mm h-1")
    observed, truth = coarse[:5], coarse[5:]
    flow = forecast(OpticalFlow(), observed, 6)
    persistence = forecast(Persistence(), observed, 6)
    assert flow.sizes == {"lead_time": 6, "y": 200, "x": 190}
    np.testing.assert_array_equal(flow["time"], truth["time"])
    np.testing.assert_array_equal(flow["y"], coarse["y"])
    assert "crs" in flow.coords
    uncovered = np.isnan(observed).all("time").to_numpy()
    assert uncovered.any()
    np.testing.assert_array_equal(np.isnan(flow["rain_rate"][0]), uncovered)
    wet = [float((field >= 0.5).mean()) for field in (flow["rain_rate"][-1], truth[-1])]
    assert wet[1] > 0.05
    assert wet[0] == pytest.approx(wet[1], rel=0.35)

    def csi(method):
        said, was = method["rain_rate"].to_numpy()[-1] >= 0.5, truth.to_numpy()[-1] >= 0.5
        return (said & was).sum() / (said | was).sum()

    # Half an hour ahead, on a rain band that moves.
    assert csi(flow) > csi(persistence) + 0.1


class Members:
    """An ensemble of three: 1, 2 and 4 mm/h everywhere."""

    def forecast(self, frames, lead_times):
        raise AssertionError("the mean is counted from the members, once")

    def forecast_members(self, frames, lead_times):
        pixels = (torch.tensor([1.0, 2.0, 4.0]).log10() * 15.6 + 10 * np.log10(58.53) + 10) / 70
        pixels = pixels[None, :, None, None, None, None]
        return pixels.expand(1, 3, lead_times, 1, *frames.shape[-2:])


def test_an_ensemble_tells_the_probability_that_thresholds_are_reached():
    frames = as_frames(rain())
    frames[-1, 3, 4] = np.nan
    result = forecast(Members(), frames, 2, thresholds_mm_h=[0.5, 1.5, 3.0, 5.0])
    probability = result["exceedance_probability"]
    assert probability.dims == ("threshold", "lead_time", "y", "x")
    assert (probability.dtype, probability.attrs["units"]) == (np.float32, "1")
    assert result["threshold"].to_numpy().tolist() == [0.5, 1.5, 3.0, 5.0]
    np.testing.assert_allclose(probability[:, 0, 0, 0], [1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    assert np.isnan(probability[:, :, 3, 4]).all()
    assert np.isnan(probability).sum() == 4 * 2
    np.testing.assert_allclose(result["rain_rate"][:, 0, 0], 7 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "thresholds", "message"),
    [
        (Persistence(), [1.0], "found Persistence, which is no ensemble"),
        (Members(), [2.0, 1.0], r"found \(2.0, 1.0\), expected rain rates above 0 that increase"),
        (Members(), [1.0, 1.0], "that increase"),
        (Members(), [0.0], "above 0"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(model, thresholds, message):
    with pytest.raises(InputError, match=message):
        forecast(model, as_frames(rain()), 1, thresholds_mm_h=thresholds)


def test_a_network_that_gives_no_numbers_is_refused_and_not_taken_for_dry():
    with pytest.raises(InputError, match=r"no numbers from lead time 1 on, .* Constant has failed"):
        forecast(Constant(float("nan")), as_frames(rain()), 3)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
def test_rain_that_equals_a_threshold_reaches_it(rate):
    frames = as_frames(np.full((3, 20, 20), rate))
    ensemble = SeveralMethods([Persistence(), Persistence()])
    result = forecast(ensemble, frames, 1, thresholds_mm_h=[rate])
    assert (result["exceedance_probability"] == 1).all()


def test_thresholds_do_not_change_the_mean():
    frames = as_frames(rain())
    ensemble = PerturbedInputs(OpticalFlow(), members=3)
    told = forecast(ensemble, frames, 2, thresholds_mm_h=[1.0])["rain_rate"]
    np.testing.assert_array_equal(forecast(ensemble, frames, 2)["rain_rate"], told)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (("time", "lead_time", "x"), "found an axis called lead_time"),
        (("time", "y", "threshold"), "found an axis called threshold"),
        (("time", "lon", "lat"), r"found \(time, lon, lat\), expected \(time, lat, lon\)"),
        (("time", "x", "y"), r"found \(time, x, y\), expected"),
    ],
)
def test_axes_with_misleading_names_are_refused(dims, message):
    frames = as_frames(rain())
    frames = frames.rename(dict(zip(frames.dims[1:], ["first", "second"], strict=True)))
    with pytest.raises(InputError, match=message):
        forecast(Persistence(), frames.rename(first=dims[1], second=dims[2]), 1)


def test_longitudes_across_the_date_line_still_run_to_the_east():
    method, rates = Constant(0.5), rain()
    east = (170.0 + np.arange(30) + 180) % 360 - 180
    forecast(method, as_frames(rates, y=np.arange(30.0)[::-1], x=east), 1)
    crossing = method.seen.clone()
    forecast(method, as_frames(rates), 1)
    assert torch.equal(crossing, method.seen)
    with pytest.raises(InputError, match="as x, expected numbers"):
        forecast(method, as_frames(rates, x=[f"{n}" for n in range(30)]), 1)


def test_the_grid_mapping_may_name_its_axes_too():
    frames = as_frames(rain(), crs=xr.DataArray(0, attrs={"crs_wkt": "…"}))
    frames.encoding["grid_mapping"] = "crs: x y"
    result = forecast(Persistence(), frames, 1)
    assert result["rain_rate"].encoding["grid_mapping"] == "crs"
