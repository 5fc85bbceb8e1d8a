"""The axes of a variable of forecasts: which is which, when they were issued, for how far ahead.

Axes are recognised by the names that usage has for them or by CF's standard names. What the
variable's numbers mean is in `radar.event_quantities`; they are read in `forecast_fields`.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.event_times import MOST_OFF_SECOND, seconds_of

_NAMES = {
    "issue": {
        "forecast_reference_time",
        "reference_time",
        "issue_time",
        "init_time",
        "initial_time",
        "analysis_time",
    },
    "lead": {
        "lead_time",
        "leadtime",
        "lead",
        "step",
        "prediction_timedelta",
        "forecast_period",
    },
    "member": {"member", "realization", "number", "ensemble", "ensemble_member"},
    "place": {"place"},
    "y": {"y", "lat", "latitude", "projection_y_coordinate", "grid_latitude"},
    "x": {"x", "lon", "longitude", "projection_x_coordinate", "grid_longitude"},
}
"""What usage and CF (`standard_name`) call them."""

_SECONDS = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}


@dataclass(frozen=True)
class ForecastAxes:
    """Names of a variable's axes; None where it has no such axis.

    Attributes:
        issue: when the forecast was issued.
        lead: how far ahead it is, or, if `lead_is_valid_time`, for when.
        member: of an ensemble.
        place: which radar, city or region.
        y: north–south.
        x: east–west.
        single: axes of length 1 that say nothing here.
        lead_is_valid_time: whether `lead` holds valid times.
    """

    issue: str | None
    lead: str
    member: str | None
    place: str | None
    y: str
    x: str
    single: tuple[str, ...]
    lead_is_valid_time: bool


def axes_of(field: xr.DataArray) -> ForecastAxes:
    """Which axis is which.

    `time` is the time of issue where another axis is the lead time, and the valid time where none
    is. Axes in space that nothing names are taken as (y, x) in the order in which they stand.

    Args:
        field: the forecasts, with coordinates.

    Raises:
        InputError: an axis is not known, stands twice, or is missing.
    """
    sizes = ", ".join(f"{name}: {size}" for name, size in field.sizes.items())
    found: dict[str, str] = {}
    unknown = []
    for name in map(str, field.dims):
        meanings = _meanings(field, name)
        if len(meanings) == 1 and not meanings & found.keys():
            found[meanings.pop()] = name
        elif meanings:
            raise InputError(f"found {field.name} ({sizes}), expected each kind of axis once")
        else:
            unknown.append(name)
    lead_is_valid_time = False
    if "time" in unknown and not {"issue", "lead"} <= found.keys():
        lead_is_valid_time = "lead" not in found
        found["lead" if lead_is_valid_time else "issue"] = "time"
        unknown.remove("time")
    single = [name for name in unknown if field.sizes[name] == 1]
    missing = [axis for axis in ("y", "x") if axis not in found]
    if len(unknown) > len(missing):
        unknown = [name for name in unknown if name not in single]
    else:
        single = []
    if "lead" not in found or len(unknown) != len(missing) or 0 in field.shape:
        raise InputError(
            f"found {field.name} ({sizes}), expected issue time, lead time, member, place, y and x "
            "(the lead time and two axes in space at least)"
        )
    found |= dict(zip(missing, unknown, strict=True))
    return ForecastAxes(
        issue=found.get("issue"),
        lead=found["lead"],
        member=found.get("member"),
        place=found.get("place"),
        y=found["y"],
        x=found["x"],
        single=tuple(single),
        lead_is_valid_time=lead_is_valid_time,
    )


def issue_seconds(dataset: xr.Dataset, axes: ForecastAxes) -> NDArray[np.int64]:
    """Seconds since 1970-01-01 UTC at which the forecasts were issued, `(issue,)`.

    Without an axis of issue times it is the scalar `forecast_reference_time`, or what else it is
    called; a scalar `time` where nothing has such a name.

    Args:
        dataset: its times are not decoded.
        axes: of the forecasts.

    Raises:
        InputError: nothing says it, or what does is no strictly increasing CF time.
    """
    if axes.issue is not None:
        if axes.issue not in dataset.coords:
            raise InputError(f"found no coordinate {axes.issue}, expected the times of issue")
        return _seconds(dataset.coords[axes.issue])
    scalars = [
        variable
        for name, variable in dataset.variables.items()
        if variable.size == 1 and _called(str(name), variable) & _NAMES["issue"]
    ]
    time = dataset.variables.get("time")
    if not scalars and time is not None and time.size == 1 and not axes.lead_is_valid_time:
        scalars = [time]
    if len(scalars) != 1:
        raise InputError(
            f"found {len(scalars) or 'no'} times of issue, expected forecast_reference_time"
        )
    return _seconds(scalars[0])


def lead_seconds(
    dataset: xr.Dataset, axes: ForecastAxes, issued: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Seconds from issue to valid time, `(lead,)`.

    Args:
        dataset: its times are not decoded.
        axes: of the forecasts.
        issued: when they were issued.

    Raises:
        InputError: there are none, not in units of time, not whole seconds, or one stands twice.
    """
    if axes.lead not in dataset.coords:
        raise InputError(f"found no coordinate {axes.lead}, expected lead times")
    lead = dataset.coords[axes.lead]
    if axes.lead_is_valid_time:
        if len(issued) != 1:
            raise InputError(f"found {axes.lead} for {len(issued)} issues, expected lead times")
        return _seconds(lead) - issued[0]
    if lead.dtype.kind == "m":
        seconds = lead.to_numpy() / np.timedelta64(1, "s")
    else:
        units = str(lead.attrs.get("units", "")).strip()
        if units not in _SECONDS or lead.dtype.kind not in "iuf":
            raise InputError(
                f"found {axes.lead} in {units!r}, expected seconds, minutes, hours or days"
            )
        seconds = lead.to_numpy() * _SECONDS[units]
    # NaN, a missing lead time, fails the comparison too.
    if not (np.abs(seconds - np.round(seconds)) <= MOST_OFF_SECOND / np.timedelta64(1, "s")).all():
        raise InputError(f"found {axes.lead} with missing or split seconds, expected whole seconds")
    whole = np.round(seconds).astype(np.int64)
    if len(np.unique(whole)) != len(whole):
        raise InputError(f"found a lead time twice in {axes.lead}, expected each once")
    return whole


