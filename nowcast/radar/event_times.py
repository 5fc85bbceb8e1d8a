"""The times of an event's file: CF times to seconds, cells of time, and which frames are usable."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import as_seconds

log = logging.getLogger("nowcast")

MOST_OFF_SECOND = np.timedelta64(1, "ms")
"""Rounding that times may have: as days in double precision they do not hit the second."""

_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


def seconds_of(dataset: xr.Dataset) -> NDArray[np.int64]:
    """Seconds since 1970-01-01 UTC of an event's frames.

    Args:
        dataset: with a coordinate `time` that is not decoded.

    Raises:
        InputError: there are none, they are no CF times of the calendar in use, not whole seconds,
            or not strictly increasing.
    """
    if "time" not in dataset.coords:
        raise InputError("found no coordinate time, expected CF times")
    time = dataset["time"]
    return as_seconds(_decoded(time.to_numpy(), time.attrs))


def bounds_minutes(dataset: xr.Dataset) -> float | None:
    """Length of the cells of time that the coordinate's `bounds` name; None without bounds.

    Raises:
        InputError: the cells are of different length.
    """
    time = dataset["time"]
    bounds = dataset.variables.get(time.attrs.get("bounds"))
    if bounds is None:
        return None
    if bounds.shape != (time.size, 2):
        raise InputError(f"found bounds of time of shape {bounds.shape}, expected ({time.size}, 2)")
    edges = _decoded(bounds.to_numpy(), time.attrs).astype(np.int64)
    lengths = np.unique(edges[:, 1] - edges[:, 0])
    if len(lengths) > 1:
        raise InputError(
            f"found cells of time of {lengths[0] / 60:g} to {lengths[-1] / 60:g} minutes, "
            "expected one length"
        )
    return float(lengths[0] / 60)


def usable_frames(seconds: NDArray[np.int64], attributes: Mapping[str, Any]) -> NDArray[np.int64]:
    """Numbers of the frames that an archive says can be used.

    The radar archives of the MLCast community state from when on the time step is regular
    (`consistent_timestep_start`), and after which time frames are only placeholders
    (`last_valid_timestep`).

    Args:
        seconds: times of all frames.
        attributes: of the file.

    Raises:
        InputError: an attribute is no time, or leaves no frame.
    """
    usable = np.ones(seconds.shape, dtype=bool)
    for name, side in (("consistent_timestep_start", 1), ("last_valid_timestep", -1)):
        if name in attributes:
            usable &= side * seconds >= side * _second(name, attributes[name])
    if not usable.any():
        raise InputError("found no frame within the times that the file says are usable")
    if not usable.all():
        log.info("%d frames outside the times that the file says are usable", (~usable).sum())
    return np.flatnonzero(usable)


def _second(name: str, value: Any) -> float:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"found {name} {value!r}, expected a time in ISO format") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _decoded(values: NDArray, attributes: Mapping[str, Any]) -> NDArray[np.datetime64]:
    """datetime64[s] of numbers by CF's `units` and `calendar`, or of datetime64 as it is."""
    calendar = str(attributes.get("calendar", "standard")).lower()
    if calendar not in _CALENDARS:
        raise InputError(f"found times in the calendar {calendar!r}, expected 'standard'")
    if values.dtype.kind != "M":
        if "since" not in str(attributes.get("units")):
            raise InputError(
                f"found times in {attributes.get('units')!r}, expected CF times such as "
                "'seconds since 1970-01-01'"
            )
        described = {key: attributes[key] for key in ("units", "calendar") if key in attributes}
        raw = xr.Dataset({"time": (tuple("ab"[: values.ndim]), values, described)})
        values = xr.decode_cf(raw)["time"].to_numpy()
    if values.dtype.kind != "M" or np.isnat(values).any():
        raise InputError("found times that are missing or out of range, expected dates")
    seconds = (values + np.timedelta64(500, "ms")).astype("datetime64[s]")
    off = np.abs(values - seconds) > MOST_OFF_SECOND
    if off.any():
        raise InputError(f"found the time {values[off].flat[0]}, expected whole seconds")
    return seconds
