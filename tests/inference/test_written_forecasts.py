"""Forecasts as files, read by what others read them with."""

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from cf_checker import complaints
from moving_rain import START, rain_at

import nowcast
from nowcast.errors import InputError
from nowcast.evaluation.forecast_files import ForecastFile
from nowcast.models.ensembles import PerturbedInputs
from nowcast.models.optical_flow import OpticalFlow
from nowcast.radar.units import rain_rate_to_pixel

REAL = ["fmi_20160928", "knmi_20100826", "mrms_20190610_crop", "opera_cirrus_20241126_crop"]


def located(frames):
    """At pixels of 1 km in the projection of the Finnish composite."""
    pyproj = pytest.importorskip("pyproj")
    crs = pyproj.CRS.from_proj4("+proj=stere +lat_0=90 +lon_0=25 +lat_ts=60 +R=6371288")
    height, width = frames.shape[1:]
    axes = {
        "y": ("y", 1000.0 * np.arange(height)[::-1] - 3.4e6,
              {"units": "m", "standard_name": "projection_y_coordinate"}),
        "x": ("x", 1000.0 * np.arange(width),
              {"units": "m", "standard_name": "projection_x_coordinate"}),
    }  # fmt: skip
    frames = frames.assign_coords(axes).assign_coords(crs=((), 0, crs.to_cf()))
    frames.encoding["grid_mapping"] = "crs"
    return frames


@pytest.fixture(scope="module")
def made():
    frames = located(rain_at(0, 5, 10)).assign_attrs(institution="A Service", license="CC BY 4.0")
    frames[-1, 30:40, 50:60] = np.nan
    model = PerturbedInputs(OpticalFlow(), members=3)
    return nowcast.forecast(model, frames, 4, thresholds_mm_h=[0.5, 2.0])


def written(forecast, path):
    nowcast.write_forecast(forecast, path)
    return path


def test_it_says_when_where_and_by_what(made, tmp_path):
    path = written(made, tmp_path / "forecast.nc")
    with xr.open_dataset(path, decode_coords="all", decode_timedelta=True) as read:
        field = read["precip_intensity"]
        assert field.dims == ("time", "y", "x")
        np.testing.assert_array_equal(field, made["rain_rate"])
        np.testing.assert_array_equal(
            read["exceedance_probability"], made["exceedance_probability"]
        )
        np.testing.assert_array_equal(read["time"], made["time"])
        np.testing.assert_array_equal(read["lead_time"], made["lead_time"])
        assert read["forecast_reference_time"] == START + np.timedelta64(10, "m")
        np.testing.assert_array_equal(read["threshold"], [0.5, 2.0])
        assert (field.attrs["units"], field.attrs["standard_name"]) == ("mm h-1", "rainfall_rate")
        assert field.encoding["grid_mapping"] == "polar_stereographic"
        mapping = read["polar_stereographic"].attrs
        assert mapping["latitude_of_projection_origin"] == 90.0
        assert mapping["crs_wkt"] == made["crs"].attrs["crs_wkt"]
        for name, said in {
            "Conventions": "CF-1.8",
            "title": "Precipitation nowcast",
            "institution": "A Service",
            "license": "CC BY 4.0",
            "source": (
                f"nowcast {nowcast.__version__}, 3 members with perturbed inputs of OpticalFlow"
            ),
        }.items():
            assert read.attrs[name] == said
        assert (
            f"nowcast {nowcast.__version__}: forecast from 2020-06-01 12:10:00 UTC"
            in (read.attrs["history"])
        )
    with h5py.File(path) as file:
        # One lead time can be read without the others.
        assert file["precip_intensity"].chunks == (1, 120, 160)
        assert file["precip_intensity"].compression == "gzip"


def test_a_zarr_store_holds_the_same(made, tmp_path):
    pytest.importorskip("zarr")
    path = written(made, tmp_path / "forecast.zarr")
    with (
        xr.open_zarr(path, decode_coords="all", decode_timedelta=True, consolidated=False) as store,
        xr.open_dataset(
            written(made, tmp_path / "forecast.nc"), decode_coords="all", decode_timedelta=True
        ) as file,
    ):
        xr.testing.assert_equal(store.load(), file.load())
        assert store["precip_intensity"].encoding["grid_mapping"] == "polar_stereographic"
    # Written again, it is replaced, and nothing is left beside it.
    written(made.isel(lead_time=slice(2)), path)
    with xr.open_zarr(path, decode_timedelta=True, consolidated=False) as store:
        assert store.sizes["time"] == 2
    assert {entry.name for entry in tmp_path.iterdir()} == {"forecast.zarr", "forecast.nc"}


def test_the_cf_checker_finds_nothing(made, tmp_path):
    assert complaints(written(made, tmp_path / "forecast.nc"), tmp_path) == {}


