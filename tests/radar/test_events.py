"""CF NetCDF events: the conversion through mm/h restated in float64, and every wrong file named."""

import h5py
import numpy as np
import pytest
from made_up import FIELD, write_event

from nowcast.errors import InputError
from nowcast.radar.event_sources import open_event, read_event
from nowcast.radar.events import rain_rates, to_pixels


def restated_pixel(reflectivity_dbz, a, b):
    """Rain rate by Z = a R^b, stored value by dBZ = 10 log10(58.53) + 15.6 log10 R, one by one."""
    rate = (10 ** (min(reflectivity_dbz, 60.0) / 10) / a) ** (1 / b)
    pixel = (10 * np.log10(58.53) + 15.6 * np.log10(rate) + 10) / 70
    return round(min(max(pixel, 0.0), 1.0) * 255)


def test_reflectivity_becomes_pixel_values_through_rain_rate(tmp_path):
    frames, mask, event = read_event(write_event(tmp_path / "event.nc"))
    for found, observed, dbz in zip(frames[0].flat, mask[0].flat, FIELD[0].flat, strict=True):
        assert observed == np.isfinite(dbz)
        assert found == (restated_pixel(dbz, 223.0, 1.53) if observed else 0)
    assert frames[0, 0, 0] == 0, "no echo is dry"
    assert mask[0, 0, 0], "and counts"
    assert frames[0, 1, 1] == frames[0, 1, 2], "clutter is clipped at 60 dBZ"
    assert event.metadata["license"] == "CC BY 4.0"
    assert (event.step_minutes, event.grid_spacing_km) == (5.0, 1.0)
    times = np.array(["2016-09-28T15:00", "2016-09-28T15:05", "2016-09-28T15:15"], "datetime64[s]")
    np.testing.assert_array_equal(event.times, times)


@pytest.mark.parametrize(
    ("units", "factor"), [("mm h-1", 1.0), ("kg m-2 s-1", 3600.0), ("m s-1", 3.6e6)]
)
def test_rain_rates_of_any_unit_become_the_same_pixel_values(tmp_path, units, factor):
    rate = np.array([[[0.0, 0.5, 2.0], [30.0, np.nan, -1.0]]])
    path = write_event(
        tmp_path / "event.nc", rate / factor, minutes=(0,), name="rain_rate", units=units
    )
    frames, mask, _ = read_event(path)
    # The benchmark's thresholds of 0.5, 2 and 30 mm/h are 0.3283, 0.4624 and 0.7245.
    expected = [[0, round(0.3283 * 255), round(0.4624 * 255)], [round(0.7245 * 255), 0, 0]]
    np.testing.assert_array_equal(frames[0], expected)
    np.testing.assert_array_equal(mask[0], [[True, True, True], [True, False, False]])


def test_row_0_is_north_and_column_0_west_whichever_way_the_file_runs(tmp_path):
    upright = read_event(write_event(tmp_path / "a.nc"))
    turned = read_event(
        write_event(
            tmp_path / "b.nc", FIELD[:, ::-1, ::-1], y=[1000.0, 2000.0], x=[3000.0, 2000.0, 1000.0]
        )
    )
    np.testing.assert_array_equal(turned.frames, upright.frames)
    np.testing.assert_array_equal(turned.mask, upright.mask)


@pytest.mark.parametrize(
    "dims", [("x", "y"), ("lon", "lat"), ("longitude", "latitude"), ("X", "Y")]
)
def test_a_field_that_lies_across_is_turned_by_the_names_of_its_axes(tmp_path, dims):
    upright = read_event(write_event(tmp_path / "a.nc"))
    across = read_event(write_event(tmp_path / "b.nc", dims=dims))
    assert across.event.shape == (2, 3)
    np.testing.assert_array_equal(across.frames, upright.frames)
    np.testing.assert_array_equal(across.mask, upright.mask)


