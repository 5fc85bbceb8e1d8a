"""Our importer beside pysteps' own on real files: the same field, place and meaning."""

from datetime import datetime

import numpy as np
import pytest
import xarray as xr
from made_up_composites import write_odim, write_tiff

import nowcast
from nowcast.errors import InputError
from nowcast.plugins.pysteps_importer import import_radar_composite
from nowcast.plugins.pysteps_nowcasts import convgru

pysteps = pytest.importorskip("pysteps", reason="pysteps is not installed")
pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")
for package in ("rasterio", "pygrib"):
    pytest.importorskip(package)

# File, pysteps' importer and its settings, its metres per unit, and what it takes for known.
FILES = {
    "FMI": (
        "fmi_pgm/201609281500_fmi.radar.composite.lowest_FIN_SUOMI1.pgm.gz",
        "fmi_pgm", {"gzipped": True}, 1, datetime(2016, 9, 28, 15),
    ),
    "KNMI": (
        "knmi_hdf5/RAD_NL25_RAP_5min_201008260340.h5",
        "knmi_hdf5", {}, 1000, datetime(2010, 8, 26, 3, 40),
    ),
    "MRMS": (
        "mrms_grib2/PrecipRate_00.00_20190610-000000.grib2",
        "mrms_grib", {"window_size": 1}, 1, datetime(2019, 6, 10),
    ),
    "ODIM": (
        "opera_odim/T_PAAH22_C_EUOC_20241126010000.hdf",
        "odim_hdf5", {"qty": "RATE"}, 1, datetime(2024, 11, 26, 1),
    ),
}  # fmt: skip


def corners(metadata):
    """Longitude and latitude of the outer corners, in degrees."""
    x = [metadata["x1"], metadata["x2"], metadata["x1"], metadata["x2"]]
    y = [metadata["y1"], metadata["y1"], metadata["y2"], metadata["y2"]]
    if metadata["cartesian_unit"] == "degrees":
        return np.array([x, y])
    return np.array(pyproj.Proj(metadata["projection"])(x, y, inverse=True))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_by_the_importer_of_pysteps(shared, name):
    path, importer, settings, metres, time = FILES[name]
    path = shared / "real-radar/original" / path
    theirs, _, expected = pysteps.io.get_method(importer, "importer")(str(path), **settings)
    values, quality, found = import_radar_composite(path)
    np.testing.assert_array_equal(values, theirs)
    assert quality is None
    for key in ("unit", "transform", "yorigin"):
        assert found[key] == expected[key], key
    for key in ("threshold", "zerovalue"):
        assert found[key] == pytest.approx(expected[key], rel=1e-7), key
    for key in ("xpixelsize", "ypixelsize"):
        assert found[key] == pytest.approx(metres * expected[key], rel=1e-7), key
    np.testing.assert_allclose(corners(found), corners(expected), rtol=0, atol=1e-6)
    assert found["x2"] - found["x1"] == pytest.approx(found["xpixelsize"] * values.shape[1])
    assert found["y2"] - found["y1"] == pytest.approx(found["ypixelsize"] * values.shape[0])
    assert found["timestamp"] == time
    if name == "FMI":
        assert (found["zr_a"], found["zr_b"]) == (expected["zr_a"], expected["zr_b"])
    if name == "KNMI":
        assert found["accutime"] == expected["accutime"] == 5


def test_what_pysteps_reads_with_it_is_forecast_as_by_read_frames(shared):
    """Five amounts of KNMI, by pysteps' own way through its archive, in its metadata."""
    folder = shared / "real-radar/original/knmi_hdf5"
    files = pysteps.io.archive.find_by_date(
        datetime(2010, 8, 26, 4), str(folder), ".", "RAD_NL25_RAP_5min_%Y%m%d%H%M", "h5", 5,
        num_prev_files=4,
    )  # fmt: skip
    importer = pysteps.decorators.postprocess_import()(import_radar_composite)
    amounts, _, metadata = pysteps.io.read_timeseries(files, importer)
    assert amounts.shape == (5, 765, 700)
    assert metadata["unit"] == "mm"
    here = np.s_[:, 300:450, 250:400]
    found = convgru(amounts[here], None, 2, metadata=metadata)
    frames = nowcast.read_frames(folder)[here]
    expected = nowcast.forecast(nowcast.load("convgru-5min"), frames, 2)["rain_rate"].to_numpy()
    assert (expected > 1).mean() > 0.05
    # Frames in float32 mm/h on the one side, in float64 mm on the other: where two pixels come out
    # nearly equal, the network hands out the values of the last frame in another order.
    np.testing.assert_allclose(12 * found, expected, rtol=1e-3, atol=1e-3)
    rates, described = pysteps.utils.conversion.to_rainrate(amounts, metadata)
    assert described["threshold"] == pytest.approx(0.12)
    np.testing.assert_allclose(rates, nowcast.read_frames(folder), rtol=1e-6)


