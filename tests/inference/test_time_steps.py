"""Frames at other times than the model's."""

import numpy as np
import pytest
import xarray as xr
from moving_rain import Recorder, blobs, rain_at

import nowcast
from nowcast.errors import InputError
from nowcast.inference.time_steps import Wanted, interpolated, sources_of, usual_step
from nowcast.models.checkpoint import Description
from nowcast.models.settings import NetworkSettings


class RecordingNetwork(Recorder):
    """A method that says of itself what a trained network does."""

    def __init__(self, step_minutes=5.0, input_frames=5):
        about = {"lead_times": 20, "frame_shape": (120, 160), "inhibition": None, "run": {}}
        self.description = Description(NetworkSettings(), step_minutes, input_frames, **about)


def seen_by_network(frames, **options):
    network = RecordingNetwork(**options)
    nowcast.forecast(network, frames, 1)
    return network.seen[0, :, 0].numpy()


def truth(*minutes):
    return np.stack([blobs(minute) for minute in minutes]).clip(0, 1)


def error_mm_h(seen, expected):
    """Mean absolute error in mm/h of pixel values, over where either has rain."""
    from nowcast.radar.units import pixel_to_rain_rate

    wet = (seen > 0.2) | (expected > 0.2)
    return np.abs(pixel_to_rain_rate(seen) - pixel_to_rain_rate(expected))[wet].mean()


def test_frames_at_the_models_times_are_seen_as_they_are():
    frames = rain_at(0, 5, 10, 15, 20)
    np.testing.assert_allclose(seen_by_network(frames), truth(0, 5, 10, 15, 20), atol=1e-6)
    # More of them, between and before, change nothing.
    more = rain_at(-5, 0, 2.5, 5, 7.5, 10, 12, 15, 20)
    np.testing.assert_array_equal(seen_by_network(more), seen_by_network(frames))


def test_a_frame_a_few_seconds_off_counts_as_it_is():
    frames = rain_at(0, 5, 9.8, 15, 20)
    np.testing.assert_allclose(seen_by_network(frames)[2], blobs(9.8).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("minutes", "most"),
    [
        pytest.param((0, 5, 15, 20), 0.4, id="a gap"),
        pytest.param((0, 10, 20), 0.4, id="twice the step"),
        pytest.param((-10, 5, 20), 0.4, id="fifteen minutes"),
        # Rain moves little over a pixel in two minutes: there is less to gain.
        pytest.param((-2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20), 0.8, id="two minutes"),
    ],
)
def test_what_lies_between_two_frames_is_where_the_rain_was(minutes, most):
    """Far nearer to the truth than the mean of the frames on both sides, or the nearest of them."""
    frames = rain_at(*minutes)
    wanted = (0, 5, 10, 15, 20)
    seen, expected = seen_by_network(frames), truth(*wanted)
    pixels = np.stack([blobs(minute) for minute in minutes]).clip(0, 1)
    for number, minute in enumerate(wanted):
        if minute in minutes:
            np.testing.assert_allclose(seen[number], expected[number], atol=1e-6)
            continue
        ours = error_mm_h(seen[number], expected[number])
        nearest = pixels[np.abs(np.array(minutes) - minute).argmin()]
        later = int(np.searchsorted(minutes, minute))
        part = (minute - minutes[later - 1]) / (minutes[later] - minutes[later - 1])
        mean = (1 - part) * pixels[later - 1] + part * pixels[later]
        simple = min(error_mm_h(nearest, expected[number]), error_mm_h(mean, expected[number]))
        assert ours < most * simple


def test_what_only_one_of_two_frames_observed_comes_from_that_one():
    pixels = np.stack([blobs(0), blobs(10)]).clip(0, 1)
    pixels[0, :, :60] = np.nan
    half = interpolated(pixels, Wanted(0, 1, 0.5))
    known = ~np.isnan(half)
    assert known[5:-5, 5:-8].all()
    expected = blobs(5).clip(0, 1)
    assert error_mm_h(np.nan_to_num(half), expected) < 0.3 * error_mm_h(pixels[1], expected)
    pixels[:, :, :60] = np.nan
    # With the showers, not observed moves 0.6 pixels a minute to the right.
    missing = np.isnan(interpolated(pixels, Wanted(0, 1, 0.5))).sum(axis=1)
    assert 55 <= np.median(missing) <= 65


def test_a_method_without_training_takes_the_usual_step_of_the_frames():
    method = Recorder()
    result = nowcast.forecast(method, rain_at(0, 10, 20, 40, 50), 2, longest_gap_minutes=20)
    assert result["lead_time"].to_numpy().tolist() == [600e9, 1200e9]
    assert method.seen.shape[1] == 6
    # Before a gap that is too long nothing is seen.
    nowcast.forecast(method, rain_at(0, 10, 20, 40, 50), 2)
    assert method.seen.shape[1] == 2


@pytest.mark.parametrize(
    ("seconds", "step"),
    [([0, 300], 300), ([0, 300, 900], 300), ([0, 600, 900], 300), ([0, 118, 240, 361], 121)],
)
def test_the_usual_step_is_the_median(seconds, step):
    assert usual_step(np.array(seconds)) == step


def test_sources_say_how_far_between():
    seconds = np.array([0, 120, 240, 360, 480, 600])
    assert sources_of(seconds, 300, 3, 900) == [(0, 0, 0), (2, 3, 0.5), (5, 5, 0)]


def test_what_cannot_be_had_is_refused_with_the_reason():
    def refused(*minutes):
        with pytest.raises(InputError) as error:
            seen_by_network(rain_at(*minutes))
        return str(error.value)

    assert refused(5, 10, 15, 20) == (
        "frames: found 4 from 2020-06-01T12:05:00 to 2020-06-01T12:20:00, the network needs them "
        "from 2020-06-01T12:00:00 on (5 at steps of 5 minutes, interpolated over gaps of up to 15 "
        "minutes)"
    )
    assert "found none for 20 minutes from 2020-06-01T11:55:00 on" in refused(-5, 15, 20)
    assert "found 1 from" in refused(20)
    frames = rain_at(-5, 15, 20)
    nowcast.forecast(RecordingNetwork(), frames, 1, longest_gap_minutes=20)


@pytest.mark.parametrize("dropped", [1, 2, 3])
def test_on_real_rain_a_lost_frame_hardly_changes_the_forecast(shared, dropped):
    """By less than three quarters of what repeating the frame before it would change."""
    frames = nowcast.read_frames(shared / "real-radar/events/fmi_20160928.nc")[:12]
    frames = frames[:, 300:900:4, 100:700:4]
    network = nowcast.load("convgru-5min")

    def rain(frames):
        return nowcast.forecast(network, frames, 6, coverage="stays")["rain_rate"].to_numpy()

    whole = rain(frames[-5:])
    filled = rain(xr.concat([frames[-5 : -5 + dropped], frames[-5 + dropped + 1 :]], "time"))
    doubled = frames[-5:].copy()
    doubled[dropped] = doubled[dropped - 1]
    stuck = rain(doubled)
    known = ~np.isnan(whole)
    assert np.abs(filled - whole)[known].mean() < 0.75 * np.abs(stuck - whole)[known].mean()
