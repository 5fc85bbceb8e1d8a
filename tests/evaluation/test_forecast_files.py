"""Forecasts read from files: against the methods that made them and values worked out here."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nowcast
from nowcast.errors import InputError
from nowcast.evaluation.forecast_files import ForecastFile
from nowcast.method import IssuedForecasts
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate
from nowcast.verification import Scores

STEP = np.timedelta64(6, "m")
START = np.datetime64("2015-07-01T00:00:00")
ISSUES, LEADS, MEMBERS, PLACES, SHAPE = 3, 4, 2, ("Hong Kong", "Helsinki"), (5, 7)


def rain(*sizes, seed=0):
    """Rain rates in mm/h: a third dry, the others 0.1 to 100."""
    generator = np.random.default_rng(seed)
    rates = 10 ** generator.uniform(-1, 2, sizes)
    return np.where(generator.uniform(size=sizes) < 1 / 3, 0.0, rates)


def as_pixels(rates):
    """Restated: dBZ = 10 log10(58.53) + 15.6 log10(R), pixel = (dBZ + 10) / 70."""
    with np.errstate(divide="ignore"):
        pixels = (10 * np.log10(58.53) + 15.6 * np.log10(rates) + 10) / 70
    return np.clip(pixels, 0, 1)


def forecasts(rates=None, y_runs=-1):
    """(issue, lead_time, member, place, y, x), with every coordinate."""
    if rates is None:
        rates = rain(ISSUES, LEADS, MEMBERS, len(PLACES), *SHAPE)
    dimensions = ("forecast_reference_time", "lead_time", "member", "place", "y", "x")
    sizes = rates.shape
    return xr.Dataset(
        {"rain_rate": (dimensions, rates, {"units": "mm h-1"})},
        {
            "forecast_reference_time": START + STEP * 5 * np.arange(sizes[0]),
            "lead_time": (STEP * np.arange(1, sizes[1] + 1)).astype("timedelta64[ns]"),
            "member": np.arange(sizes[2]),
            "place": list(PLACES[: sizes[3]]),
            "y": y_runs * np.arange(sizes[4]) * 1000.0,
            "x": np.arange(sizes[5]) * 1000.0,
        },
    )


def written(dataset, path: Path) -> Path:
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


def opened(path, **settings):
    return ForecastFile(path, **{"step_minutes": 6, "places": PLACES, **settings})


def all_of(source, leads=LEADS):
    """(issue, place, member, lead_time, y, x) through the protocol, in one batch."""
    issued = START + STEP * 5 * np.arange(ISSUES)
    places = [place for _ in issued for place in PLACES]
    found = source.forecast_issued(places, np.repeat(issued, len(PLACES)), leads)
    assert found.dtype == torch.float32
    assert found.shape[3] == 1
    return found[:, :, :, 0].reshape(ISSUES, len(PLACES), *found.shape[1:3], *found.shape[4:])


def assert_all_there(path, rates=None, **settings):
    rates = rain(ISSUES, LEADS, MEMBERS, len(PLACES), *SHAPE) if rates is None else rates
    expected = as_pixels(rates).transpose(0, 3, 2, 1, 4, 5)
    found = all_of(opened(path, **settings))
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


def clip_frames(y_runs=None, count=4, seed=1):
    """Frames of moving rain as `nowcast.forecast` takes them, and the same as a tensor."""
    y, x = np.mgrid[:32, :40]
    noise = 0.05 * np.random.default_rng(seed).standard_normal((count, 32, 40))
    moving = [0.8 * np.exp(-((x - 12 - 2 * t) ** 2 + (y - 12 - t) ** 2) / 60) for t in range(count)]
    pixels = np.clip(np.stack(moving) + noise, 0, 1).astype(np.float32)
    pixels[pixels < 0.1] = 0
    times = START + STEP * np.arange(count)
    coordinates = {"time": times.astype("datetime64[ns]")}
    seen = pixels
    if y_runs is not None:
        coordinates |= {"y": y_runs * 1000.0 * np.arange(32), "x": 1000.0 * np.arange(40)}
        seen = pixels if y_runs < 0 else pixels[:, ::-1].copy()
    frames = xr.DataArray(seen, dims=("time", "y", "x"), coords=coordinates, attrs={"units": "1"})
    return frames, torch.from_numpy(pixels)[None, :, None]


@pytest.mark.parametrize("y_runs", [None, -1, 1])
@pytest.mark.parametrize("method", [Persistence(), OpticalFlow()])
def test_scores_of_a_written_forecast_are_the_methods_own(method, y_runs, tmp_path):
    frames, observed = clip_frames(y_runs)
    path = written(nowcast.forecast(method, frames, 5), tmp_path / "forecast.nc")
    source = opened(path, places=("HKO",), shape=(32, 40))
    assert isinstance(source, IssuedForecasts)
    assert (source.shape, source.members) == ((32, 40), 1)
    issued = frames["time"].to_numpy()[-1:]
    found = source.forecast_issued(["HKO"], issued, 5)[:, 0]
    own = method.forecast(observed, 5).clip(0, 1)
    np.testing.assert_allclose(found, own, atol=1e-6, rtol=0)
    assert torch.equal(found == 0, own <= 0)
    truth = torch.from_numpy(clip_frames(count=9)[0].to_numpy())[None, 4:, None]
    mask = torch.ones_like(truth, dtype=torch.bool)
    scores = {}
    for name, forecast in (("found", found), ("own", own)):
        accumulated = Scores(5)
        accumulated.update(forecast, truth, mask)
        scores[name] = accumulated.compute()
    for name, values in scores["own"].items():
        np.testing.assert_allclose(scores["found"][name], values, rtol=1e-5, err_msg=name)
        if name in ("hits", "misses", "false_alarms", "correct_negatives"):
            np.testing.assert_array_equal(scores["found"][name], values)


def test_folder_is_the_union_of_its_files(tmp_path):
    method, expected = Persistence(), {}
    for number in range(3):
        frames, observed = clip_frames(seed=number)
        frames = frames.assign_coords(time=frames["time"] + np.timedelta64(number, "h"))
        expected[frames["time"].to_numpy()[-1]] = method.forecast(observed, 3)
        written(nowcast.forecast(method, frames, 3), tmp_path / f"{number}.nc")
    (tmp_path / "README.txt").write_text("no forecast")
    source = opened(tmp_path, places=("HKO",))
    times = np.array(sorted(expected, reverse=True))
    found = source.forecast_issued(["HKO"] * 3, times, 3)[:, 0]
    np.testing.assert_allclose(found, torch.cat([expected[t] for t in times]), atol=1e-6)
    copied = tmp_path / "again.nc"
    copied.write_bytes((tmp_path / "1.nc").read_bytes())
    with pytest.raises(InputError, match=r"again\.nc: |1\.nc: ") as caught:
        opened(tmp_path, places=("HKO",))
    assert "found the forecasts of HKO issued at 2015-07-01T01:18:00 in" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_zarr_store(tmp_path):
    pytest.importorskip("zarr", reason="zarr is an extra")
    forecasts().to_zarr(tmp_path / "forecasts.zarr", consolidated=False)
    assert_all_there(tmp_path / "forecasts.zarr")
    # A folder of stores, one for each issue.
    for number in range(ISSUES):
        single = forecasts().isel(forecast_reference_time=number)
        single.to_zarr(tmp_path / "issues" / f"{number}.zarr", consolidated=False)
    assert_all_there(tmp_path / "issues")


NAMES = {
    "forecast_reference_time": ["forecast_reference_time", "time", "init_time", "issue_time"],
    "lead_time": ["lead_time", "step", "prediction_timedelta", "forecast_period", "leadtime"],
    "member": ["member", "realization", "number", "ensemble"],
    "place": ["place"],
    "y": ["y", "lat", "latitude"],
    "x": ["x", "lon", "longitude"],
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(list(NAMES)),
    names=st.fixed_dictionaries({name: st.sampled_from(of) for name, of in NAMES.items()}),
    y_runs=st.sampled_from([-1, 1]),
    x_runs=st.sampled_from([-1, 1]),
)
def test_axes_of_any_order_and_usual_name(order, names, y_runs, x_runs, tmp_path):
    rates = rain(ISSUES, LEADS, MEMBERS, len(PLACES), *SHAPE)
    dataset = forecasts(rates[..., ::-1, :] if y_runs > 0 else rates, y_runs)
    if x_runs < 0:
        dataset = dataset.isel(x=slice(None, None, -1))
    dataset = dataset.transpose(*order).rename(names)
    assert_all_there(written(dataset, tmp_path / "any.nc"), rates)


def test_axes_by_their_standard_names(tmp_path):
    names = {
        "forecast_reference_time": "a",
        "lead_time": "b",
        "member": "c",
        "y": "d",
        "x": "e",
    }
    dataset = forecasts().rename(names)
    for name, standard in (
        ("a", "forecast_reference_time"),
        ("b", "forecast_period"),
        ("c", "realization"),
        ("d", "projection_y_coordinate"),
        ("e", "projection_x_coordinate"),
    ):
        dataset[name].attrs["standard_name"] = standard
    assert_all_there(written(dataset.transpose("e", "d", ...), tmp_path / "standard.nc"))


@pytest.mark.parametrize(
    ("units", "per_minute"),
    [("minutes", 1), ("seconds", 60), ("hours", 1 / 60), ("min", 1), ("h", 1 / 60), ("days", None)],
)
def test_lead_times_in_units_of_time(units, per_minute, tmp_path):
    minutes = 6 * np.arange(1, LEADS + 1)
    values = minutes / 1440 if per_minute is None else minutes * per_minute
    dataset = forecasts().assign_coords(lead_time=("lead_time", values, {"units": units}))
    assert_all_there(written(dataset, tmp_path / "units.nc"))


def test_lead_times_are_found_by_value(tmp_path):
    dataset = forecasts().isel(lead_time=[3, 1, 0, 2])
    assert_all_there(written(dataset, tmp_path / "shuffled.nc"))
    source = opened(tmp_path / "shuffled.nc", step_minutes=12)
    every_second = as_pixels(rain(ISSUES, LEADS, MEMBERS, 2, *SHAPE))[:, 1::2]
    np.testing.assert_allclose(
        all_of(source, 2), every_second.transpose(0, 3, 2, 1, 4, 5), atol=2e-6
    )


def test_valid_times_beside_a_single_issue(tmp_path):
    dataset = forecasts().isel(forecast_reference_time=0, place=0, member=0, drop=True)
    valid = (START + STEP * np.arange(1, LEADS + 1)).astype("datetime64[ns]")
    dataset = dataset.rename(lead_time="time").assign_coords(time=valid)
    dataset = dataset.assign_coords(forecast_reference_time=START.astype("datetime64[ns]"))
    source = opened(written(dataset, tmp_path / "valid.nc"), places=("HKO",))
    found = source.forecast_issued(["HKO"], np.array([START]), LEADS)[0, 0, :, 0]
    expected = as_pixels(rain(ISSUES, LEADS, MEMBERS, 2, *SHAPE)[0, :, 0, 0])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_single_issue_of_a_weather_service(tmp_path):
    """Scalar `time`, `number` and a level of size 1, `step` and `valid_time`: as GRIB is opened."""
    dataset = forecasts().isel(forecast_reference_time=0, place=0, member=0, drop=True)
    dataset = dataset.rename(lead_time="step", y="latitude", x="longitude")
    dataset = dataset.expand_dims("heightAboveGround").assign_coords(
        time=START.astype("datetime64[ns]"),
        number=0,
        valid_time=("step", (START + STEP * np.arange(1, 5)).astype("datetime64[ns]")),
    )
    dataset["rain_rate"].attrs = {"units": "kg m-2 s-1", "standard_name": "precipitation_flux"}
    dataset["rain_rate"] = dataset["rain_rate"] / 3600
    dataset["rain_rate"].attrs = {"units": "kg m-2 s-1", "standard_name": "precipitation_flux"}
    source = opened(written(dataset, tmp_path / "service.nc"), places=("HKO",))
    found = source.forecast_issued(["HKO"], np.array([START]), LEADS)[0, 0, :, 0]
    expected = as_pixels(rain(ISSUES, LEADS, MEMBERS, 2, *SHAPE)[0, :, 0, 0])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_latitudes_of_both_axes_say_where_north_is(tmp_path):
    rates = rain(ISSUES, LEADS, MEMBERS, len(PLACES), *SHAPE)
    south_first = forecasts(rates[..., ::-1, :]).drop_vars(["y", "x"])
    latitude = 50 + np.arange(5.0)[:, None] + 0.1 * np.arange(7.0)
    dataset = south_first.assign_coords(lat=(("y", "x"), latitude))
    assert_all_there(written(dataset, tmp_path / "turned.nc"), rates)


def test_reflectivity_by_its_own_relation(tmp_path):
    marshall_palmer = ZRRelation(200.0, 1.6)
    rates = rain(ISSUES, LEADS, MEMBERS, len(PLACES), *SHAPE)
    dataset = forecasts(rates)
    dataset["reflectivity"] = dataset["rain_rate"].copy(
        data=np.maximum(marshall_palmer.rain_rate_to_dbz(rates), -32.0)
    )
    dataset = dataset.drop_vars("rain_rate")
    dataset["reflectivity"].attrs = {"units": "dBZ"}
    plain = written(dataset, tmp_path / "plain.nc")
    with pytest.raises(InputError, match=r"plain\.nc: found no zr_a and zr_b"):
        opened(plain)
    assert_all_there(plain, np.where(rates > 0, rates, 0), relation=marshall_palmer)
    dataset.attrs = {"zr_a": 200.0, "zr_b": 1.6}
    assert_all_there(written(dataset, tmp_path / "own.nc"), rates)


def test_amounts_over_stated_minutes(tmp_path):
    dataset = forecasts() / 10
    dataset = dataset.rename(rain_rate="rainfall_amount")
    dataset["rainfall_amount"].attrs = {"units": "mm", "accumulation_minutes": 6.0}
    assert_all_there(written(dataset, tmp_path / "amounts.nc"))


def test_no_forecast_and_impossible_values_are_no_rain(tmp_path, caplog):
    rates = np.full((1, 2, 1, 1, 2, 3), 1.0)
    rates[0, 0, 0, 0] = [[np.nan, -1.0, 2e4], [600.0, 0.0, 0.01]]
    path = written(forecasts(rates).squeeze(["member", "place"], drop=True), tmp_path / "odd.nc")
    source = opened(path, places=("HKO",))
    for _ in range(2):
        found = source.forecast_issued(["HKO"], np.array([START]), 2)[0, 0, :, 0]
        np.testing.assert_array_equal(found[0], [[0, 0, 0], [1, 0, 0]])
        np.testing.assert_allclose(found[1], as_pixels(1.0), atol=1e-6)
    assert sorted((+source.oddities).values()) == [2, 2, 2]
    assert list(source.replaced.values()) == [2]
    assert len(caplog.records) == 3


def test_packed_numbers(tmp_path):
    dataset = forecasts()
    dataset["rain_rate"] = dataset["rain_rate"].round(1)
    dataset["rain_rate"].attrs["units"] = "mm h-1"
    rates = dataset["rain_rate"].to_numpy().copy()
    rates[:, 0, :, :, 0, 0] = 0
    dataset["rain_rate"][:, 0, :, :, 0, 0] = np.nan
    packing = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -1, "zlib": True}
    path = tmp_path / "packed.nc"
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"rain_rate": packing})
    assert_all_there(path, rates)


def test_one_place_needs_no_name_and_several_do(tmp_path):
    single = forecasts().isel(place=1)
    named = opened(written(single, tmp_path / "named.nc"))
    time = np.array([START])
    expected = as_pixels(rain(ISSUES, LEADS, MEMBERS, 2, *SHAPE)[0, :, :, 1]).swapaxes(0, 1)
    found = named.forecast_issued(["Helsinki"], time, LEADS)[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    with pytest.raises(InputError, match="found forecasts of Helsinki, expected Hong Kong"):
        named.forecast_issued(["Hong Kong"], time, LEADS)
    nameless = written(single.drop_vars("place"), tmp_path / "nameless.nc")
    found = opened(nameless, places=("anywhere",)).forecast_issued(["anywhere"], time, LEADS)
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=2e-6)
    with pytest.raises(InputError, match=r"nameless\.nc: found no place named, .* of 2 places"):
        opened(nameless)


def wrong_input(change, tmp_path, **settings):
    """The one line said of a file after `change`, when it is opened or when all is asked for."""
    path = written(change(forecasts()), tmp_path / "wrong.nc")
    with pytest.raises(InputError) as caught:
        all_of(opened(path, **settings))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.isel(forecast_reference_time=slice(0, 2)),
            "found 2 issues of Hong Kong from 2015-07-01T00:00:00 to 2015-07-01T00:30:00, expected "
            "2015-07-01T01:00:00 among them",
        ),
        (
            lambda d: d.isel(lead_time=[0, 1, 3]),
            "found lead times from 6 to 24 minutes (3 of them), expected 18 minutes among them",
        ),
        (lambda d: d.isel(place=[0]), "found forecasts of Hong Kong, expected Helsinki"),
        (lambda d: d.isel(lead_time=0, drop=True), "expected issue time, lead time, member"),
        (lambda d: d.rename(member="colour"), "colour: 2"),
        (lambda d: d.rename(rain_rate="something"), "found something, expected one field of"),
        (lambda d: d.drop_vars("lead_time"), "found no coordinate lead_time"),
        (lambda d: d.drop_vars("place"), "found no coordinate place"),
        (lambda d: d.drop_vars("forecast_reference_time"), "found no coordinate forecast_ref"),
        (
            lambda d: d.isel(forecast_reference_time=0, drop=True),
            "found no times of issue, expected forecast_reference_time",
        ),
        (
            lambda d: d.assign_coords(lead_time=("lead_time", np.arange(4), {"units": "frames"})),
            "found lead_time in 'frames', expected seconds, minutes, hours or days",
        ),
        (
            lambda d: d.assign_coords(lead_time=("lead_time", [1, 2, 2, 3], {"units": "h"})),
            "found a lead time twice in lead_time",
        ),
        (
            lambda d: d.assign_coords(lead_time=("lead_time", [1, 2, 2.5, 3], {"units": "s"})),
            "found lead_time with missing or split seconds",
        ),
        (
            lambda d: d.isel(forecast_reference_time=[0, 2, 1]),
            "times: found 2015-07-01T01:00:00 before 2015-07-01T00:30:00",
        ),
        (lambda d: d.assign_coords(y=[0, 1, 3, 2, 4]), "found coordinate y going both ways"),
        (lambda d: d.assign_coords(place=["Rome", "Rome"]), "found places Rome, Rome"),
        (lambda d: d.assign(dbz=d["rain_rate"]), "found several fields of reflectivity or rain"),
        (
            lambda d: d.assign(rain_rate=d["rain_rate"].assign_attrs(units="furlongs")),
            "found rain_rate in 'furlongs', expected one of mm h-1",
        ),
        (lambda d: d.isel(y=slice(0, 0)), "y: 0"),
    ],
)
def test_wrong_input(change, message, tmp_path):
    assert message in wrong_input(change, tmp_path)


def test_wrong_grid_names_both(tmp_path):
    message = wrong_input(lambda d: d, tmp_path, shape=(480, 480))
    assert message == "found forecasts of 5 × 7 pixels, the frames are 480 × 480"


def test_files_of_a_folder_are_alike(tmp_path):
    written(forecasts().isel(forecast_reference_time=[0]), tmp_path / "a.nc")
    written(forecasts().isel(forecast_reference_time=[1], member=[0]), tmp_path / "b.nc")
    with pytest.raises(InputError, match=r"b\.nc: found 1 members of 5 × 7 .* expected 2 of 5"):
        opened(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="found no file ending in"):
        opened(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        opened(tmp_path / "missing.nc")
    (tmp_path / "text.nc").write_text("not a forecast")
    with pytest.raises(InputError, match=r"text\.nc: cannot be read"):
        opened(tmp_path / "text.nc")


def test_reads_only_the_issue_that_is_asked_for(tmp_path):
    path = tmp_path / "damaged.nc"
    chunks = (1, LEADS, MEMBERS, 1, *SHAPE)
    forecasts().to_netcdf(
        path, engine="h5netcdf", encoding={"rain_rate": {"chunksizes": chunks, "fletcher32": True}}
    )
    with h5py.File(path) as file:
        offset = file["rain_rate"].id.get_chunk_info_by_coord((1, 0, 0, 0, 0, 0)).byte_offset
    with path.open("r+b") as file:
        file.seek(offset + 100)
        file.write(b"\x55\xaa\x55")
    source = opened(path)
    for issue, place in ((0, "Hong Kong"), (1, "Helsinki"), (2, "Hong Kong")):
        time = np.array([START + 5 * STEP * issue])
        assert source.forecast_issued([place], time, LEADS).any()
    with pytest.raises(InputError, match=r"damaged\.nc: cannot be read") as caught:
        source.forecast_issued(["Hong Kong"], np.array([START + 5 * STEP]), LEADS)
    assert "\n" not in str(caught.value)


def test_can_be_handed_to_another_process(tmp_path):
    source = opened(written(forecasts(), tmp_path / "forecasts.nc"))
    np.testing.assert_array_equal(all_of(pickle.loads(pickle.dumps(source))), all_of(source))  # noqa: S301


def test_faintest_rain_survives(tmp_path):
    """What nowcast.forecast writes for the smallest pixel value is read as more than no rain."""
    faint = float(pixel_to_rain_rate(1 / 255))
    path = written(forecasts(np.full((1, 1, 1, 1, 2, 2), faint)), tmp_path / "faint.nc")
    found = opened(path).forecast_issued(["Hong Kong"], np.array([START]), 1)
    np.testing.assert_allclose(found, 1 / 255, atol=1e-7)