def test_types_and_missing_data_as_pysteps_wants_them(tmp_path):
    write_odim(tmp_path / "odim.h5", np.array([[1.0, 2.5, np.nan], [0.0, 0.25, 3.0]]))
    importer = pysteps.decorators.postprocess_import()(import_radar_composite)
    values, _, metadata = importer(str(tmp_path / "odim.h5"), dtype="float32", fillna=-99.0)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32([[1.0, 2.5, -99.0], [0.0, 0.25, 3.0]]))
    assert (metadata["zerovalue"], metadata["threshold"]) == (0.0, 0.25)
    assert importer(str(tmp_path / "odim.h5"))[0].dtype == np.float64
    assert "zr_a" in importer.__doc__


def test_relation_and_time_that_a_file_does_not_tell(tmp_path):
    write_tiff(tmp_path / "fmi.tif", np.array([[1.0, 22.5, np.nan], [-10.0, 0.0, 45.5]]))
    _, _, plain = import_radar_composite(tmp_path / "fmi.tif")
    assert plain["unit"] == "dBZ"
    assert plain["accutime"] is None
    assert "zr_a" not in plain
    assert pyproj.CRS.from_proj4(plain["projection"]).is_projected
    _, _, told = import_radar_composite(tmp_path / "fmi.tif", zr_a=223, zr_b=1.53, accutime=5)
    assert (told["zr_a"], told["zr_b"], told["accutime"]) == (223, 1.53, 5)
    with pytest.raises(InputError, match="found zr_a=223 and zr_b=None, expected both or none"):
        import_radar_composite(tmp_path / "fmi.tif", zr_a=223)


def test_a_frame_of_a_cf_file(shared):
    path = shared / "real-radar/events/knmi_20100826.nc"
    values, _, metadata = import_radar_composite(path, time=datetime(2010, 8, 26, 3, 40))
    frame = nowcast.read_frames(path).sel(time="2010-08-26T03:40")
    np.testing.assert_array_equal(values.astype(np.float32), frame)
    # The same place as in the file that KNMI issues.
    theirs = import_radar_composite(shared / "real-radar/original" / FILES["KNMI"][0])[2]
    np.testing.assert_allclose(corners(metadata), corners(theirs), rtol=0, atol=1e-6)
    assert (metadata["unit"], metadata["accutime"]) == ("mm/h", 5.0)
    assert metadata["institution"].startswith("KNMI")
    with pytest.raises(InputError, match="found 92 frames from 2010-08-26T00:00:00 on, expected"):
        import_radar_composite(path)
    with pytest.raises(InputError, match="expected 2010-08-26T03:41"):
        import_radar_composite(path, time="2010-08-26T03:41")


def write_cf(path, **coordinates):
    xr.Dataset(
        {"rain_rate": (("time", "y", "x"), np.ones((1, 2, 3)), {"units": "mm/h"})},
        coords={"time": [np.datetime64("2020-06-01", "ns")], **coordinates},
        attrs={"time_step_minutes": 5.0},
    ).to_netcdf(path, engine="h5netcdf")


def test_a_cf_file_in_degrees_needs_no_grid_mapping(tmp_path):
    y = ("y", [50.0, 49.9], {"units": "degrees_north", "standard_name": "latitude"})
    x = ("x", [8.0, 8.2, 8.4], {"units": "degrees_east", "standard_name": "longitude"})
    write_cf(tmp_path / "cf.nc", y=y, x=x)
    _, _, found = import_radar_composite(tmp_path / "cf.nc")
    assert found["cartesian_unit"] == "degrees"
    assert pyproj.CRS.from_proj4(found["projection"]).is_geographic
    edges = [found[key] for key in ("x1", "x2", "y1", "y2", "xpixelsize", "ypixelsize")]
    np.testing.assert_allclose(edges, [7.9, 8.5, 49.85, 50.05, 0.2, 0.1])


def test_a_cf_file_that_does_not_tell_where_it_lies_is_refused(tmp_path):
    x = ("x", [0.0, 1000.0, 2000.0], {"units": "m"})
    write_cf(tmp_path / "no_mapping.nc", y=("y", [2000.0, 1000.0], {"units": "m"}), x=x)
    with pytest.raises(InputError, match="found no projection of its coordinates"):
        import_radar_composite(tmp_path / "no_mapping.nc")


def test_what_is_no_radar_is_refused_in_one_line(tmp_path):
    (tmp_path / "text").write_text("rain\n")
    for path in (tmp_path / "text", tmp_path / "missing", tmp_path):
        with pytest.raises(InputError) as caught:
            import_radar_composite(path)
        assert "\n" not in str(caught.value)
    write_odim(tmp_path / "odim.h5", np.ones((2, 3)))
    with pytest.raises(InputError, match="found the time 2020-06-01T00:00:00, expected 2021"):
        import_radar_composite(tmp_path / "odim.h5", time="2021-01-01")
