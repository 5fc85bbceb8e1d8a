"""From the latest frames to a forecast: xarray in and out.

What is checked here is what a wrong forecast would not show: units, number of frames, grid.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

import nowcast
from nowcast.errors import InputError, NotFinite
from nowcast.inference.coverage import Coverage, check_coverage, covered_ahead
from nowcast.inference.forecast_dataset import as_dataset
from nowcast.inference.time_steps import interpolated, sources_of, usual_step
from nowcast.method import EnsembleMethod, MemberByMember, NowcastMethod, method_name
from nowcast.models.checkpoint import Description
from nowcast.models.motion import estimate_motion
from nowcast.radar.clips import as_seconds
from nowcast.radar.events import HIGHEST_DBZ
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel

TAKEN = {
    *("lead_time", "threshold", "forecast_reference_time", "rain_rate", "precip_intensity"),
    "exceedance_probability",
}
"""Names in what is forecast."""

UNITS = ("mm h-1", "mm/h", "dBZ", "1")
"""Units that frames may have: rain rate, rain rate, reflectivity, pixel values."""


def forecast(
    model: NowcastMethod,
    frames: xr.DataArray,
    lead_times: int = 20,
    *,
    relation: ZRRelation | None = None,
    coverage: Coverage = "moves",
    longest_gap_minutes: float = 15.0,
    thresholds_mm_h: Sequence[float] = (),
) -> xr.Dataset:
    """Forecast the rain that follows the latest frames.

    A trained network sees as many frames as it was trained on, at the time step that it was trained
    on, the last one at the time of the last frame. Any other method sees all frames, at their
    usual step, back to the first gap that is too long. Where no frame is at such a time, it is
    interpolated along the motion of the rain from the frames before and after it.

    The grid may have any size; but a network with coordinate channels forecasts only the grid that
    it was trained on, because anywhere else its coordinates mean other places. A `y` coordinate
    that increases along its axis, or an `x` that decreases, is turned round for the model and back,
    so that it always sees north at the top; without such a coordinate row 0 counts as north.

    Args:
        model: from `load`, or any other nowcast method.
        frames: (time, y, x), oldest first, with a datetime64 coordinate `time` and an attribute
            `units`: "mm h-1" or "mm/h" (negative = not observed), "dBZ" (stronger echoes than 60
            dBZ are taken for 60), or "1" for pixel values in [0, 1]. NaN is not observed and enters
            the model as dry. Names of y and x are free.
        lead_times: how many frames to forecast.
        relation: Z–R relation of the frames, needed where they are reflectivity. Services differ:
            with another's, every rain rate is wrong.
        coverage: where the forecast is missing. "moves": where the air comes from that the last
            frame did not observe, or from beyond the grid, by the motion of the last frames (with
            persistence nothing moves); "stays": where the last frame did not observe.
        longest_gap_minutes: longest time between two frames that is interpolated.
        thresholds_mm_h: rain rates of which an ensemble tells how probable it is that they are
            reached, ascending.

    Returns:
        `rain_rate` (lead_time, y, x) in mm/h, float32; 0 where nothing is forecast, NaN where it
        is missing; of an ensemble the mean. `time` is the valid time of each lead time,
        `forecast_reference_time` the time of the last frame. Coordinates that do not depend on
        time are carried over, grid mappings among them if they are coordinates, as
        `xarray.open_dataset(…, decode_coords="all")` makes them. With thresholds
        `exceedance_probability` (threshold, lead_time, y, x), the part of the members whose rain
        rate is at least `threshold`, which is in mm/h.

    Raises:
        InputError: for frames that the model cannot forecast from: shape, units, values, times,
            number, grid, nothing observed; or thresholds with a method that is no ensemble.
    """
    if not isinstance(lead_times, int | np.integer) or lead_times < 1:
        raise InputError(f"forecast: found lead_times={lead_times}, expected at least 1")
    if not 0 <= longest_gap_minutes < np.inf:
        raise InputError(
            f"longest_gap_minutes: found {longest_gap_minutes:g}, expected minutes, 0 or more"
        )
    check_coverage(coverage)
    thresholds = _checked_thresholds(thresholds_mm_h, model)
    _check_form(frames)
    _check_grid(model, (frames.shape[1], frames.shape[2]))
    seconds = as_seconds(frames["time"].to_numpy())
    about = _description(model)
    step = usual_step(seconds) if about is None else round(about.step_minutes * 60)
    sources = sources_of(
        seconds,
        step,
        None if about is None else about.input_frames,
        round(60 * longest_gap_minutes),
    )
    first = sources[0].earlier
    pixels = _to_pixels(frames.isel(time=slice(first, None)), relation)
    if np.isnan(pixels[-1]).all():
        time = frames["time"].to_numpy()[-1].astype("datetime64[s]")
        raise InputError(f"frames: found nothing observed in the last one, of {time}")
    flipped = _axes_to_flip(frames)
    pixels = np.flip(pixels, flipped)
    seen = np.stack(
        [
            interpolated(pixels, one._replace(earlier=one.earlier - first, later=one.later - first))
            for one in sources
        ]
    ).astype(np.float32)
    covered = np.broadcast_to(~np.isnan(seen[-1]), (lead_times, *seen.shape[1:]))
    if coverage == "moves" and not getattr(model, "still", False) and len(seen) > 1:
        covered = covered_ahead(covered[0], estimate_motion(seen), lead_times)
    clip = torch.from_numpy(np.nan_to_num(seen))[None, :, None]
    fields, probabilities = (
        np.flip(np.where(covered, found, np.float32(np.nan)), tuple(axis - 3 for axis in flipped))
        for found in _forecast_fields(model, clip, lead_times, thresholds)
    )
    found = as_dataset(fields, frames, np.timedelta64(step, "s"), thresholds, probabilities)
    return found.assign_attrs(source=_source(model))


def _forecast_fields(
    model: NowcastMethod, clip: torch.Tensor, lead_times: int, thresholds: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rain rate (lead_time, y, x) in mm/h, and probability (threshold, lead_time, y, x)."""
    shape = (lead_times, *clip.shape[-2:])
    # In single precision, as the members are: so that what equals a threshold reaches it.
    limits = [np.float32(rain_rate_to_pixel(threshold)) for threshold in thresholds]
    total, members = np.zeros(shape, np.float32), 0
    reached = np.zeros((len(thresholds), *shape), np.float32)
    for member in _members(model, clip, lead_times):
        pixels = member[0, :, 0].cpu().numpy()
        if not np.isfinite(pixels).all():
            step = int(np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2)))[0]) + 1
            raise NotFinite(
                f"forecast: found values that are no numbers from lead time {step} on, expected "
                f"some: {method_name(model)} has failed on these frames"
            )
        # One by one: in double precision all of them are a lot of memory.
        for frame, sum_of_members in zip(pixels, total, strict=True):
            exact = frame.astype(np.float64).clip(0.0, 1.0)
            sum_of_members += np.where(exact > 0.0, pixel_to_rain_rate(exact), 0.0)
        for limit, count in zip(limits, reached, strict=True):
            count += pixels >= limit
        members += 1
    total /= members
    reached /= members
    return total, reached