def test_subsampling_takes_frames_at_the_step_from_the_first_on(tmp_path):
    path = write_event(tmp_path / "event.nc", FIELD[[0] * 5] + np.arange(5)[:, None, None],
                       minutes=(0, 5, 10, 15, 30))  # fmt: skip
    event = open_event(path, step_minutes=15, subsample=True)
    assert event.step_minutes == 15
    np.testing.assert_array_equal(event.reader.numbers, [0, 3, 4])
    rates = list(rain_rates(event, 1, 1))
    assert len(rates) == 1
    assert rates[0][0, 1] == pytest.approx((10**2.3 / 223) ** (1 / 1.53), rel=1e-12)
    for step, subsample in ((15, False), (12, True)):
        with pytest.raises(InputError, match=f"every 5 minutes, expected {step}"):
            open_event(path, step, subsample)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"without": ["zr_a"]}, "no zr_a and zr_b"),
        ({"units": "mm6 m-3"}, "found reflectivity in 'mm6 m-3'"),
        ({"name": "rain_rate"}, "found rain_rate in 'dBZ'"),
        ({"name": "temperature"}, "found temperature, expected one field"),
        ({"minutes": (0, 7, 15)}, "found 7 minutes between times 0 and 1, expected multiples of 5"),
        ({"minutes": (0, 15, 5)}, "strictly increasing"),
        ({"minutes": (0,), "without": ["time_step_minutes"]}, "expected a time step"),
        ({"x": [0.0, 1.0, 5.0]}, "coordinate x unevenly spaced"),
        ({"dims": ("left", "right")}, r"reflectivity \(time, left, right\), expected axes that"),
        ({"dims": ("lat", "y")}, r"reflectivity \(time, lat, y\), expected axes that"),
    ],
)
def test_an_event_that_is_not_as_expected_is_refused_by_name(tmp_path, changes, found):
    path = write_event(tmp_path / "event.nc", **changes)
    with pytest.raises(InputError, match=found) as raised:
        open_event(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_event_is_refused_by_name(tmp_path):
    path = write_event(tmp_path / "event.nc")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"CDF\1 classic"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"event\.nc: cannot be read"):
            open_event(path)
    with pytest.raises(InputError, match="no such file"):
        open_event(tmp_path / "none.nc")


def test_pixel_values_of_rates_beyond_both_ends():
    frames, mask = to_pixels(np.array([0.0, 1e-9, 1e9, np.nan]))
    np.testing.assert_array_equal(frames, [0, 0, 255, 0])
    np.testing.assert_array_equal(mask, [True, True, True, False])


@pytest.mark.parametrize(
    ("name", "variable", "frames", "step", "spacing"),
    [
        ("fmi_20160928", "reflectivity", 40, 5, 1.0),
        ("knmi_20100826", "rain_rate", 92, 5, 1.0),
        ("mrms_20190610_crop", "rain_rate", 36, 2, None),
        ("opera_cirrus_20241126_crop", "reflectivity", 13, 5, 1.0),
    ],
)
def test_real_events_equal_a_restatement_from_their_packed_numbers(
    shared, name, variable, frames, step, spacing
):
    path = shared / "real-radar/events" / f"{name}.nc"
    event = open_event(path)
    assert (len(event.times), event.step_minutes) == (frames, step)
    if spacing is None:
        assert event.grid_spacing_km is None
    else:
        assert event.grid_spacing_km == pytest.approx(spacing, abs=1e-3)
    number = frames // 2
    with h5py.File(path) as file:
        packed = file[variable][number]
        attributes = {key: np.squeeze(value) for key, value in file[variable].attrs.items()}
        a, b = np.squeeze(file.attrs["zr_a"]), np.squeeze(file.attrs["zr_b"])
        second = int(file["time"][number])
    observed = packed != attributes["_FillValue"]
    value = packed.astype(np.float64) * attributes["scale_factor"] + attributes["add_offset"]
    if variable == "reflectivity":
        value = (10 ** (np.minimum(value, 60) / 10) / a) ** (1 / b)
    with np.errstate(divide="ignore"):
        pixel = (10 * np.log10(58.53) + 15.6 * np.log10(np.where(observed, value, 0)) + 10) / 70
    expected = np.clip(pixel, 0, 1) * 255
    found, mask = to_pixels(next(rain_rates(event, number, 1)))
    assert event.times[number].astype(int) == second
    np.testing.assert_array_equal(mask, observed)
    # Half a step of rounding; a little more, since packed values are unpacked in single precision.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.5 + 1e-4)
