"""CF names and units, NetCDF or Zarr: one field in any form gives one store, others are named."""

import numpy as np
import pytest
from made_up import FIRST_TIME
from made_up_events import (
    FRAMES,
    HEIGHT,
    SMALL,
    WIDTH,
    A,
    B,
    as_netcdf,
    as_zarr,
    event_dataset,
    prepared,
    rain_mm_h,
    read_event_variable,
    zipped,
)

from nowcast.errors import InputError
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import open_event
from nowcast.radar.store import FrameStore

FORMS = {
    "rate": lambda rate, path: as_netcdf(event_dataset(rate), path),
    "flux": lambda rate, path: as_netcdf(
        event_dataset(rate / 3600, "rainfall_flux", "kg m-2 s-1"), path
    ),
    "flux an hour": lambda rate, path: as_netcdf(
        event_dataset(rate, "precipitation_flux", "kg m**-2 h**-1"), path
    ),
    "canonical": lambda rate, path: as_netcdf(
        event_dataset(rate / 3.6e6, "rainfall_rate", "m s-1"), path
    ),
    "liquid water": lambda rate, path: as_netcdf(
        event_dataset(rate / 3600, "lwe_precipitation_rate", "mm s^-1"), path
    ),
    "short name": lambda rate, path: as_netcdf(event_dataset(rate, "TPRATE", "mm/h"), path),
    "standard name": lambda rate, path: as_netcdf(
        event_dataset(rate, "p").assign(
            p=lambda d: d.p.assign_attrs(standard_name="rainfall_rate")
        ),
        path,
    ),
    "reflectivity": lambda rate, path: as_netcdf(
        event_dataset(
            10 * np.log10(A * rate**B), "equivalent_reflectivity_factor", "dBZ", zr_a=A, zr_b=B
        ),
        path,
    ),
    "amount": lambda rate, path: as_netcdf(
        event_dataset(rate / 12, "rainfall_amount", "kg m-2", accumulation_minutes=5), path
    ),
    "packed": lambda rate, path: as_netcdf(
        event_dataset(rate),
        path,
        rainfall_rate={
            "dtype": "int16", "scale_factor": 0.0625, "add_offset": 10.0, "_FillValue": -9999,
        },
    ),
    "turned": lambda rate, path: as_netcdf(event_dataset(rate).isel(y=slice(None, None, -1)), path),
    "across": lambda rate, path: as_netcdf(event_dataset(rate).transpose("time", "x", "y"), path),
    "zarr 2": lambda rate, path: as_zarr(event_dataset(rate), path, 2),
    "zarr 2 plain": lambda rate, path: as_zarr(event_dataset(rate), path, 2, consolidated=False),
    "zarr 3": lambda rate, path: as_zarr(event_dataset(rate), path),
    "zarr 3 plain": lambda rate, path: as_zarr(event_dataset(rate), path, 3, 5, consolidated=False),
    "zarr 3 sharded": lambda rate, path: as_zarr(
        event_dataset(rate), path, encoding={"shards": (8, HEIGHT, WIDTH)}
    ),
    "zarr 2 packed": lambda rate, path: as_zarr(
        event_dataset(rate), path, 2,
        encoding={"dtype": "int16", "scale_factor": 0.0625, "_FillValue": -1},
    ),
    "zarr 3 packed": lambda rate, path: as_zarr(
        event_dataset(rate), path,
        encoding={"dtype": "int16", "scale_factor": 0.0625, "_FillValue": -1},
    ),
    "zarr zip": lambda rate, path: zipped(as_zarr(event_dataset(rate), path)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("form", FORMS)
def test_one_field_in_any_form_gives_one_store(tmp_path, form):
    rate = rain_mm_h()
    with np.errstate(divide="ignore"):
        # No name decides what a file is.
        event = FORMS[form](rate, tmp_path / "event.bin")
    frames, masks, times = prepared(tmp_path, event, "store")
    cells = rate.reshape(FRAMES, 5, 2, 6, 2)
    observed = np.isfinite(cells).sum(axis=(2, 4))
    with np.errstate(divide="ignore", invalid="ignore"):
        average = np.nansum(cells, axis=(2, 4)) / observed
        pixel = np.clip((10 * np.log10(58.53) + 15.6 * np.log10(average) + 10) / 70, 0, 1) * 255
    # One tile of 4 × 4 fits; the row and columns that are left over are shared evenly.
    expected_mask = (observed >= 2)[:, 0:4, 1:5]
    present = [n for n in range(FRAMES + 2) if n not in (4, 5)]
    np.testing.assert_array_equal(times[0], FIRST_TIME + np.arange(15) * np.timedelta64(300, "s"))
    assert not masks[0, [4, 5]].any()
    np.testing.assert_array_equal(masks[0, present], expected_mask)
    # Half a step of rounding and what single and double precision leave of equal numbers.
    np.testing.assert_allclose(
        frames[0, present],
        np.where(expected_mask, pixel[:, 0:4, 1:5], 0),
        rtol=0,
        atol=0.5 + 1e-6,
    )


def test_metadata_says_what_the_field_was_taken_for(tmp_path):
    path = as_netcdf(event_dataset(rain_mm_h(), "dbz", "dBZ"), tmp_path / "e.nc")
    with pytest.raises(InputError, match=r"e\.nc: found no zr_a and zr_b"):
        prepare_events(tmp_path / "s.h5", train=[path], **SMALL)
    with pytest.raises(InputError, match="found one alone"):
        prepare_events(tmp_path / "s.h5", train=[path], zr_a=200.0, **SMALL)
    with pytest.raises(InputError, match="must be positive"):
        prepare_events(tmp_path / "s.h5", train=[path], zr_a=200.0, zr_b=0.0, **SMALL)
    prepare_events(tmp_path / "s.h5", train=[path], zr_a=200.0, zr_b=1.6, **SMALL)
    store = FrameStore(tmp_path / "s.h5")
    metadata = store.sequences[0].metadata
    expected = {"zr_a": 200.0, "zr_b": 1.6, "variable": "dbz", "crs_wkt": "PROJCS[…]"}
    assert {key: metadata[key] for key in expected} == expected
    assert (store.preparation["zr_a"], store.preparation["zr_b"]) == (200.0, 1.6)


def test_the_files_own_relation_goes_before_a_stated_one(tmp_path):
    dataset = event_dataset(10 + rain_mm_h(), "reflectivity", "dBZ", zr_a=A, zr_b=B)
    path = as_netcdf(dataset, tmp_path / "e.nc")
    own, stated = prepared(tmp_path, path, "a"), prepared(tmp_path, path, "b", zr_a=99.0, zr_b=2.0)
    assert FrameStore(tmp_path / "b.h5").sequences[0].metadata["zr_a"] == A
    for one, other in zip(own, stated, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_store_made_with_another_relation_is_another_store(tmp_path):
    path = as_netcdf(event_dataset(10 + rain_mm_h(), "reflectivity", "dBZ"), tmp_path / "e.nc")
    prepare_events(tmp_path / "s.h5", train=[path], zr_a=200.0, zr_b=1.6, **SMALL)
    with pytest.raises(InputError, match="with other settings"):
        prepare_events(tmp_path / "s.h5", train=[path], zr_a=300.0, zr_b=1.6, **SMALL)


def test_of_several_fields_the_one_named_is_taken(tmp_path):
    dataset = event_dataset(rain_mm_h()).assign(
        rain_rate=lambda d: 2 * d.rainfall_rate, quality=lambda d: 1 * d.rainfall_rate
    )
    dataset.quality.attrs.clear()
    dataset.rain_rate.attrs["units"] = "mm h-1"
    path = as_netcdf(dataset, tmp_path / "e.nc")
    with pytest.raises(InputError, match=r"several fields .*: rainfall_rate, rain_rate; expected"):
        open_event(path)
    with pytest.raises(InputError, match="expected the variable 'snow'"):
        open_event(path, variable="snow")
    with pytest.raises(InputError, match="found quality in ''"):
        open_event(path, variable="quality")
    doubled, _, _ = read_event_variable(path, "rain_rate")
    single, _, _ = read_event_variable(path, "rainfall_rate")
    low = single < 10
    np.testing.assert_allclose(doubled[low], 2 * single[low], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("reflectivity", "dB", None),
        ("rare", "dbz", None),
        ("zdr", "dB", "found zdr in 'dB'"),
        ("rainfall_rate", "mm", "found rainfall_rate in 'mm', expected one of mm h-1"),
        ("equivalent_reflectivity_factor", "mm/h", "expected one of dBZ"),
        ("rainfall_amount", "mm/h", "expected one of mm, kg m-2"),
    ],
)
def test_units_are_those_of_the_name(tmp_path, name, units, expected):
    path = as_netcdf(event_dataset(rain_mm_h(), name, units, zr_a=A, zr_b=B), tmp_path / "e.nc")
    if expected is None:
        assert open_event(path).metadata["zr_a"] == A
    else:
        with pytest.raises(InputError, match=expected):
            open_event(path, variable=name)