def _members(model: NowcastMethod, clip: torch.Tensor, lead_times: int) -> Iterator[torch.Tensor]:
    """Forecasts (1, lead_times, 1, y, x) of all members, one after the other where they come so."""
    if isinstance(model, MemberByMember):
        yield from model.each_member(clip, lead_times)
    elif isinstance(model, EnsembleMethod):
        yield from model.forecast_members(clip, lead_times).unbind(1)
    else:
        yield model.forecast(clip, lead_times)


def _checked_thresholds(thresholds: Sequence[float], model: NowcastMethod) -> tuple[float, ...]:
    """The thresholds as they are, refused where the model tells no probabilities of them."""
    rates = tuple(map(float, thresholds))
    if not all(0 < rate < np.inf for rate in rates) or sorted(set(rates)) != list(rates):
        raise InputError(f"thresholds: found {rates}, expected rain rates above 0 that increase")
    if rates and not isinstance(model, EnsembleMethod):
        raise InputError(
            f"thresholds: found {type(model).__name__}, which is no ensemble, expected one: "
            "probabilities are counted among its members"
        )
    return rates


def _source(model: NowcastMethod) -> str:
    return f"nowcast {nowcast.__version__}, {method_name(model)}"


def _description(model: NowcastMethod) -> Description | None:
    """What a trained network, or what is made of one, says of itself."""
    about = getattr(model, "description", None)
    return about if isinstance(about, Description) else None


