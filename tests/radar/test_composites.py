"""Composites as services issue them: values, time and grid; what would be misread is refused."""

import gzip
import shutil
import sys

import h5py
import numpy as np
import pytest
import xarray as xr
from made_up_composites import write_knmi, write_odim, write_pgm, write_tiff

from nowcast.errors import InputError
from nowcast.radar.composite_files import is_composite, read_composite, second_of
from nowcast.radar.event_sources import open_event, read_event
from nowcast.radar.events import rain_rates
from nowcast.radar.grib_sections import check_field
from nowcast.radar.units import ZRRelation

importers = pytest.importorskip("pysteps.io.importers")
for package in ("pyproj", "rasterio", "pygrib"):
    pytest.importorskip(package)

NO_DATA = np.nan
RAIN = np.array([[1.0, 2.5, NO_DATA, 0.0], [0.25, 0.0, 10.0, 3.0]])
DBZ = np.array([[1.0, 22.5, NO_DATA, -32.0], [-10.0, 0.0, 45.5, 3.0]])
START = int(np.datetime64("2020-06-01", "s").astype(int))

FORMS = {
    "ODIM RATE": (write_odim, RAIN, "rain rate"),
    "KNMI": (write_knmi, RAIN, "rain amount"),
    "FMI PGM": (write_pgm, DBZ, "reflectivity"),
    "GeoTIFF": (write_tiff, DBZ, "reflectivity"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_known_by_what_it_holds(tmp_path, form):
    write, values, quantity = FORMS[form]
    path = tmp_path / "a file without a suffix"
    write(path, values)
    assert is_composite(path)
    found = read_composite(path)
    assert found.quantity == quantity
    np.testing.assert_allclose(found.values, values, atol=1e-6)
    assert found.second == second_of(path) == START + (300 if form == "KNMI" else 0)
    assert found.grid.shape == values.shape == (len(found.grid.y), len(found.grid.x))
    assert (np.diff(found.grid.x) > 0).all()
    assert (np.diff(found.grid.y) < 0).all()
    assert found.grid.units == "m"


@pytest.mark.parametrize(
    ("quantity", "minutes", "read_as"),
    [("RATE", None, "rain rate"), ("ACRR", 10, "rain amount"), ("DBZH", None, "reflectivity")],
)
def test_odim_says_what_it_holds_and_over_how_long(tmp_path, quantity, minutes, read_as):
    path = tmp_path / "odim.h5"
    values = np.where(RAIN == 0, -np.inf, RAIN)
    write_odim(path, values, 30, quantity, accumulated=minutes, zr=(316.0, 1.5))
    found = read_composite(path)
    assert (found.quantity, found.minutes) == (read_as, minutes)
    assert found.second == START + 1800
    assert found.relation == ZRRelation(316.0, 1.5)
    no_echo = -30 if quantity == "DBZH" else 0
    expected = np.where(np.isinf(values), no_echo, values)
    if quantity == "DBZH":
        expected = np.round(expected * 2) / 2
    np.testing.assert_allclose(found.values, expected, atol=1e-12)


def test_an_odim_grid_is_that_of_its_corners(tmp_path):
    write_odim(tmp_path / "odim.h5", RAIN)
    grid = read_composite(tmp_path / "odim.h5").grid
    np.testing.assert_allclose(grid.x, [1000, 3000, 5000, 7000], atol=1e-3)
    np.testing.assert_allclose(grid.y, [3000, 1000], atol=1e-3)
    assert grid.spacing_km == pytest.approx(2)


def test_real_composites_agree_with_pysteps_pixel_by_pixel(shared):
    original = shared / "real-radar/original"
    readers = {
        "opera_odim": importers.import_odim_hdf5,
        "knmi_hdf5": importers.import_knmi_hdf5,
        "fmi_pgm": lambda path: importers.import_fmi_pgm(path, gzipped=True),
    }
    for folder, reader in readers.items():
        for path in sorted((original / folder).iterdir()):
            values, _, metadata = reader(str(path))
            found = read_composite(path)
            np.testing.assert_array_equal(found.values, values)
            scale = 1000 if metadata["cartesian_unit"] == "km" else 1
            half = metadata["xpixelsize"] * scale / 2
            assert found.grid.x[0] == pytest.approx(metadata["x1"] * scale + half, abs=1)
            assert found.grid.y[0] == pytest.approx(metadata["y2"] * scale - half, abs=1)


@pytest.mark.slow
def test_real_composites_of_the_largest_grids_agree_too(shared):
    original = shared / "real-radar/original"
    first = min((original / "mrms_grib2").iterdir())
    values, _, _ = importers.import_mrms_grib(str(first), window_size=1)
    found = read_composite(first)
    np.testing.assert_array_equal(found.values, values)
    with xr.open_dataset(shared / "real-radar/events/mrms_20190610_crop.nc") as event:
        crop = found.values[640:1540, 3760:4880]
        np.testing.assert_allclose(crop, event["rain_rate"][0], atol=0.051)
        np.testing.assert_allclose(found.grid.x[3760:4880], event["x"], atol=1e-5)
        np.testing.assert_allclose(found.grid.y[640:1540], event["y"], atol=1e-5)
        assert second_of(first) == event["time"].to_numpy()[0].astype("datetime64[s]").astype(int)
    (tiff,) = (original / "fmi_geotiff").iterdir()
    import rasterio

    with rasterio.open(tiff) as file:
        levels = file.read(1)
    # GDAL, by which pysteps reads them, is no wheel: this is its importer's formula.
    expected = np.where(levels == 255, np.nan, (levels - 64.0) / 2)
    found = read_composite(tiff)
    np.testing.assert_array_equal(found.values, expected)
    assert found.second == np.datetime64("2017-05-09T10:45").astype("datetime64[s]").astype(int)


@pytest.mark.parametrize(
    ("folder", "packed"), [("fmi_pgm", "fmi_20160928"), ("knmi_hdf5", "knmi_20100826")]
)
def test_a_folder_of_them_is_an_event_as_others_packed_it(shared, folder, packed):
    found = read_event(shared / f"real-radar/original/{folder}")
    whole = read_event(shared / f"real-radar/events/{packed}.nc")
    numbers = np.flatnonzero(np.isin(whole.event.times, found.event.times))
    assert len(numbers) == len(found.event.times) >= 4
    np.testing.assert_array_equal(found.frames, whole.frames[numbers])
    np.testing.assert_array_equal(found.mask, whole.mask[numbers])
    assert found.event.step_minutes == 5
    assert found.event.grid_spacing_km == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_each_form_is_an_event(tmp_path, form):
    write, values, quantity = FORMS[form]
    for number, minutes in enumerate((10, 5, 20)):  # In another order than their names.
        place = tmp_path / "event" / f"{number}" / "frame"
        place.parent.mkdir(parents=True)
        stamp = {"Observation time": f"2020060100{minutes:02}"}
        write(place, values, **(stamp if write is write_tiff else {"minutes": minutes}))
    (tmp_path / "event/notes.txt").write_text("passed over")
    event = open_event(tmp_path / "event", relation=ZRRelation(223, 1.53))
    seconds = [START + 60 * minutes for minutes in (5, 10, 20)]
    assert event.times.astype(int).tolist() == seconds
    assert event.step_minutes == 5
    rate = {
        "rain rate": values, "rain amount": values * 12,
        "reflectivity": (10 ** (values / 10) / 223) ** (1 / 1.53),
    }[quantity]  # fmt: skip
    for frame in rain_rates(event, 0, 3):
        np.testing.assert_allclose(frame, rate, rtol=1e-6)


def twice(path):
    shutil.copy(path / "a", path / "z")


def another_grid(path):
    write_odim(path / "z", RAIN[:, :3], 10)


def another_place(path):
    write_odim(path / "z", RAIN, 10, west=500)


def another_quantity(path):
    write_odim(path / "z", RAIN, 10, "ACRR", accumulated=5)


def truncated(path):
    (path / "z").write_bytes((path / "a").read_bytes()[:3000])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (twice, "z: found the same time as in a, expected one file per time"),
        (another_grid, "z: found 2 × 3 pixels, expected 2 × 4 as in the first file"),
        (another_place, "z: found another grid than in the first file"),
        (another_quantity, "z: found rain amount, expected rain rate"),
        (truncated, "z: cannot be read as HDF5"),
        (lambda path: (path / "b").unlink(), "found one time, expected a time step"),
    ],
)
def test_a_folder_that_makes_no_event_is_refused(tmp_path, change, said):
    for name, minutes in (("a", 0), ("b", 5)):
        write_odim(tmp_path / name, RAIN, minutes)
    change(tmp_path)
    with pytest.raises(InputError, match=said) as refusal:
        read_event(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_reflectivity_needs_a_relation(tmp_path):
    for minutes in (0, 5):
        write_odim(tmp_path / f"{minutes}", DBZ, minutes, "DBZH")
    with pytest.raises(InputError, match="found reflectivity without its Z–R relation"):
        open_event(tmp_path)
    assert open_event(tmp_path, relation=ZRRelation(200, 1.6)).metadata["zr_a"] == 200


def linked(path):
    with h5py.File(path, "r+") as file:
        file["dataset1/extra"] = h5py.ExternalLink("/etc/passwd", "/")


def endless(path):
    with h5py.File(path, "r+") as file:
        del file["dataset1/data1/data"]
        file["dataset1/data1"].create_dataset("data", (10**6, 10**6), "u1", chunks=True)


def member(name, value):
    def change(path):
        group, attribute = name.rsplit("/", 1)
        with h5py.File(path, "r+") as file:
            file[group].attrs[attribute] = value

    return change


@pytest.mark.parametrize(
    ("write", "change", "said"),
    [
        (write_odim, linked, "found extra as a link, expected it in the file itself"),
        (write_odim, endless, "found data of 1,000,000,000,000 values, expected at most"),
        (write_odim, member("what/object", b"PVOL"), "found the object 'PVOL', expected COMP"),
        (write_odim, member("dataset1/data1/what/quantity", b"VRAD"), "found VRAD, expected one"),
        (write_odim, member("dataset1/what/endtime", b"soon"), "found the time '20200601soon'"),
        (write_odim, member("where/projdef", b"+proj=nowhere"), "cannot be read as ODIM HDF5"),
        (
            write_knmi, member("image1/calibration/calibration_formulas", b"GEO=0.1*PV+0.0"),
            "found the calibration GEO=0.1",
        ),
        (
            write_knmi, member("image1/calibration/calibration_missing_data", [0]),
            "found missing data as 0, expected 65535",
        ),
        (
            write_knmi, member("image1/image_geo_parameter", b"HEIGHT_[KM]"),
            r"found HEIGHT_\[KM\], expected one of ACCUMULATED",
        ),
        (
            write_knmi, member("overview/product_datetime_end", b"yesterday"),
            "found product_datetime_end 'yesterday'",
        ),
    ],
)  # fmt: skip
def test_hdf5_that_would_be_misread_is_refused(tmp_path, write, change, said):
    path = tmp_path / "composite.h5"
    write(path, RAIN)
    change(path)
    with pytest.raises(InputError, match=f"composite.h5: {said}") as refusal:
        read_composite(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"param": "Velocity"}, "found param 'Velocity', expected 'CorrectedReflectivity'"),
        ({"type": "mercator"}, "found type 'mercator', expected 'stereographic'"),
        ({"obstime": "now"}, "found the time 'now'"),
        ({"bottomleft": "40.0 70.0"}, "found corners .* expected a grid"),
    ],
)
def test_pgm_that_would_be_misread_is_refused(tmp_path, changes, said):
    write_pgm(tmp_path / "a.pgm", DBZ, **changes)
    with pytest.raises(InputError, match=f"a.pgm: {said}"):
        read_composite(tmp_path / "a.pgm")


