"""A trained network, or another nowcast method, on the latest radar frames: xarray in and out.

Frames come as rain rate, reflectivity or pixel values and leave as rain rate. What is checked here
is what a wrong forecast would not show: time step, units, number of frames, grid. Files are read
and written elsewhere.
"""

from collections.abc import Hashable

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.checkpoint import TrainedNetwork, load
from nowcast.radar.clips import as_seconds
from nowcast.radar.events import HIGHEST_DBZ
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel

__all__ = ["forecast", "load"]

UNITS = ("mm h-1", "mm/h", "dBZ", "1")
"""Units that frames may have: rain rate, rain rate, reflectivity, pixel values."""


def forecast(
    model: NowcastMethod,
    frames: xr.DataArray,
    lead_times: int = 20,
    *,
    relation: ZRRelation | None = None,
) -> xr.Dataset:
    """Forecast the rain that follows the latest frames.

    A trained network sees the last `description.input_frames` frames, any other method all of them.
    The grid may have any size; but a network with coordinate channels forecasts only the grid that
    it was trained on, because anywhere else its coordinates mean other places. A `y` coordinate
    that increases along its axis, or an `x` that decreases, is turned round for the model and back,
    so that it always sees north at the top; without such a coordinate row 0 counts as north.

    Args:
        model: from `load`, or any other nowcast method.
        frames: (time, y, x), oldest first, at even time steps, with a datetime64 coordinate `time`
            and an attribute `units`: "mm h-1" or "mm/h" (negative = not observed), "dBZ" (stronger
            echoes than 60 dBZ are taken for 60), or "1" for pixel values in [0, 1]. NaN is no
            coverage and enters the model as dry. Names of y and x are free.
        lead_times: how many frames to forecast.
        relation: Z–R relation of the frames, needed where they are reflectivity. Services differ:
            with another's, every rain rate is wrong.

    Returns:
        `rain_rate` (lead_time, y, x) in mm/h, float32; 0 where nothing is forecast, NaN where none
        of the frames used has coverage. `time` is the valid time of each lead time,
        `forecast_reference_time` the time of the last frame. Coordinates that do not depend on
        time are carried over, grid mappings among them if they are coordinates, as
        `xarray.open_dataset(…, decode_coords="all")` makes them.

    Raises:
        InputError: for frames that the model cannot forecast from: shape, units, values, time step,
            number, grid.
    """
    if lead_times < 1:
        raise InputError(f"forecast: found lead_times={lead_times}, expected at least 1")
    _check_form(frames)
    used = _latest(model, frames)
    step = _time_step(model, used)
    _check_grid(model, (used.shape[1], used.shape[2]))
    pixels, covered = _to_pixels(used, relation)
    flipped = _axes_to_flip(used)
    observed = torch.from_numpy(np.flip(pixels, flipped).astype(np.float32))
    forecasts = model.forecast(observed[None, :, None], lead_times)[0, :, 0].cpu().numpy()
    forecasts = forecasts.astype(np.float64).clip(0.0, 1.0)
    rain_rate = np.where(forecasts > 0.0, pixel_to_rain_rate(forecasts), 0.0).astype(np.float32)
    rain_rate = np.where(covered.any(axis=0), np.flip(rain_rate, flipped), np.float32(np.nan))
    return _as_dataset(rain_rate, used, step)


def _check_form(frames: xr.DataArray) -> None:
    if not isinstance(frames, xr.DataArray):
        raise InputError(f"frames: found {type(frames).__name__}, expected an xarray DataArray")
    if frames.ndim != 3 or frames.dims[0] != "time" or 0 in frames.shape:
        sizes = ", ".join(f"{name}: {size}" for name, size in frames.sizes.items())
        raise InputError(f"frames: found ({sizes}), expected (time, y, x)")
    found = frames.attrs.get("units")
    if found not in UNITS:
        raise InputError(f"frames: found units {found!r}, expected one of {', '.join(UNITS)}")
    if "time" not in frames.coords or frames["time"].dtype.kind != "M":
        found = frames["time"].dtype if "time" in frames.coords else "no coordinate"
        raise InputError(f"frames: found {found} as time, expected datetime64")


def _latest(model: NowcastMethod, frames: xr.DataArray) -> xr.DataArray:
    """The frames that the model will see."""
    if not isinstance(model, TrainedNetwork):
        return frames
    wanted = model.description.input_frames
    if frames.sizes["time"] < wanted:
        raise InputError(
            f"frames: found {frames.sizes['time']}, the network needs at least {wanted}"
        )
    return frames.isel(time=slice(-wanted, None))