def _check_form(frames: xr.DataArray) -> None:
    if not isinstance(frames, xr.DataArray):
        raise InputError(f"frames: found {type(frames).__name__}, expected an xarray DataArray")
    if frames.ndim != 3 or frames.dims[0] != "time" or 0 in frames.shape:
        sizes = ", ".join(f"{name}: {size}" for name, size in frames.sizes.items())
        raise InputError(f"frames: found ({sizes}), expected (time, y, x)")
    y, x = map(str, frames.dims[1:])
    if clash := {y, x} & TAKEN:
        raise InputError(f"frames: found an axis called {clash.pop()}, expected another name")
    if y in ("x", "lon", "longitude") or x in ("y", "lat", "latitude"):
        raise InputError(f"frames: found (time, {y}, {x}), expected (time, {x}, {y})")
    found = frames.attrs.get("units")
    if found not in UNITS:
        raise InputError(f"frames: found units {found!r}, expected one of {', '.join(UNITS)}")
    if "time" not in frames.coords or frames["time"].dtype.kind != "M":
        found = frames["time"].dtype if "time" in frames.coords else "no coordinate"
        raise InputError(f"frames: found {found} as time, expected datetime64")


def _check_grid(model: NowcastMethod, shape: tuple[int, int]) -> None:
    about = _description(model)
    if about is not None and about.network.coordinates and shape != about.frame_shape:
        trained = about.frame_shape
        raise InputError(
            f"frames: found {shape[0]} × {shape[1]} pixels, the network has coordinate channels "
            f"and forecasts only the {trained[0]} × {trained[1]} that it was trained on"
        )


def _to_pixels(frames: xr.DataArray, relation: ZRRelation | None) -> NDArray[np.float64]:
    """Pixel values in [0, 1]; NaN where not observed."""
    values = frames.to_numpy().astype(np.float64)
    if frames.attrs["units"] == "1":
        outside = values[~np.isnan(values) & ~((values >= -1e-6) & (values <= 1 + 1e-6))]
        if outside.size:
            raise InputError(f"frames: found pixel value {outside[0]:g}, expected 0 to 1")
        return values.clip(0.0, 1.0)
    if frames.attrs["units"] == "dBZ":
        if relation is None:
            raise InputError(
                "frames: found reflectivity without relation, expected its Z–R relation"
            )
        values = relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
    covered = values >= 0
    pixels = rain_rate_to_pixel(np.where(covered, values, 0.0)).clip(0.0, 1.0)
    return np.where(covered, pixels, np.nan)


def _axes_to_flip(frames: xr.DataArray) -> tuple[int, ...]:
    """Axes of (time, y, x) that run from south to north, or from east to west."""
    flipped = []
    for axis, runs in ((1, -1), (2, 1)):
        name = frames.dims[axis]
        if name in frames.coords and frames.shape[axis] > 1:
            places = frames[name].to_numpy()
            if places.dtype.kind not in "iuf":
                raise InputError(f"frames: found {places.dtype} as {name}, expected numbers")
            # The usual step: where longitudes cross 180° one goes back.
            if np.median(np.diff(places.astype(np.float64))) * runs < 0:
                flipped.append(axis)
    return tuple(flipped)