def test_pgm_headers_are_not_believed(tmp_path):
    path = tmp_path / "a.pgm.gz"
    write_pgm(path, DBZ, zipped=False)
    content = path.read_bytes().replace(b"\n4 2\n", b"\n400000 200000\n")
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="found 200000 × 400000 pixels, expected rows and columns"):
        read_composite(path)
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(InputError):
        read_composite(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "m/s"}, "found a quantity in 'm/s', expected dBZ"),
        ({"Gain": None}, "found no gain, expected it in GDAL's metadata"),
        ({"Observation time": None}, "found no observation time"),
    ],
)
def test_geotiff_that_would_be_misread_is_refused(tmp_path, changes, said):
    write_tiff(tmp_path / "a.tif", DBZ, **changes)
    with pytest.raises(InputError, match=f"a.tif: {said}"):
        read_composite(tmp_path / "a.tif")


def test_what_is_no_composite_is_said(tmp_path):
    (tmp_path / "a").write_text("rain")
    with pytest.raises(InputError, match="a: found no radar composite, expected ODIM or KNMI"):
        read_composite(tmp_path / "a")
    assert not is_composite(tmp_path / "none")
    with pytest.raises(InputError, match="none: no such file"):
        read_composite(tmp_path / "none")
    (tmp_path / "b").write_bytes(b"GRIB" + bytes(200))
    with pytest.raises(InputError, match=r"b: found no GRIB of edition 2"):
        read_composite(tmp_path / "b")


