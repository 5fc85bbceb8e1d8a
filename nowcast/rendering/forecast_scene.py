"""A forecast without observations of its lead times, made ready to be shown: checked, its grid
turned north up and reduced where it is larger than a screen. How it is drawn is decided elsewhere.
"""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from nowcast.errors import InputError
from nowcast.rendering.fields import Scene, ShownField
from nowcast.rendering.palette import (
    PROBABILITY,
    RAIN,
    Scale,
    probability_classes,
    rain_rate_classes,
)

LARGEST_SIDE = 1280
"""Pixels that the longer side of a panel has at most."""

PROBABILITIES = "exceedance_probability"
RATE_UNITS = ("mm h-1", "mm/h")
PROBABILITY_UNITS = ("1", "", None)
WORDS = ("observed", "forecast")


def forecast_scene(
    forecast: xr.Dataset, observed: xr.DataArray | None = None, largest_side: int = LARGEST_SIDE
) -> Scene:
    """Check a forecast and set it out frame by frame, what was observed before it first.

    A larger grid than `largest_side` is reduced by the smallest whole factor that makes it fit:
    each block of pixels gets the mean over those of them that have coverage, so that the amount of
    rain stays what it is, though not its peaks; a block of which less than half has coverage has
    none.

    Args:
        forecast: as `nowcast.forecast` returns it; with `exceedance_probability` (threshold,
            lead_time, y, x) each threshold gets a panel.
        observed: rain rates (time, y, x) in mm/h on the same grid, of which those up to the issue
            time are shown; NaN, or negative, is not observed.
        largest_side: pixels along the longer side, at most.

    Raises:
        InputError: dimensions, units, times or grids do not fit.
    """
    issued, valid_times = _times(forecast)
    rain_rate = _checked(forecast["rain_rate"], ("lead_time",), "forecast: rain_rate")
    factor = reduction(rain_rate.shape[1:], largest_side)
    seen, seen_times = _observed(observed, rain_rate, issued)
    shown = [
        ShownField(name, _classes(parts, scale, factor), first, scale)
        for name, parts, first, scale in (
            ("rain rate", [*seen, rain_rate], 0, RAIN),
            *(
                (f"probability of ≥ {threshold:g} mm/h", [chances], len(seen_times), PROBABILITY)
                for threshold, chances in _probabilities(forecast, rain_rate)
            ),
        )
    ]
    return Scene(tuple(shown), np.concatenate([seen_times, valid_times]), issued, WORDS)


