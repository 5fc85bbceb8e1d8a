"""Rain that moves in a known way, and methods that show what they are given."""

import numpy as np
import xarray as xr

from nowcast.radar.units import pixel_to_rain_rate

START = np.datetime64("2020-06-01T12:00", "ns")


class Recorder:
    """Repeats the last frame and remembers what it was given."""

    def forecast(self, frames, lead_times):
        self.seen = frames.clone()
        return frames[:, -1:].repeat(1, lead_times, 1, 1, 1)


def blobs(minutes, pixels_per_minute=(0.6, 0.2), shape=(120, 160)):
    """Pixel values (y, x) of a dozen showers, moved on along x and y."""
    random = np.random.default_rng(3)
    y, x = np.indices(shape, dtype=np.float64)
    pixels = np.zeros(shape)
    for _ in range(12):
        centre_y, centre_x = random.uniform(20, shape[0] - 20), random.uniform(30, shape[1] - 40)
        centre_x += pixels_per_minute[0] * minutes
        centre_y += pixels_per_minute[1] * minutes
        size, peak = random.uniform(4, 9), random.uniform(0.4, 0.75)
        # A paraboloid in dB: a Gaussian shower.
        distance = ((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * size**2)
        pixels = np.maximum(pixels, peak - 0.12 * distance)
    return pixels


def rain_at(*minutes, **options):
    """Rain rate (time, y, x) of the showers at so many minutes after `START`."""
    pixels = np.stack([blobs(minute, **options) for minute in minutes])
    rates = np.where(pixels > 0, pixel_to_rain_rate(pixels), 0.0)
    return xr.DataArray(
        rates,
        dims=("time", "y", "x"),
        coords={"time": START + (np.array(minutes) * 60e9).astype("timedelta64[ns]")},
        attrs={"units": "mm h-1"},
    )
