"""Radar events as CF NetCDF-4 files: `reflectivity(time, y, x)` or rain rate, read frame by frame.

Everything passes through mm/h: reflectivity becomes rain rate with the file's own Z–R relation
(attributes `zr_a`, `zr_b`), and rain rate becomes pixel value with HKO-7's. Not observed is NaN in
mm/h and an all-False mask; "observed, no echo" counts. Row 0 is north, whichever way the file runs.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import Times, as_seconds, step_in_seconds
from nowcast.radar.event_axes import north_south_first, spacing_and_flips
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel

HIGHEST_DBZ = 60.0
"""Stronger echoes are clutter or hail; they are clipped before the Z–R relation."""

HIGHEST_RAIN_RATE_MM_H = float(pixel_to_rain_rate(1.0))
"""What pixel value 1 stands for; higher rates are clipped before they are averaged."""

_TO_MM_H = {
    "mm h-1": 1.0,
    "mm/h": 1.0,
    "mm hr-1": 1.0,
    "mm/hr": 1.0,
    "mm hour-1": 1.0,
    "kg m-2 h-1": 1.0,
    "kg m-2 s-1": 3600.0,
    "mm s-1": 3600.0,
    "m s-1": 3.6e6,
}
_REFLECTIVITY = ("reflectivity", "equivalent_reflectivity_factor")
_RAIN_RATE = ("rain_rate", "rainfall_rate", "rainfall_flux", "precipitation_flux")
_DESCRIBING = (
    "title",
    "institution",
    "source",
    "license",
    "accumulation_minutes",
    "original_units",
)


@dataclass(frozen=True, eq=False)
class Event:
    """What an event's file says of itself.

    Attributes:
        path: the file.
        variable: name of the field.
        times: datetime64[s] (n,), strictly increasing; gaps are missing frames.
        frame_numbers: (n,), where each of them lies in the file.
        step_minutes: time between frames.
        axes: names of the file's axes that run north–south and east–west, in that order; in the
            file they may stand the other way round.
        shape: (y, x).
        grid_spacing_km: side of a pixel; None where pixels are not squares of a stated length.
        relation: the file's Z–R relation; None for a rain rate.
        to_mm_h: what a rain rate is multiplied by; 1 for reflectivity.
        flipped: those of `axes` that run from south to north, or from east to west.
        metadata: source, licence, projection and the like.
    """

    path: Path
    variable: str
    times: Times
    frame_numbers: NDArray[np.int64]
    step_minutes: float
    axes: tuple[str, str]
    shape: tuple[int, int]
    grid_spacing_km: float | None
    relation: ZRRelation | None
    to_mm_h: float
    flipped: tuple[int, ...]
    metadata: Mapping[str, Any]


class EventFrames(NamedTuple):
    """An event as pixel values.

    Attributes:
        frames: uint8 (time, y, x), pixel value × 255; 0 where not observed.
        mask: bool (time, y, x), True = observed.
        event: what its file says.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    event: Event


@contextmanager
def _opened(path: Path) -> Iterator[xr.Dataset]:
    """The file as a dataset; whatever goes wrong with it becomes an InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a NetCDF-4 event")
    try:
        with xr.open_dataset(path, engine="h5netcdf", cache=False) as dataset:
            yield dataset
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as a NetCDF-4 event ({reason})") from error


def open_event(
    path: str | os.PathLike[str], step_minutes: float | None = None, subsample: bool = False
) -> Event:
    """Read what an event's file says of itself, without its frames.

    Args:
        path: a NetCDF-4 file.
        step_minutes: the time step wanted; None takes the file's own.
        subsample: whether a step that is a multiple of the file's is accepted; then frames are
            taken at that step from the first one on.

    Raises:
        InputError: the file is damaged, has no field of rain, or another time step.
    """
    path = Path(path)
    with _opened(path) as dataset:
        field = _field(dataset)
        relation, to_mm_h = _conversion(field, dataset.attrs)
        times, own_step = _times(field, dataset.attrs)
        numbers = np.arange(len(times))
        if step_minutes is not None:
            numbers = _numbers_at_step(times, own_step, step_minutes, subsample)
        spacing, flipped = spacing_and_flips(field)
        mapping = dataset.variables.get(field.encoding.get("grid_mapping", "crs"))
        projection = mapping.attrs if mapping is not None else {}
        metadata = {"file": path.name}
        metadata |= {key: _plain(dataset.attrs[key]) for key in _DESCRIBING if key in dataset.attrs}
        metadata |= {
            key: _plain(projection[key]) for key in ("proj4", "crs_wkt") if key in projection
        }
        return Event(
            path=path,
            variable=str(field.name),
            times=times[numbers].astype("datetime64[s]"),
            frame_numbers=numbers,
            step_minutes=own_step if step_minutes is None else step_minutes,
            axes=(str(field.dims[1]), str(field.dims[2])),
            shape=(field.shape[1], field.shape[2]),
            grid_spacing_km=spacing,
            relation=relation,
            to_mm_h=to_mm_h,
            flipped=flipped,
            metadata=metadata,
        )


def rain_rates(event: Event, first: int, count: int) -> Iterator[NDArray[np.float64]]:
    """Rain rate (y, x) in mm/h of each of `count` frames from the `first` on; NaN = not observed.

    Negative rates are taken for not observed.

    Raises:
        InputError: the file is damaged.
    """
    with _opened(event.path) as dataset:
        for number in event.frame_numbers[first : first + count]:
            frame = dataset[event.variable][int(number)].transpose(*event.axes)
            values = frame.to_numpy().astype(np.float64)
            if event.flipped:
                values = np.flip(values, event.flipped)
            if event.relation is not None:
                values = event.relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
            else:
                values = values * event.to_mm_h
                values[~(values >= 0)] = np.nan
            yield np.minimum(values, HIGHEST_RAIN_RATE_MM_H)


def to_pixels(
    rain_rate_mm_h: NDArray[np.floating],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Stored pixel values and mask of rain rates in mm/h, NaN = not observed."""
    mask = ~np.isnan(rain_rate_mm_h)
    pixel = rain_rate_to_pixel(np.where(mask, rain_rate_mm_h, 0))
    return np.rint(np.clip(pixel, 0, 1) * 255).astype(np.uint8), mask


