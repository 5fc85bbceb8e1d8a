"""Map images, read again by GDAL: where they lie, and what each pixel shows."""

import numpy as np
import pyproj
import pytest
from made_up_forecast import forecast, frames, rain, with_probabilities
from PIL import Image

import nowcast
from nowcast.errors import InputError
from nowcast.models.persistence import Persistence
from nowcast.rendering import write_map_images
from nowcast.rendering.palette import PROBABILITY_COLOURS, RAIN_COLOURS, RAIN_EDGES_MM_H

rasterio = pytest.importorskip("rasterio", reason="rasterio reads map images as GIS programs do")


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def test_names_tell_the_valid_time_and_nothing_half_written_is_left(tmp_path):
    made = forecast(frames(rain()), 2)
    paths = write_map_images(tmp_path / "new", made)
    assert [path.name for path in paths] == [
        "rain_rate_20160928T1600Z.png", "rain_rate_20160928T1605Z.png",
    ]  # fmt: skip
    suffixes = (".pgw", ".png", ".png.aux.xml", ".prj")
    expected = [path.stem + suffix for path in paths for suffix in suffixes]
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == expected
    made["time"] = made["time"] + np.timedelta64(30, "s")
    assert write_map_images(tmp_path, made)[0].name == "rain_rate_20160928T160030Z.png"


@pytest.mark.parametrize("event", ["fmi_20160928", "knmi_20100826", "mrms_20190610_crop"])
def test_gdal_reads_where_real_composites_lie_and_cells_stand_at_their_places(
    shared, tmp_path, event
):
    seen = nowcast.read_frames(shared / f"real-radar/events/{event}.nc", last=2)
    made = nowcast.forecast(Persistence(), seen, 1)
    (path,) = write_map_images(tmp_path, made)
    rates = made["rain_rate"][0]
    with rasterio.open(path) as image:
        assert (image.height, image.width) == rates.shape
        assert pyproj.CRS(image.crs.to_wkt()).equals(
            pyproj.CRS(pyproj.CRS.from_cf(seen["crs"].attrs).to_wkt()), ignore_axis_order=True
        )
        # The wettest cell, one without coverage, and a dry one.
        wettest = np.unravel_index(np.nanargmax(rates.to_numpy()), rates.shape)
        hidden = np.argwhere(np.isnan(rates.to_numpy()))[0]
        dry = np.argwhere(rates.to_numpy() == 0)[0]
        colours = image.colormap(1)
        field = image.read(1)
        for row, column in (wettest, hidden, dry):
            x, y = float(rates[rates.dims[1]][column]), float(rates[rates.dims[0]][row])
            assert image.index(x, y) == (row, column)
            np.testing.assert_allclose(image.xy(row, column), (x, y), rtol=1e-9)
        rate = float(rates[wettest])
        expected = rgb(RAIN_COLOURS[np.searchsorted(RAIN_EDGES_MM_H, rate, "right") - 1])
        assert colours[field[wettest]] == (*expected, 255)
        assert colours[field[tuple(hidden)]][3] == 128
        assert colours[field[tuple(dry)]][3] == 0
        written = path.with_suffix(".pgw").read_text().split()
        place = image.xy(0, 0)
    # The world file says the same, and so does the projection beside it.
    step_x, _, _, step_y, left, top = map(float, written)
    np.testing.assert_allclose((left, top), place, rtol=1e-9)
    assert (step_x > 0, step_y < 0) == (True, True)
    beside = pyproj.CRS.from_wkt(path.with_suffix(".prj").read_text())
    here = pyproj.CRS.from_cf(seen["crs"].attrs)
    some = np.array([[10.0, 60.0], [25.0, 65.0], [-85.0, 45.0]]).T
    degrees = "EPSG:4326"
    np.testing.assert_allclose(
        pyproj.Transformer.from_crs(degrees, beside, always_xy=True).transform(*some),
        pyproj.Transformer.from_crs(degrees, here, always_xy=True).transform(*some),
        atol=1.0,
    )


def test_without_its_world_file_the_place_is_still_known_and_the_other_way_round(tmp_path):
    made = forecast(frames(rain()), 1)
    (path,) = write_map_images(tmp_path, made)
    places = []
    for gone in (".pgw", ".png.aux.xml"):
        kept = path.with_suffix(gone).read_bytes()
        path.with_suffix(gone).unlink()
        with rasterio.open(path) as image:
            places.append(image.transform)
        path.with_suffix(gone).write_bytes(kept)
    assert places[0] == places[1] == rasterio.Affine(1000, 0, 0, 0, -1000, 60_000)


def test_north_is_at_the_top_and_a_pixel_is_a_cell_whichever_way_the_axes_run(tmp_path):
    seen = frames(rain())
    turned = seen.isel(y=slice(None, None, -1))
    one, other = (
        write_map_images(tmp_path / name, forecast(each))[-1]
        for name, each in (("a", seen), ("b", turned))
    )
    for suffix in (".png", ".pgw", ".prj", ".png.aux.xml"):
        assert one.with_suffix(suffix).read_bytes() == other.with_suffix(suffix).read_bytes()
    with Image.open(one) as image:
        shown = np.asarray(image.convert("RGBA"))
    assert shown.shape == (60, 40, 4)
    wet = (shown[..., :3] == rgb(RAIN_COLOURS[4])).all(axis=2)
    rows, columns = np.nonzero(wet)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 8, 15)
    assert (shown[:10, :, 3] == 0).all()


def test_an_ensembles_probabilities_have_images_of_their_own(tmp_path):
    paths = write_map_images(tmp_path, with_probabilities(forecast(frames(rain()), 1)))
    assert [path.name.rsplit("_", 1)[0] for path in paths] == [
        "rain_rate", "probability_1_mm_h", "probability_10_mm_h",
    ]  # fmt: skip
    for path, colour in ((paths[1], PROBABILITY_COLOURS[8]), (paths[2], PROBABILITY_COLOURS[3])):
        with Image.open(path) as image:
            assert image.convert("RGBA").getpixel((0, 0)) == (*rgb(colour), 255)


def test_a_forecast_that_does_not_say_where_it_lies_is_refused_before_anything_is_written(tmp_path):
    made = forecast(frames(rain(), crs=None))
    with pytest.raises(InputError, match="found no grid mapping") as caught:
        write_map_images(tmp_path / "new", made)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