def test_the_cf_checker_would_find_something(made, tmp_path):
    broken = made.copy()
    broken["rain_rate"].attrs["units"] = "kelvin"
    assert complaints(written(broken, tmp_path / "forecast.nc"), tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_of_real_events_the_cf_checker_finds_nothing(shared, tmp_path, name):
    frames = nowcast.read_frames(shared / f"real-radar/events/{name}.nc")[:5, ::4, ::4]
    forecast = nowcast.forecast(OpticalFlow(), frames, 2)
    path = written(forecast, tmp_path / "forecast.nc")
    assert complaints(path, tmp_path) == {}
    with xr.open_dataset(path) as read:
        assert read.attrs["institution"] == frames.attrs["institution"]


@pytest.mark.parametrize("name", REAL)
def test_gis_programs_find_its_place(shared, tmp_path, name):
    """GDAL, as QGIS uses it: every cell where the frames have it, in their projection."""
    rasterio = pytest.importorskip("rasterio")
    pyproj = pytest.importorskip("pyproj")
    frames = nowcast.read_frames(shared / f"real-radar/events/{name}.nc")[:2, ::4, ::4]
    path = written(nowcast.forecast(OpticalFlow(), frames, 1), tmp_path / "forecast.nc")
    with rasterio.open(f"netcdf:{path}:precip_intensity") as raster:
        assert raster.shape == frames.shape[1:]
        x, y = raster.xy(3, 5)
        axes = [frames[dim].to_numpy() for dim in frames.dims[1:]]
        spacing = abs(float(axes[1][1] - axes[1][0]))
        assert (y, x) == pytest.approx((axes[0][3], axes[1][5]), abs=1e-3 * spacing)
        stated = pyproj.CRS.from_wkt(frames[frames.encoding["grid_mapping"]].attrs["crs_wkt"])
        found = pyproj.CRS.from_wkt(raster.crs.to_wkt())
        there, here = (
            pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
            for crs in (stated, found)
        )
        assert there == pytest.approx(here, abs=1e-6)
        values = raster.read(1)
    with xr.open_dataset(path) as read:
        np.testing.assert_array_equal(values, read["precip_intensity"][0])


def test_pysteps_reads_it(made, tmp_path):
    importers = pytest.importorskip("pysteps.io.nowcast_importers")
    pytest.importorskip("netCDF4")
    path = written(made.drop_vars("exceedance_probability"), tmp_path / "forecast.nc")
    rates, metadata = importers.import_netcdf_pysteps(str(path), onerror="raise")
    np.testing.assert_array_equal(rates, made["rain_rate"])
    assert (metadata["unit"], metadata["accutime"]) == ("mm/h", 5)
    assert metadata["leadtimes"].tolist() == [5, 10, 15, 20]
    assert str(metadata["timestamps"][0]) == "2020-06-01 12:15:00"
    assert (metadata["xpixelsize"], metadata["x1"], metadata["x2"]) == (1000, -500, 159_500)
    assert (metadata["y1"], metadata["y2"]) == (-3.4e6 - 500, -3.4e6 + 119_500)
    import pyproj

    there, here = (
        pyproj.Proj(projection)(20.0, 60.0)
        for projection in (metadata["projection"] + " +R=6371288", made["crs"].attrs["crs_wkt"])
    )
    assert there == pytest.approx(here, abs=1e-3)


def test_it_is_scored_as_any_forecast(made, tmp_path):
    path = written(made.fillna(0.0), tmp_path / "forecast.nc")
    file = ForecastFile(path, step_minutes=5, places=["here"], shape=(120, 160))
    issue = np.array(["2020-06-01T12:10"], "datetime64[s]")
    found = file.forecast_issued(["here"], issue, 4)[0, 0, :, 0].numpy()
    rates = made["rain_rate"].fillna(0.0).to_numpy()
    with np.errstate(divide="ignore"):
        expected = rain_rate_to_pixel(rates).clip(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_cannot_be_written_is_refused_and_leaves_what_was_there(made, tmp_path):
    for name, message in (
        ("forecast.tif", "found .tif at its end, expected .nc for NetCDF or .zarr for Zarr"),
        ("forecast", "found nothing at its end"),
    ):
        with pytest.raises(InputError, match=message):
            nowcast.write_forecast(made, tmp_path / name)
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr/thesis.txt").write_text("years")
    with pytest.raises(InputError, match=r"mine.zarr: found a folder that is no Zarr store"):
        nowcast.write_forecast(made, tmp_path / "mine.zarr")
    assert (tmp_path / "mine.zarr/thesis.txt").read_text() == "years"
    path = written(made, tmp_path / "forecast.nc")
    before = path.read_bytes()
    broken = made.copy()
    broken["rain_rate"].attrs["note"] = {"a": "thing that no file can hold"}
    with pytest.raises(TypeError):
        nowcast.write_forecast(broken, path)
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.zarr", "forecast.nc"}


def test_a_forecast_without_a_place_can_be_written_too(tmp_path):
    forecast = nowcast.forecast(OpticalFlow(), rain_at(0, 5), 2)
    path = written(forecast, tmp_path / "forecast.nc")
    with xr.open_dataset(path) as read:
        assert read["precip_intensity"].dims == ("time", "y", "x")
        assert "grid_mapping" not in read["precip_intensity"].encoding


def test_a_trained_network_is_named_with_its_hash(shared):
    network = nowcast.load("convgru-5min")
    frames = nowcast.read_frames(shared / "real-radar/events/knmi_20100826.nc")[:5, ::8, ::8]
    source = nowcast.forecast(network, frames, 1).attrs["source"]
    assert source.startswith(f"nowcast {nowcast.__version__}, convgru-5min (SHA-256 ")
    assert torch.is_tensor(next(network.network.parameters()))
