"""The arguments of a nowcast method of pysteps, taken as far as they make sense."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError

MOST_OFF = 0.05
"""Part of a time step that frames may be off and still count as evenly spaced."""


def frames_of(precip: ArrayLike) -> NDArray[np.floating[Any]]:
    """The observed field, (time, y, x), floating-point."""
    frames = np.asanyarray(precip)
    if frames.dtype.kind in "iu":
        frames = frames.astype(np.float64)
    if frames.dtype.kind != "f":
        raise InputError(f"precip: found values of type {frames.dtype}, expected numbers")
    if isinstance(frames, np.ma.MaskedArray):
        frames = frames.filled(np.nan)
    if frames.ndim == 2:
        raise InputError("precip: found one frame, (y, x), expected several, (time, y, x)")
    if frames.ndim != 3 or 0 in frames.shape:
        raise InputError(f"precip: found shape {frames.shape}, expected (time, y, x)")
    return frames


def times_of(timesteps: int | Sequence[float]) -> NDArray[np.float64]:
    """Times to forecast for, in steps after the last frame."""
    if isinstance(timesteps, int | np.integer) and not isinstance(timesteps, bool):
        if timesteps < 1:
            raise InputError(f"timesteps: found {timesteps}, expected at least 1")
        return np.arange(1, int(timesteps) + 1, dtype=np.float64)
    try:
        times = np.asarray(timesteps, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.empty(())
    if times.ndim != 1 or not times.size or not np.isfinite(times).all() or times[0] <= 0:
        raise InputError(f"timesteps: found {timesteps!r}, expected a number of them or times > 0")
    if (np.diff(times) < 0).any():
        raise InputError(f"timesteps: found {timesteps!r}, expected ascending times")
    return times


def timestep_of(metadata: Mapping[str, Any], count: int) -> float | None:
    """Minutes between `count` frames by the timestamps that pysteps' `read_timeseries` adds.

    None where the metadata have none, or those of another number of frames.

    Raises:
        InputError: they are not evenly spaced.
    """
    said = metadata.get("timestamps")
    if said is None or np.shape(said) != (count,) or count < 2:
        return None
    times = np.asarray(said, dtype="datetime64[s]")
    steps = np.diff(times).astype(np.int64) / 60
    usual = float(np.median(steps))
    if np.isnat(times).any() or usual <= 0 or (np.abs(steps - usual) > MOST_OFF * usual).any():
        raise InputError(
            f"metadata: found timestamps {', '.join(map(str, times))}, expected even steps, or "
            "timestep="
        )
    return usual


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is neither None nor a whole number from `least` on."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if value is not None and (not whole or value < least):
        raise InputError(f"{name}: found {value!r}, expected a whole number from {least} on")


def check_above_zero(name: str, value: Any) -> None:
    """Refuse what is neither None nor a finite number above 0."""
    if value is None:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value < np.inf:
        raise InputError(f"{name}: found {value!r}, expected more than 0")