@pytest.mark.parametrize(("form", "package"), [("GeoTIFF", "rasterio"), ("KNMI", "pysteps")])
def test_a_missing_package_is_named_with_how_to_get_it(tmp_path, monkeypatch, form, package):
    write, values, _ = FORMS[form]
    write(tmp_path / "a", values)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"{package} reads, .*pip install 'nowcast\[radar\]'"):
        read_composite(tmp_path / "a")


def test_mrms_is_read_compressed_as_it_is_issued(shared, tmp_path):
    plain = min((shared / "real-radar/original/mrms_grib2").iterdir())
    zipped = tmp_path / "PrecipRate.grib2.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes(), 1))
    found, expected = read_composite(zipped), read_composite(plain)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.grid == expected.grid
    assert found.second == second_of(zipped) == second_of(plain)
    zipped.write_bytes(zipped.read_bytes()[:-20_000])
    with pytest.raises(InputError, match=r"PrecipRate.grib2.gz: cannot be read as MRMS GRIB2"):
        read_composite(zipped)


def test_other_formats_are_not_known_compressed(tmp_path):
    write_odim(tmp_path / "a", np.ones((3, 4)))
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert not is_composite(path)


def test_damaged_grib_is_refused_before_the_library_sees_it(shared, tmp_path):
    """Which would end the process: flipped bytes anywhere, and in the sections before the data."""
    plain = min((shared / "real-radar/original/mrms_grib2").iterdir()).read_bytes()
    path, refused = tmp_path / "broken.grib2", 0
    random = np.random.default_rng(5)
    for number in range(60):
        broken = bytearray(plain)
        for place in random.integers(0, len(plain) if number % 2 else 230, 3):
            broken[place] ^= int(random.integers(1, 256))
        try:
            check_field(bytes(broken))
        except InputError:
            refused += 1
    assert refused > 40
    path.write_bytes(plain[:-4] + b"7777" + plain)
    with pytest.raises(InputError, match=r"broken.grib2: found .* expected one field"):
        read_composite(path)
    check_field(plain)