def read_event(
    path: str | os.PathLike[str], step_minutes: float | None = None, subsample: bool = False
) -> EventFrames:
    """Read an event at its own grid spacing; arguments and errors as in `open_event`."""
    event = open_event(path, step_minutes, subsample)
    frames = np.empty((len(event.times), *event.shape), dtype=np.uint8)
    mask = np.empty(frames.shape, dtype=bool)
    for number, rate in enumerate(rain_rates(event, 0, len(event.times))):
        frames[number], mask[number] = to_pixels(rate)
    return EventFrames(frames, mask, event)


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it."""
    return value if isinstance(value, str) else np.asarray(value).squeeze().tolist()


def _field(dataset: xr.Dataset) -> xr.DataArray:
    """The one field of rain: by its name or its CF standard name."""
    found = [
        variable
        for name, variable in dataset.data_vars.items()
        if {str(name), variable.attrs.get("standard_name")} & {*_REFLECTIVITY, *_RAIN_RATE}
    ]
    if len(found) != 1:
        there = ", ".join(map(str, dataset.data_vars)) or "nothing"
        raise InputError(f"found {there}, expected one field of reflectivity or rain rate")
    if found[0].ndim != 3 or found[0].dims[0] != "time" or 0 in found[0].shape:
        sizes = ", ".join(f"{name}: {size}" for name, size in found[0].sizes.items())
        raise InputError(f"found {found[0].name} ({sizes}), expected (time, y, x)")
    return north_south_first(found[0])


def _conversion(
    field: xr.DataArray, attributes: Mapping[str, Any]
) -> tuple[ZRRelation | None, float]:
    """The file's Z–R relation for reflectivity, or a rain rate's factor to mm/h."""
    units = str(field.attrs.get("units", "")).strip()
    if {str(field.name), field.attrs.get("standard_name")} & {*_REFLECTIVITY}:
        if units != "dBZ":
            raise InputError(f"found {field.name} in {units!r}, expected 'dBZ'")
        if not {"zr_a", "zr_b"} <= attributes.keys():
            raise InputError("found no zr_a and zr_b, expected the Z–R relation of reflectivity")
        return ZRRelation(float(attributes["zr_a"]), float(attributes["zr_b"])), 1.0
    if units not in _TO_MM_H:
        known = ", ".join(_TO_MM_H)
        raise InputError(f"found {field.name} in {units!r}, expected one of {known}")
    return None, _TO_MM_H[units]


def _times(field: xr.DataArray, attributes: Mapping[str, Any]) -> tuple[NDArray[np.int64], float]:
    """Seconds since 1970 of the frames, and their step in minutes."""
    times = field["time"].to_numpy()
    if times.dtype.kind != "M":
        raise InputError(f"found times of type {times.dtype}, expected CF times")
    seconds = as_seconds(times)
    if "time_step_minutes" in attributes:
        step_minutes = float(attributes["time_step_minutes"])
    elif len(seconds) > 1:
        step_minutes = float(np.diff(seconds).min() / 60)
    else:
        raise InputError("found one time and no time_step_minutes, expected a time step")
    off_step = np.diff(seconds) % step_in_seconds(step_minutes) != 0
    if off_step.any():
        at = int(np.argmax(off_step))
        raise InputError(
            f"found {np.diff(seconds)[at] / 60:g} minutes between times {at} and {at + 1}, "
            f"expected multiples of {step_minutes:g}"
        )
    return seconds, step_minutes


def _numbers_at_step(
    seconds: NDArray[np.int64], own_step: float, step_minutes: float, subsample: bool
) -> NDArray[np.int64]:
    """Which frames lie at the step wanted, counted from the first one."""
    wanted, own = step_in_seconds(step_minutes), step_in_seconds(own_step)
    if wanted % own or (wanted != own and not subsample):
        hint = ", not a multiple" if wanted % own else "; subsampling has to be asked for"
        raise InputError(
            f"found frames every {own_step:g} minutes, expected {step_minutes:g}{hint}"
        )
    return np.flatnonzero((seconds - seconds[0]) % wanted == 0)
