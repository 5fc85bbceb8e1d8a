"""Forecasts of made-up rain on grids that lie somewhere, made as real ones are."""

import numpy as np
import pyproj
import xarray as xr

import nowcast
from nowcast.models.persistence import Persistence

ISSUED = np.datetime64("2016-09-28T15:55", "ns")
STEREOGRAPHIC = "+proj=stere +lat_0=90 +lon_0=25 +lat_ts=60 +a=6371288 +x_0=380886 +y_0=3395678"


def frames(values, crs=STEREOGRAPHIC, spacing=1000.0, left=0.0, top=60_000.0, units="m"):
    """Frames (time, y, x) in mm/h every 5 minutes up to `ISSUED`; `left` and `top` are edges."""
    times = ISSUED + np.arange(1 - len(values), 1) * np.timedelta64(5, "m")
    height, width = values.shape[1:]
    field = xr.DataArray(
        np.asarray(values, np.float32),
        dims=("time", "y", "x"),
        coords={
            "time": times,
            "y": ("y", top - spacing * (np.arange(height) + 0.5), {"units": units}),
            "x": ("x", left + spacing * (np.arange(width) + 0.5), {"units": units}),
        },
        attrs={"units": "mm h-1"},
    )
    if crs is not None:
        field = field.assign_coords(crs=((), 0, pyproj.CRS(crs).to_cf()))
        field.encoding["grid_mapping"] = "crs"
    return field


def rain(count=3, height=60, width=40, rate=7.0):
    """Dry but for a block of rain that moves east, and without coverage in the last rows."""
    values = np.zeros((count, height, width), np.float32)
    for index in range(count):
        values[index, 10:20, 4 * index : 4 * index + 8] = rate
    values[:, -5:] = np.nan
    return values


def forecast(of, lead_times=4):
    """The last frame goes on."""
    return nowcast.forecast(Persistence(), of, lead_times)


def with_probabilities(made, thresholds=(1.0, 10.0)):
    """The forecast with probabilities that fall from 0.95 at the first threshold."""
    shape = made["rain_rate"].shape
    chances = np.stack([np.full(shape, 0.95 / (1 + index)) for index in range(len(thresholds))])
    chances[:, np.isnan(made["rain_rate"])] = np.nan
    made = made.assign_coords(threshold=("threshold", list(thresholds), {"units": "mm h-1"}))
    dimensions = ("threshold", *made["rain_rate"].dims)
    made["exceedance_probability"] = (dimensions, chances.astype(np.float32), {"units": "1"})
    return made