def reduction(shape: tuple[int, ...], largest_side: int = LARGEST_SIDE) -> int:
    """Whole factor by which a grid is reduced to be shown."""
    return max(1, -(-max(shape) // largest_side))


def _times(forecast: xr.Dataset) -> tuple[np.datetime64, np.ndarray]:
    """Issue time and valid times in seconds."""
    for name, dimensions in (("forecast_reference_time", ()), ("time", ("lead_time",))):
        found = forecast.variables.get(name)
        if found is None or found.dims != dimensions or found.dtype.kind != "M":
            expected = " ".join(dimensions) or "a single time"
            raise InputError(f"forecast: found no {name} as datetime64, expected {expected}")
    if "rain_rate" not in forecast:
        raise InputError("forecast: found no rain_rate, expected it as nowcast.forecast makes it")
    issued = np.datetime64(forecast["forecast_reference_time"].item(), "ns").astype("datetime64[s]")
    valid_times = forecast["time"].to_numpy().astype("datetime64[s]")
    if np.isnat(issued) or not len(valid_times):
        raise InputError("forecast: found no times, expected at least one lead time")
    if not (np.diff(valid_times, prepend=issued) > np.timedelta64(0, "s")).all():
        raise InputError("forecast: found valid times out of order, expected them to increase")
    return issued, valid_times


def _checked(
    field: xr.DataArray,
    before: tuple[str, ...],
    name: str,
    allowed: tuple[str | None, ...] = RATE_UNITS,
) -> xr.DataArray:
    """The field with north up, its axes before y and x, and its units, as they should be."""
    if field.ndim != len(before) + 2 or field.dims[: len(before)] != before or 0 in field.shape:
        sizes = ", ".join(f"{axis}: {size}" for axis, size in field.sizes.items())
        raise InputError(f"{name}: found ({sizes}), expected ({', '.join(before)}, y, x)")
    units = field.attrs.get("units")
    if units not in allowed:
        raise InputError(f"{name}: found units {units!r}, expected {allowed[0]!r}")
    return _north_up(field)


def _north_up(field: xr.DataArray) -> xr.DataArray:
    """The field with row 0 north and column 0 west, where its coordinates say which is which."""
    for name, sign in zip(field.dims[-2:], (-1, 1), strict=True):
        if name in field.coords and field.sizes[name] > 1:
            ends = field[name].to_numpy()[[0, -1]].astype(np.float64)
            if (ends[1] - ends[0]) * sign < 0:
                field = field.isel({name: slice(None, None, -1)})
    return field


def _observed(
    observed: xr.DataArray | None, like: xr.DataArray, issued: np.datetime64
) -> tuple[list[xr.DataArray], np.ndarray]:
    """Frames up to the issue time and their times; none where nothing was given."""
    if observed is None:
        return [], np.zeros(0, "datetime64[s]")
    field = _checked(observed, ("time",), "observed")
    if field.shape[1:] != like.shape[1:] or any(
        name in field.coords and not np.array_equal(field[name], like[name])
        for name in like.dims[1:]
        if name in like.coords
    ):
        raise InputError(
            f"observed: found {' × '.join(map(str, field.shape[1:]))} pixels at other places than "
            f"the forecast's {' × '.join(map(str, like.shape[1:]))}, expected the same grid"
        )
    if "time" not in field.coords or field["time"].dtype.kind != "M":
        raise InputError("observed: found no time as datetime64, expected valid times")
    times = field["time"].to_numpy().astype("datetime64[s]")
    if not (np.diff(times) > np.timedelta64(0, "s")).all():
        raise InputError("observed: found times out of order, expected them to increase")
    past = times <= issued
    # What is less than no rain was not observed, to `nowcast.forecast` too.
    return [field.isel(time=past).where(lambda rates: rates >= 0)], times[past]


def _probabilities(
    forecast: xr.Dataset, like: xr.DataArray
) -> Iterator[tuple[float, xr.DataArray]]:
    """Thresholds in mm/h with the probability (lead_time, y, x) that they are reached."""
    if PROBABILITIES not in forecast:
        return
    field = _checked(
        forecast[PROBABILITIES], ("threshold", "lead_time"), PROBABILITIES, PROBABILITY_UNITS
    )
    if field.shape[1:] != like.shape or "threshold" not in field.coords:
        raise InputError(
            f"{PROBABILITIES}: found {dict(field.sizes)}, expected the rain rate's grid and a "
            "coordinate threshold in mm/h"
        )
    for place, threshold in enumerate(field["threshold"].to_numpy()):
        yield float(threshold), field.isel(threshold=place)


def _classes(parts: list[xr.DataArray], scale: Scale, factor: int) -> np.ndarray:
    """Palette entries of all frames of all parts, reduced, a frame at a time."""
    to_classes = rain_rate_classes if scale is RAIN else probability_classes
    return np.stack(
        [to_classes(block_means(frame, factor)) for part in parts for frame in part.to_numpy()]
    )


def block_means(field: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of `factor` × `factor` pixels, float32.

    Args:
        field: (y, x); NaN is no coverage and does not count.
        factor: pixels along each side of a block; the last ones of a side may be smaller.

    Returns:
        The mean of what each block covers, NaN where less than half of its pixels has coverage.
    """
    if factor == 1:
        return field.astype(np.float32, copy=False)
    height, width = field.shape
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    covered = ~np.isnan(field)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)

    pixels = np.outer(np.diff(np.append(rows, height)), np.diff(np.append(columns, width)))
    count = sums(covered.astype(np.float32))
    total = sums(np.where(covered, field, 0).astype(np.float32))
    enough = 2 * count >= pixels
    return np.where(enough, total / np.maximum(count, 1), np.float32(np.nan)).astype(np.float32)
