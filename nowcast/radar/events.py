"""A radar event: times, grid and frames of rain rate, whatever kind of file they are read from.

Everything passes through mm/h: reflectivity becomes rain rate with the source's own Z–R relation,
and rain rate becomes pixel value with HKO-7's. Not observed is NaN in mm/h and an all-False mask;
"observed, no echo" counts. Row 0 is north. Files are opened in `event_sources`.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import Times, step_in_seconds
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

HIGHEST_DBZ = 60.0
"""Stronger echoes are clutter or hail; they are clipped before the Z–R relation."""

HIGHEST_RAIN_RATE_MM_H = float(pixel_to_rain_rate(1.0))
"""What pixel value 1 stands for; higher rates are clipped before they are averaged."""

MOST_PIXELS = 2**26
"""Pixels of one frame; 8192 × 8192, a continent at less than 1 km."""


class FrameReader(Protocol):
    """Frames of one event, on disk.

    Its `repr` says all that decides what the frames hold, and not where they lie; it can be
    pickled.
    """

    def taken(self, numbers: Sequence[int]) -> "FrameReader":
        """A reader of some of its frames alone, given by their places among them, ascending."""
        ...

    def chunks(self) -> NDArray[np.int64]:
        """(n,), the number of the chunk that each frame lies in; chunks are decoded whole."""
        ...

    def rain_rates(self, oddities: Counter[str]) -> Iterator[NDArray[np.float64]]:
        """Rain rate (y, x) in mm/h of each frame, row 0 north; NaN = not observed.

        Args:
            oddities: counts what is taken for something else than it says, in words.

        Raises:
            InputError: a file is damaged.
        """
        ...


@dataclass(frozen=True, eq=False)
class Event:
    """What an event's file or folder says of itself.

    Attributes:
        path: the file or folder.
        times: datetime64[s] (n,), strictly increasing; gaps are missing frames.
        stated_step_minutes: time between frames, where something says so.
        shape: (y, x).
        grid_spacing_km: side of a pixel; None where pixels are not squares of a stated length.
        metadata: source, licence, projection and the like.
        reader: its frames.
        coordinates: of the frames' axes, y before x, and after them the grid mapping, if any, by
            their names; nothing where the source tells none.
    """

    path: Path
    times: Times
    shape: tuple[int, int]
    grid_spacing_km: float | None
    metadata: Mapping[str, Any]
    reader: FrameReader
    coordinates: Mapping[str, xr.Variable] = field(default_factory=dict)
    stated_step_minutes: float | None = None

    @cached_property
    def step_minutes(self) -> float:
        """Time between frames: as stated, or the shortest time between two of them.

        Raises:
            InputError: there is one frame alone, or frames lie between the steps.
        """
        return _step_minutes(self.path, self.times.astype(np.int64), self.stated_step_minutes)


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


def event_name(path: str | os.PathLike[str]) -> str:
    """What an event is called in the store: the name of its file or folder without suffixes."""
    # The absolute path, since "." has no name.
    return Path(Path(os.path.abspath(path)).name.removesuffix(".zip")).stem


def _step_minutes(path: Path, seconds: NDArray[np.int64], stated: float | None) -> float:
    if stated is None and len(seconds) < 2:
        raise InputError(
            f"{path}: found one time, expected a time step: two times, or one that is stated"
        )
    step_minutes = float(np.diff(seconds).min() / 60) if stated is None else stated
    off_step = np.diff(seconds) % step_in_seconds(step_minutes) != 0
    if off_step.any():
        at = int(np.argmax(off_step))
        raise InputError(
            f"{path}: found {np.diff(seconds)[at] / 60:g} minutes between times {at} and {at + 1}, "
            f"expected multiples of {step_minutes:g}"
        )
    return step_minutes


def at_step(event: Event, step_minutes: float, subsample: bool) -> Event:
    """The event's frames at a step, from its first one on.

    Args:
        event: the event.
        step_minutes: the time step wanted.
        subsample: whether a step that is a multiple of the event's is accepted.

    Raises:
        InputError: the event has another time step.
    """
    wanted, own = step_in_seconds(step_minutes), step_in_seconds(event.step_minutes)
    if wanted % own or (wanted != own and not subsample):
        hint = ", not a multiple" if wanted % own else "; subsampling has to be asked for"
        raise InputError(
            f"{event.path}: found frames every {event.step_minutes:g} minutes, "
            f"expected {step_minutes:g}{hint}"
        )
    seconds = event.times.astype(np.int64)
    numbers = np.flatnonzero((seconds - seconds[0]) % wanted == 0)
    return replace(
        event,
        times=event.times[numbers],
        stated_step_minutes=step_minutes,
        reader=event.reader.taken(numbers.tolist()),
    )


def rain_rates(event: Event, first: int, count: int) -> Iterator[NDArray[np.float64]]:
    """Rain rate (y, x) in mm/h of each of `count` frames from the `first` on; NaN = not observed.

    Raises:
        InputError: a file is damaged.
    """
    return event.reader.taken(range(first, first + count)).rain_rates(Counter())


def to_pixels(
    rain_rate_mm_h: NDArray[np.floating],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Stored pixel values and mask of rain rates in mm/h, NaN = not observed."""
    mask = ~np.isnan(rain_rate_mm_h)
    pixel = rain_rate_to_pixel(np.where(mask, rain_rate_mm_h, 0))
    return np.rint(np.clip(pixel, 0, 1) * 255).astype(np.uint8), mask


def frames_of(event: Event) -> EventFrames:
    """All frames of an event at its own grid spacing.

    Raises:
        InputError: a file is damaged.
    """
    frames = np.empty((len(event.times), *event.shape), dtype=np.uint8)
    mask = np.empty(frames.shape, dtype=bool)
    for number, rate in enumerate(rain_rates(event, 0, len(event.times))):
        frames[number], mask[number] = to_pixels(rate)
    return EventFrames(frames, mask, event)
