"""Frames and lead times of pysteps' callers at other steps than the network's."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from moving_rain import rain_at

import nowcast
from nowcast.errors import InputError
from nowcast.plugins.pysteps_nowcasts import convgru, dis_flow, rover


def forecast(network, frames, lead_times):
    return nowcast.forecast(network, frames, lead_times)["rain_rate"].to_numpy()


def test_ten_minute_frames_into_the_five_minute_network(observed, network):
    """Three frames span its 20 minutes; every second of its lead times is one of the caller's."""
    ten = observed[:5:2]
    expected = forecast(network, ten, 6)
    np.testing.assert_array_equal(convgru(ten.to_numpy(), None, 3, timestep=10), expected[1::2])
    # Half a step of the caller's is one of the network's.
    halves = convgru(ten.to_numpy(), None, [0.5, 1, 1.5, 3], timestep=10)
    np.testing.assert_array_equal(halves, expected[[0, 1, 2, 5]])
    more = np.concatenate([np.full((2, 160, 160), 9, np.float32), ten.to_numpy()])
    np.testing.assert_array_equal(convgru(more, None, 3, timestep=10), expected[1::2])
    # As if they were 5 minutes apart, the rain would move twice as far.
    error, wrong = (
        np.nanmean(np.abs(field - observed[10].to_numpy()))
        for field in (expected[5], convgru(more, None, 3)[2])
    )
    assert error < wrong


@pytest.mark.parametrize("timestep", [2.5, 10 / 3, 1.0, 4.0, 0.25])
def test_other_steps_agree_with_nowcast_forecast_where_times_coincide(network, timestep):
    """20 minutes ahead are a whole number of steps of both, whatever rounding says."""
    count = int(np.ceil(20 / timestep - 1e-9)) + 1
    seconds = 60 * timestep * np.arange(1 - count, 1)
    frames = rain_at(*(20 + seconds / 60), shape=(60, 80))
    frames["time"] = frames["time"].to_numpy()[-1] + seconds.round().astype("timedelta64[s]")
    expected = forecast(network, frames, 4)
    steps = round(20 / timestep)
    found = convgru(frames.to_numpy(), None, steps, timestep=timestep)
    assert len(found) == steps
    np.testing.assert_array_equal(found[-1], expected[3].astype(found.dtype))
    if timestep != 4:
        np.testing.assert_array_equal(found[steps // 2 - 1], expected[1].astype(found.dtype))
    # A frame that is off by a twentieth of the network's step counts as it is.
    few = count - 2 if timestep == 0.25 else count - 1
    with pytest.raises(InputError, match=rf"found {few} frames .* expected at least {few + 1}"):
        convgru(frames.to_numpy()[-few:], None, steps, timestep=timestep)


def test_between_its_steps_the_forecast_is_where_the_rain_will_be(network):
    """2.5-minute frames: every second forecast lies between two of the network's."""
    minutes = np.arange(-20, 17.5, 2.5)
    rates = rain_at(*minutes).to_numpy()
    found = convgru(rates[:9], None, 6, timestep=2.5)
    whole = np.concatenate([rates[8:9], forecast(network, rain_at(*minutes[:9]), 3)])
    np.testing.assert_array_equal(found[1::2], whole[1:])
    for number, (between, truth) in enumerate(zip(found[::2], rates[9::2], strict=True)):
        mean = (whole[number] + whole[number + 1]) / 2
        wet = ~np.isnan(between) & ~np.isnan(mean) & ((truth > 1) | (mean > 1))
        assert wet.sum() > 500
        assert np.abs(between - truth)[wet].mean() < 0.9 * np.abs(mean - truth)[wet].mean()


def test_two_minute_frames_of_real_rain(shared, network):
    """MRMS, every 2 minutes: 11 frames span 20 minutes; 10 minutes are 5 steps and 2."""
    event = nowcast.read_frames(shared / "real-radar/events/mrms_20190610_crop.nc")
    frames = event[:11, :240, :240].load()
    steps = np.diff(frames["time"].to_numpy()) / np.timedelta64(1, "m")
    np.testing.assert_allclose(steps, 2, atol=0.1)
    assert (frames[-1] > 0.5).mean() > 0.02
    even = frames.assign_coords(
        time=frames["time"].to_numpy()[-1] + np.timedelta64(2, "m") * np.arange(-10, 1)
    )
    values = np.where(frames >= 0, frames, np.nan).astype(np.float32)
    found = convgru(values, None, 10, timestep=2)
    np.testing.assert_array_equal(found[[4, 9]], forecast(network, even, 4)[[1, 3]])
    assert (np.diff(np.isnan(found).mean(axis=(1, 2))) >= 0).all()


def test_amounts_are_over_the_callers_step(observed):
    ten = observed[:5:2].to_numpy().astype(float)
    found = convgru(ten / 6, None, 2, timestep=10, unit="mm")
    np.testing.assert_allclose(6 * found, convgru(ten, None, 2, timestep=10), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [dis_flow, rover])
@pytest.mark.parametrize("timestep", [0.333, 2.5, 5, 60])
def test_methods_without_a_step_of_their_own_take_any(observed, method, timestep):
    rates = observed[:5].to_numpy()
    times = [0.5, 1, 2]
    found = method(rates, None, times, timestep=timestep)
    np.testing.assert_array_equal(found, method(rates, None, times))


def timestamps(*minutes):
    return [datetime(2016, 9, 28, 16) + timedelta(minutes=minute) for minute in minutes]


def test_the_step_is_in_the_timestamps_that_pysteps_reads(observed):
    """A network that took 10-minute frames for its own would let the rain move twice as far."""
    ten = observed[:9:2].to_numpy()
    expected = convgru(ten, None, 2, timestep=10)
    described = {"unit": "mm/h", "transform": None, "timestamps": timestamps(0, 10, 20, 30, 40)}
    np.testing.assert_array_equal(convgru(ten, None, 2, metadata=described), expected)
    array = {**described, "timestamps": np.array(described["timestamps"])}
    np.testing.assert_array_equal(convgru(ten, None, 2, metadata=array), expected)
    other = convgru(ten, None, 2)
    assert not np.array_equal(other, expected)
    # Said by the caller, or of other frames.
    np.testing.assert_array_equal(convgru(ten, None, 2, metadata=described, timestep=5), other)
    described["timestamps"] = timestamps(0, 10, 20)
    np.testing.assert_array_equal(convgru(ten, None, 2, metadata=described), other)


@pytest.mark.parametrize("method", [convgru, dis_flow])
@pytest.mark.parametrize("minutes", [(0, 5, 15, 20, 25), (0, 5, 10, 10, 15), (20, 15, 10, 5, 0)])
def test_timestamps_of_frames_that_are_not_evenly_spaced_are_refused(observed, method, minutes):
    described = {"timestamps": timestamps(*minutes)}
    with pytest.raises(InputError, match=r"metadata: found timestamps 2016-09-28T16:.*even steps"):
        method(observed[:5].to_numpy(), None, 2, metadata=described)
