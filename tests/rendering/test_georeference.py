"""Where pixels lie: against the corners that services state, and closed forms of projections."""

import h5py
import numpy as np
import pyproj
import pytest
from made_up_forecast import STEREOGRAPHIC, forecast, frames, rain

import nowcast
from nowcast.errors import InputError
from nowcast.rendering.georeference import georeference


def grid_of(**where):
    return georeference(frames(rain(2), **where).to_dataset(name="rain_rate"))


def corners(grid):
    """Longitudes and latitudes of the outer corners: lower left, then clockwise."""
    columns = np.array([0, 0, grid.width, grid.width])
    return grid.degrees(columns, np.array([grid.height, 0, 0, grid.height]))


def test_corners_of_the_dutch_composite_are_those_that_its_service_states(shared):
    event = nowcast.read_frames(shared / "real-radar/events/knmi_20100826.nc", last=1)
    original = sorted((shared / "real-radar/original/knmi_hdf5").glob("*.h5"))[0]
    with h5py.File(original) as file:
        stated = file["geographic"].attrs["geo_product_corners"].reshape(4, 2)
    grid = georeference(event.to_dataset(name="rain_rate"))
    # They are given to three decimals.
    np.testing.assert_allclose(np.column_stack(corners(grid)), stated, atol=6e-4)


def test_corners_of_the_european_composite_are_those_that_its_service_states(shared):
    files = sorted((shared / "real-radar/original/opera_odim").glob("*.hdf"))
    with h5py.File(files[0]) as file:
        where = dict(file["where"].attrs)
    stated = [
        [where[f"{corner}_{axis}"] for corner in ("LL", "UL", "UR", "LR")]
        for axis in ("lon", "lat")
    ]
    grid = georeference(nowcast.read_frames(files).to_dataset(name="rain_rate"))
    np.testing.assert_allclose(corners(grid), stated, atol=1e-5)


def test_places_of_a_polar_stereographic_grid_are_those_of_its_formula():
    grid = grid_of()
    longitude, latitude = np.array([20.0, 25.0, 28.0]), np.array([60.0, 64.0, 69.5])
    radius = 6371288 * (1 + np.sin(np.radians(60))) * np.tan(np.radians(45 - latitude / 2))
    x = 380886 + radius * np.sin(np.radians(longitude - 25))
    y = 3395678 - radius * np.cos(np.radians(longitude - 25))
    columns, rows = grid.places(longitude, latitude)
    # The Earth's flattening makes no difference: degrees are taken for those of the sphere.
    np.testing.assert_allclose(columns, x / 1000, atol=1e-6)
    np.testing.assert_allclose(rows, (60_000 - y) / 1000, atol=1e-6)
    np.testing.assert_allclose(grid.degrees(columns, rows), [longitude, latitude], atol=1e-9)


def test_degrees_of_an_axis_are_turned_to_where_the_grid_is():
    grid = grid_of(crs="EPSG:4326", spacing=0.01, left=230.0, top=48.0, units="degrees")
    np.testing.assert_allclose(grid.places(np.array([-129.9]), np.array([47.9])), [[10], [10]])
    assert grid.degrees(np.array([0.0]), np.array([0.0]))[0] == pytest.approx(-130.0)
    # Without a grid mapping, too.
    bare = frames(rain(2), None, 0.01, 5.0, 50.0, units="degrees_north")
    assert georeference(bare.to_dataset(name="rain_rate")).crs == pyproj.CRS("EPSG:4326")


def test_kilometres_are_turned_into_the_units_of_the_projection():
    metres, kilometres = grid_of(), grid_of(spacing=1.0, top=60.0, units="km")
    np.testing.assert_allclose(corners(kilometres), corners(metres), rtol=1e-12)
    by_projection = grid_of(
        crs=f"{STEREOGRAPHIC} +units=km".replace("886 ", "886 +to_meter=1000 "),
        spacing=1.0, top=60.0, units="km",
    )  # fmt: skip
    np.testing.assert_allclose(corners(by_projection), corners(metres), rtol=1e-9)


def test_which_way_the_axes_run_makes_no_difference():
    seen = frames(rain(2)).to_dataset(name="rain_rate")
    turned = georeference(seen.isel(y=slice(None, None, -1), x=slice(None, None, -1)))
    np.testing.assert_allclose(corners(turned), corners(georeference(seen)), rtol=1e-12)


def test_reduced_and_enlarged_grids_cover_the_same_ground():
    grid = grid_of()
    for other in (grid.reduced(4), grid.enlarged(3)):
        np.testing.assert_allclose(corners(other), corners(grid), rtol=1e-12)
    assert (grid.reduced(7).height, grid.reduced(7).width) == (9, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.drop_vars("crs"), "found no grid mapping"),
        (lambda made: made.assign_coords(crs=((), 0, {"crs_wkt": "nonsense"})), "no projection"),
        (lambda made: made.drop_vars("x"), "no coordinate along x"),
        (lambda made: made.isel(y=[0]), "no coordinate along y"),
        (lambda made: made.assign_coords(x=made["x"] ** 2), "x unevenly spaced"),
    ],
)
def test_a_field_that_does_not_say_where_it_lies_is_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        georeference(change(forecast(frames(rain(2)))))
    assert "\n" not in str(caught.value)