def _time_step(model: NowcastMethod, frames: xr.DataArray) -> np.timedelta64:
    """Time between frames, checked to be even and the model's own."""
    seconds = as_seconds(frames["time"].to_numpy())
    steps = np.diff(seconds)
    if isinstance(model, TrainedNetwork):
        step = round(model.description.step_minutes * 60)
    elif len(steps):
        step = int(steps[0])
    else:
        raise InputError("frames: found 1, expected at least 2 to know their time step")
    uneven = np.flatnonzero(steps != steps[:1])
    if uneven.size:
        at = int(uneven[0])
        raise InputError(
            f"frames: found {steps[at] / 60:g} minutes from "
            f"{seconds[at : at + 1].astype('datetime64[s]')[0]} on and {steps[0] / 60:g} before, "
            "expected even time steps"
        )
    if len(steps) and steps[0] != step:
        raise InputError(
            f"frames: found steps of {steps[0] / 60:g} minutes, the network was trained on "
            f"{step / 60:g}"
        )
    return np.timedelta64(step, "s")


def _check_grid(model: NowcastMethod, shape: tuple[int, int]) -> None:
    if not isinstance(model, TrainedNetwork) or not model.description.network.coordinates:
        return
    trained = model.description.frame_shape
    if shape != trained:
        raise InputError(
            f"frames: found {shape[0]} × {shape[1]} pixels, the network has coordinate channels "
            f"and forecasts only the {trained[0]} × {trained[1]} that it was trained on"
        )


def _to_pixels(
    frames: xr.DataArray, relation: ZRRelation | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Pixel values in [0, 1], 0 where not observed, and True where observed."""
    values = frames.to_numpy().astype(np.float64)
    if frames.attrs["units"] == "1":
        covered = ~np.isnan(values)
        outside = values[covered & ~((values >= -1e-6) & (values <= 1 + 1e-6))]
        if outside.size:
            raise InputError(f"frames: found pixel value {outside[0]:g}, expected 0 to 1")
        return np.where(covered, values, 0.0).clip(0.0, 1.0), covered
    if frames.attrs["units"] == "dBZ":
        if relation is None:
            raise InputError(
                "frames: found reflectivity without relation, expected its Z–R relation"
            )
        values = relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
    covered = values >= 0
    return rain_rate_to_pixel(np.where(covered, values, 0.0)).clip(0.0, 1.0), covered


def _axes_to_flip(frames: xr.DataArray) -> tuple[int, ...]:
    """Axes of (time, y, x) that run from south to north, or from east to west."""
    flipped = []
    for axis, runs in ((1, -1), (2, 1)):
        name = frames.dims[axis]
        if name in frames.coords and frames.shape[axis] > 1:
            ends = frames[name].to_numpy()[[0, -1]].astype(np.float64)
            if (ends[1] - ends[0]) * runs < 0:
                flipped.append(axis)
    return tuple(flipped)


def _as_dataset(
    rain_rate: NDArray[np.float32], frames: xr.DataArray, step: np.timedelta64
) -> xr.Dataset:
    reference = frames["time"].to_numpy()[-1].astype("datetime64[ns]")
    lead = (step * np.arange(1, len(rain_rate) + 1)).astype("timedelta64[ns]")
    coordinates: dict[Hashable, object] = {
        name: coordinate.variable
        for name, coordinate in frames.coords.items()
        if "time" not in coordinate.dims
    }
    coordinates["lead_time"] = (
        "lead_time",
        lead,
        {"standard_name": "forecast_period", "long_name": "time since the last observed frame"},
    )
    coordinates["time"] = (
        "lead_time",
        reference + lead,
        {"standard_name": "time", "long_name": "valid time"},
    )
    coordinates["forecast_reference_time"] = (
        (),
        reference,
        {"standard_name": "forecast_reference_time", "long_name": "time of the last frame"},
    )
    field = xr.Variable(
        ("lead_time", *frames.dims[1:]),
        rain_rate,
        {"standard_name": "rainfall_rate", "long_name": "forecast rain rate", "units": "mm h-1"},
    )
    mapping = frames.encoding.get("grid_mapping", frames.attrs.get("grid_mapping"))
    if mapping in coordinates:
        field.encoding["grid_mapping"] = mapping
    return xr.Dataset({"rain_rate": field}, coordinates)
