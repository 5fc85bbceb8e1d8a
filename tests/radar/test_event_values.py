"""Packed numbers of NetCDF files and Zarr stores: which are not observed, and which are counted."""

import json
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from made_up_events import SMALL, A, B, as_netcdf, as_zarr, event_dataset

from nowcast.errors import InputError
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import open_event

FORMS = {
    "netcdf": lambda dataset, path: as_netcdf(dataset, path),
    "zarr 2": lambda dataset, path: as_zarr(dataset, path, 2, consolidated=False),
    "zarr 3": lambda dataset, path: as_zarr(dataset, path, 3, consolidated=False),
}
STORES_FILL = (
    "pixels not observed because they hold the store's fill value 0; if 0 is a value, write the "
    "store with another fill_value"
)
OUTSIDE = "pixels outside of the valid range that the file states, not observed"


def frames_of(row):
    return np.tile(row, (3, 2, 1))


def read_row(path):
    """The first row of the first frame, and what was counted in all 3 frames of 2 rows."""
    oddities = Counter()
    rates = list(open_event(path).reader.rain_rates(oddities))
    for rate in rates:
        np.testing.assert_array_equal(rate, np.tile(rates[0][0], (2, 1)))
    return rates[0][0], {what: count / 6 for what, count in (+oddities).items()}


def packed(row, dtype="i2", **attributes):
    dataset = event_dataset(frames_of(np.array(row, dtype)))
    attributes = {"scale_factor": 0.5, "add_offset": 10.0} | attributes
    dataset.rainfall_rate.attrs.update(attributes)
    return dataset


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "limits",
    [
        {"valid_min": np.int16(0), "valid_max": np.int16(100)},
        {"valid_range": np.array([0, 100], "i2")},
        {"valid_range": np.array([0, 200], "i2"), "valid_max": np.int16(100)},
        # Of the type of scale_factor they are of unpacked values (NetCDF User's Guide).
        {"valid_min": 10.0, "valid_max": 60.0},
    ],
)
def test_values_outside_of_the_valid_range_are_not_observed(tmp_path, form, limits):
    dataset = packed([-1, 0, 7, 100, 101, -999], _FillValue=np.int16(-999), **limits)
    row, counted = read_row(FORMS[form](dataset, tmp_path / "e"))
    np.testing.assert_array_equal(row, [np.nan, 10, 13.5, 60, np.nan, np.nan])
    assert counted == {OUTSIDE: 2}


def test_one_limit_alone_bounds_one_side(tmp_path):
    low = as_netcdf(packed([-4, 0, 8], valid_min=np.int16(0)), tmp_path / "a.nc")
    high = as_netcdf(packed([-4, 0, 8], valid_max=np.int16(0)), tmp_path / "b.nc")
    np.testing.assert_array_equal(read_row(low)[0], [np.nan, 10, 14])
    np.testing.assert_array_equal(read_row(high)[0], [8, 10, np.nan])


def test_unpacked_limits_hold_for_values_that_unpacking_rounds(tmp_path):
    levels = np.arange(0, 1001, 50)
    dataset = packed(levels, scale_factor=0.1, add_offset=0.0, valid_range=np.array([5.0, 95.0]))
    row, counted = read_row(as_netcdf(dataset, tmp_path / "e.nc"))
    np.testing.assert_array_equal(np.isfinite(row), (levels >= 50) & (levels <= 950))
    assert counted == {OUTSIDE: 2}


def test_limits_of_unsigned_bytes_are_unsigned(tmp_path):
    # The classic format has signed bytes only: 0 to 254 is written as 0 to −2.
    limits = {"valid_range": np.array([0, -2], "i1"), "_Unsigned": "true"}
    dataset = packed([0, 20, -2, -1], "i1", **limits)
    row, counted = read_row(as_netcdf(dataset, tmp_path / "e.nc"))
    np.testing.assert_array_equal(row, [10, 20, 137, np.nan])
    assert counted == {OUTSIDE: 1}


@pytest.mark.parametrize("wrong", ["0 to 100", np.array([1, 2, 3], "i2")])
@pytest.mark.parametrize("name", ["valid_range", "valid_min", "valid_max"])
def test_a_valid_range_that_is_none_is_refused_before_frames_are_read(tmp_path, name, wrong):
    path = as_netcdf(packed([0, 1], **{name: wrong}), tmp_path / "e.nc")
    with pytest.raises(InputError, match=rf"e\.nc: found {name} .*, expected"):
        open_event(path)