def flips(dataset: xr.Dataset, axes: ForecastAxes) -> tuple[bool, bool]:
    """Whether y runs from south to north, and x from east to west.

    Each by its coordinate, y also by a latitude of both axes. Where there is none, row 0 counts
    as north and column 0 as west.

    Args:
        dataset: the forecasts.
        axes: theirs.

    Raises:
        InputError: a coordinate does not run one way.
    """
    backwards = []
    for axis, other, runs in ((axes.y, axes.x, -1), (axes.x, axes.y, 1)):
        coordinate = None
        if axis in dataset.coords:
            coordinate = dataset.coords[axis]
        elif axis == axes.y:
            for name, variable in dataset.variables.items():
                if {*variable.dims} == {axis, other} and "lat" in str(name).lower():
                    coordinate = dataset[name].mean(other)
        steps = np.zeros(0)
        if coordinate is not None and coordinate.dtype.kind in "iuf":
            steps = np.diff(coordinate.to_numpy().astype(np.float64)) * runs
        if steps.size and not ((steps > 0).all() or (steps < 0).all()):
            raise InputError(f"found coordinate {axis} going both ways, expected one direction")
        backwards.append(bool(steps.size and steps[0] < 0))
    return backwards[0], backwards[1]


def _meanings(field: xr.DataArray, name: str) -> set[str]:
    """The kinds of axis that one may be, by its name, or else by its coordinate's standard name."""
    kinds = {kind for kind, names in _NAMES.items() if name.lower() in names}
    if kinds or name not in field.coords:
        return kinds
    attributes = field.coords[name].attrs
    kinds = {kind for kind, names in _NAMES.items() if attributes.get("standard_name") in names}
    return kinds or {kind for kind in ("y", "x") if str(attributes.get("axis")).lower() == kind}


def _called(name: str, variable: xr.Variable) -> set[str]:
    return {name.lower(), str(variable.attrs.get("standard_name"))}


def _seconds(time: xr.DataArray | xr.Variable) -> NDArray[np.int64]:
    values = time.to_numpy().reshape(-1)
    return seconds_of(xr.Dataset(coords={"time": ("time", values, time.attrs)}))
