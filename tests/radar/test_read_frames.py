"""Frames as arrays: the rain rates of the files, where and when they are."""

import numpy as np
import pytest
import xarray as xr
from made_up_composites import write_odim
from made_up_events import as_netcdf, as_zarr, event_dataset, rain_mm_h
from PIL import Image

import nowcast
from nowcast.errors import InputError
from nowcast.radar.image_frames import ImageSeries
from nowcast.radar.units import ZRRelation


@pytest.mark.parametrize("write", [as_netcdf, as_zarr])
def test_it_is_what_xarray_reads_of_a_file(tmp_path, write):
    event = event_dataset(rain_mm_h())
    path = write(event, tmp_path / "event")
    frames = nowcast.read_frames(path)
    assert (frames.dims, frames.attrs["units"]) == (("time", "y", "x"), "mm h-1")
    np.testing.assert_allclose(frames, event["rainfall_rate"], rtol=1e-6)
    for name in ("time", "y", "x"):
        np.testing.assert_array_equal(frames[name], event[name])
    assert frames["y"].attrs["units"] == "m"
    assert frames.encoding["grid_mapping"] == "crs"
    assert frames["crs"].attrs["crs_wkt"] == "PROJCS[…]"
    xr.testing.assert_identical(nowcast.read_frames(path, 3), frames[-3:])


def test_rows_from_the_south_and_columns_from_the_east_are_turned_with_their_coordinates(tmp_path):
    event = event_dataset(rain_mm_h())
    expected = nowcast.read_frames(as_netcdf(event, tmp_path / "a.nc"))
    turned = as_netcdf(event.isel(y=slice(None, None, -1), x=slice(None, None, -1)), tmp_path / "b")
    xr.testing.assert_equal(nowcast.read_frames(turned), expected)


def test_latitude_and_longitude_keep_their_names(tmp_path):
    event = event_dataset(rain_mm_h()).rename(y="lat", x="lon").drop_vars("crs")
    frames = nowcast.read_frames(as_netcdf(event, tmp_path / "a.nc"))
    assert frames.dims == ("time", "lat", "lon")
    assert "grid_mapping" not in frames.encoding


def test_a_folder_of_images_has_rain_without_a_place(tmp_path):
    for minute in (0, 5):
        Image.fromarray(np.full((3, 4), minute, np.uint8)).save(
            tmp_path / f"20200601000{minute}.png"
        )
    images = ImageSeries(pattern="%Y%m%d%H%M.png", mm_h_per_level=0.5)
    frames = nowcast.read_frames(tmp_path, images=images)
    assert frames.sizes == {"time": 2, "y": 3, "x": 4}
    assert list(frames.coords) == ["time"]
    assert (frames[1] == 2.5).all()


def test_fewer_frames_than_wanted_are_refused(tmp_path):
    path = as_netcdf(event_dataset(rain_mm_h()), tmp_path / "a.nc")
    with pytest.raises(InputError, match=r"a.nc: found 13 frames, expected at least 14"):
        nowcast.read_frames(path, 14)
    with pytest.raises(InputError, match="found last=0, expected at least 1"):
        nowcast.read_frames(path, 0)


def test_composites_may_be_named_one_by_one(tmp_path):
    pytest.importorskip("pyproj")
    pytest.importorskip("pysteps.io.importers")
    for number, minutes in enumerate((10, 0, 5)):
        (tmp_path / f"{number}").mkdir()
        write_odim(tmp_path / f"{number}/frame", np.full((3, 4), float(minutes)), minutes)
    files = sorted(tmp_path.glob("*/frame"))
    frames = nowcast.read_frames(files)
    assert frames[:, 0, 0].to_numpy().tolist() == [0, 5, 10]
    xr.testing.assert_identical(frames, nowcast.read_frames(tmp_path))
    xr.testing.assert_identical(nowcast.read_frames(map(str, files[1:])), frames[:2])
    with pytest.raises(InputError, match="found no file with frames"):
        nowcast.read_frames([])
    (tmp_path / "text").write_text("rain")
    with pytest.raises(InputError, match="text: cannot be read as a NetCDF-4 event"):
        nowcast.read_frames([*files, tmp_path / "text"])


def test_composites_have_their_projection(tmp_path):
    pyproj = pytest.importorskip("pyproj")
    pytest.importorskip("pysteps.io.importers")
    for minutes in (0, 5):
        write_odim(tmp_path / f"{minutes}", np.full((3, 4), 30.0), minutes, "DBZH")
    frames = nowcast.read_frames(tmp_path, relation=ZRRelation(200.0, 1.6))
    np.testing.assert_allclose(frames, (1000 / 200) ** (1 / 1.6), rtol=1e-6)
    np.testing.assert_allclose(frames["x"], [1000, 3000, 5000, 7000], atol=1e-3)
    stated = pyproj.CRS.from_proj4("+proj=stere +lat_0=90 +lon_0=25 +lat_ts=60 +R=6371288")
    found = pyproj.CRS.from_wkt(frames["crs"].attrs["crs_wkt"])
    there, here = (pyproj.Proj(crs)(20.0, 60.0) for crs in (stated, found))
    assert there == pytest.approx(here, abs=1e-6)


def test_composites_of_a_service_lie_where_others_packed_them(shared):
    """And a forecast from them is georeferenced."""
    pyproj = pytest.importorskip("pyproj")
    pytest.importorskip("pysteps.io.importers")
    frames = nowcast.read_frames(shared / "real-radar/original/knmi_hdf5")
    packed = nowcast.read_frames(shared / "real-radar/events/knmi_20100826.nc")
    np.testing.assert_allclose(frames, packed.sel(time=frames["time"]), atol=1e-6)
    for axis in "yx":
        np.testing.assert_allclose(frames[axis], packed[axis], atol=0.01)
    known = [pyproj.CRS.from_wkt(one["crs"].attrs["crs_wkt"]) for one in (frames, packed)]
    assert known[0] == known[1]
    forecast = nowcast.forecast(nowcast.load("convgru-5min"), frames[:, ::4, ::4], 1)
    assert forecast["rain_rate"].encoding["grid_mapping"] == "crs"
    assert forecast["time"].to_numpy()[0] == np.datetime64("2010-08-26T04:05")