def test_impossible_rain_is_not_observed_and_counted(tmp_path):
    values = np.array([0, 2.5, 10_000, 10_001, 9.96921e36, np.inf, -np.inf, -1, np.nan])
    dataset = event_dataset(frames_of(values))
    row, counted = read_row(
        as_netcdf(dataset, tmp_path / "e.nc", rainfall_rate={"_FillValue": None})
    )
    clipped = 10 ** ((60 - 10 * np.log10(58.53)) / 15.6)
    np.testing.assert_allclose(row, [0, 2.5, clipped, *[np.nan] * 6], rtol=1e-12)
    assert counted == {
        "pixels of more than 10,000 mm/h, taken for not observed": 3,
        "pixels with negative rain, taken for not observed": 2,
    }


def test_impossible_amounts_are_judged_as_rates(tmp_path):
    dataset = event_dataset(
        frames_of(np.array([1.0, 800.0, 900.0])), "rainfall_amount", "mm", accumulation_minutes=5
    )
    row, _ = read_row(as_netcdf(dataset, tmp_path / "e.nc"))
    np.testing.assert_array_equal(np.isfinite(row), [True, True, False])


def test_impossible_reflectivity_is_not_observed_and_minus_infinity_is_no_echo(tmp_path):
    values = np.array([-np.inf, -200.0, 20, 200, 201, -9999, np.inf, 9.96921e36, np.nan])
    dataset = event_dataset(frames_of(values), "reflectivity", "dBZ", zr_a=A, zr_b=B)
    row, counted = read_row(
        as_netcdf(dataset, tmp_path / "e.nc", reflectivity={"_FillValue": None})
    )
    expected = [0, (1e-20 / A) ** (1 / B), (100 / A) ** (1 / B), (1e6 / A) ** (1 / B)]
    clipped = 10 ** ((60 - 10 * np.log10(58.53)) / 15.6)
    np.testing.assert_allclose(row, [*np.minimum(expected, clipped), *[np.nan] * 5], rtol=1e-12)
    assert counted == {"pixels beyond ±200 dBZ, taken for not observed": 4}


def zarr_2_filled_with_0(path, levels, **attributes):
    """A store of reflectivity whose `fill_value` is what zarr itself puts, and 0 means −32 dBZ."""
    dataset = event_dataset(levels, "reflectivity", "dBZ", zr_a=A, zr_b=B)
    dataset.reflectivity.attrs.update({"scale_factor": 0.5, "add_offset": -32.0})
    as_zarr(dataset, path, 2, consolidated=False)
    described = json.loads((path / "reflectivity/.zarray").read_text())
    (path / "reflectivity/.zarray").write_text(json.dumps(described | {"fill_value": 0}))
    stated = json.loads((path / "reflectivity/.zattrs").read_text())
    (path / "reflectivity/.zattrs").write_text(json.dumps(stated | attributes))
    return path


def test_pixels_that_zarrs_own_fill_value_hides_are_counted(tmp_path):
    levels = frames_of(np.array([0, 104, 0, 80], "u1"))
    row, counted = read_row(zarr_2_filled_with_0(tmp_path / "e.zarr", levels))
    expected = [np.nan, (10**2 / A) ** (1 / B), np.nan, (10**0.8 / A) ** (1 / B)]
    np.testing.assert_allclose(row, expected, rtol=1e-6)
    assert counted == {STORES_FILL: 2}
    _, stated = read_row(zarr_2_filled_with_0(tmp_path / "f.zarr", levels, _FillValue=0))
    assert stated == {}


def test_an_event_that_its_fill_value_hides_is_explained_in_the_log(tmp_path, caplog):
    levels = np.zeros((13, 10, 12), "u1")
    path = zarr_2_filled_with_0(tmp_path / "e.zarr", levels)
    caplog.set_level("INFO", "nowcast")
    with pytest.raises(InputError, match="too little observed"):
        prepare_events(tmp_path / "s.h5", train=[path], **SMALL | {"minimum_coverage": 0.5})
    assert f"{path}: {levels.size:,} {STORES_FILL}" in caplog.text


def test_another_fill_value_is_not_spoken_of(tmp_path):
    dataset = event_dataset(frames_of(np.array([0.0, 1.0, np.nan])))
    encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -1}
    path = as_zarr(dataset, tmp_path / "e.zarr", 2, encoding=encoding)
    row, counted = read_row(path)
    np.testing.assert_array_equal(row, [0, 1, np.nan])
    assert counted == {}
    assert xr.open_zarr(path).rainfall_rate.encoding["_FillValue"] == -1
