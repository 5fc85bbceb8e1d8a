"""Times of events, and amounts of rain over a time: exact, or refused by name."""

import numpy as np
import pytest
from made_up import FIRST_TIME
from made_up_events import FRAMES, as_netcdf, as_zarr, event_dataset, rain_mm_h, rates_of

from nowcast.errors import InputError
from nowcast.radar.event_sources import open_event


def with_bounds(dataset, minutes):
    bounds = np.stack([dataset.time - np.asarray(minutes) * np.timedelta64(60, "s"), dataset.time])
    dataset = dataset.assign(edges=(("time", "side"), bounds.T))
    dataset.time.attrs["bounds"] = "edges"
    return dataset


@pytest.mark.filterwarnings("ignore:Variable time has datetime type")
def test_amounts_of_rain_are_rates_where_their_time_is_certain(tmp_path):
    amounts = event_dataset(rain_mm_h() / 4, "precipitation_amount", "mm")
    bare = as_netcdf(amounts, tmp_path / "bare.nc")
    with pytest.raises(InputError, match=r"bare\.nc: found amounts of rain over no duration"):
        open_event(bare)
    expected = rates_of(open_event(bare, accumulation_minutes=15))
    np.testing.assert_allclose(
        expected, np.minimum(rain_mm_h(), np.nanmax(expected)), rtol=1e-15, equal_nan=True
    )
    bounded = as_netcdf(with_bounds(amounts, 15), tmp_path / "bounded.nc")
    np.testing.assert_array_equal(rates_of(open_event(bounded)), expected)
    assert open_event(bounded).metadata["accumulation_minutes"] == 15
    for name, dataset, found in (
        ("uneven", with_bounds(amounts, np.arange(FRAMES) + 1), "cells of time of 1 to 13 minutes"),
        ("no time", with_bounds(amounts, 0), "over a duration of 0 minutes"),
        (
            "two times",
            with_bounds(amounts, 15).assign_attrs(accumulation_minutes=5),
            "over 5 and over 15 minutes",
        ),
    ):
        path = as_netcdf(dataset, tmp_path / f"{name}.nc")
        with pytest.raises(InputError, match=found):
            open_event(path, accumulation_minutes=15)


def test_archives_say_which_of_their_times_are_usable(tmp_path):
    dataset = event_dataset(
        rain_mm_h(), consistent_timestep_start="2016-09-28T15:30:00",
        last_valid_timestep="2016-09-28T16:00:00Z",
    )  # fmt: skip
    gaps = FIRST_TIME + np.arange(4, 6) * np.timedelta64(300, "s")
    dataset = dataset.assign(missing_times=("gap", gaps))
    event = open_event(as_zarr(dataset, tmp_path / "e.zarr", consolidated=False))
    np.testing.assert_array_equal(event.reader.numbers, np.arange(4, 11))
    assert str(event.times[0]) == "2016-09-28T15:30:00"
    assert str(event.times[-1]) == "2016-09-28T16:00:00"
    for changes, found in (
        ({"last_valid_timestep": "soon"}, "found last_valid_timestep 'soon'"),
        ({"last_valid_timestep": "2001-01-01"}, "found no frame within the times"),
    ):
        path = as_netcdf(dataset.assign_attrs(changes), tmp_path / "e.nc")
        with pytest.raises(InputError, match=found):
            open_event(path)


@pytest.mark.parametrize(
    ("times", "attributes", "found"),
    [
        ([0, 5, 5], {"units": "minutes since 2020-01-01"}, "expected strictly increasing"),
        ([0, 10, 5], {"units": "minutes since 2020-01-01"}, "expected strictly increasing"),
        ([0, 5.5, 10.001], {"units": "minutes since 2020-01-01"}, "00:10:00.06.*whole seconds"),
        ([0, 5, 10], {"units": "minutes"}, "found times in 'minutes', expected CF times"),
        ([0, 5, 10], {}, "found times in None, expected CF times"),
        (
            [0, 5, 10],
            {"units": "minutes since 2020-01-01", "calendar": "noleap"},
            "calendar 'noleap', expected 'standard'",
        ),
        ([0, 5, np.nan], {"units": "minutes since 2020-01-01"}, "missing or out of range"),
        ([0, 5, 1e15], {"units": "days since 2020-01-01"}, "e.nc: "),
    ],
)
def test_times_that_are_not_whole_rising_seconds_are_refused_by_name(
    tmp_path, times, attributes, found
):
    dataset = event_dataset(rain_mm_h()[:3]).assign_coords(time=("time", times, attributes))
    path = as_netcdf(dataset, tmp_path / "e.nc", time={"_FillValue": None})
    with pytest.raises(InputError, match=found) as raised:
        open_event(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_times_in_days_are_rounded_to_the_second(tmp_path):
    days = 44_000 + np.arange(3) / 288
    dataset = event_dataset(rain_mm_h()[:3]).assign_coords(
        time=("time", days, {"units": "days since 1900-01-01"})
    )
    event = open_event(as_netcdf(dataset, tmp_path / "e.nc"))
    assert event.step_minutes == 5
    np.testing.assert_array_equal(
        event.times, np.datetime64("2020-06-20T00:00", "s") + np.arange(3) * np.timedelta64(300)
    )
