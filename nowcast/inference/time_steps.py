"""Frames at the times that a model wants, from those that there are.

What lies between two frames is interpolated along the motion of the rain from one to the other, as
is done between scans for radar's amounts of rain (Anagnostou and Krajewski, J. Atmos. Oceanic
Technol. 16, 1999): both are moved to the time between, and the nearer one counts more. The mean of
the two where they stand would show each shower twice.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.extrapolation import extrapolate
from nowcast.models.motion import estimate_motion
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

AS_GOOD_AS_AT = 0.05
"""Part of a step that a frame may be off and still count as it is."""


class Wanted(NamedTuple):
    """Where a wanted frame comes from.

    Attributes:
        earlier: number of the frame before it.
        later: of the one after it; the same where a frame is as good as at the time.
        part: of the time from one to the other that has passed then.
    """

    earlier: int
    later: int
    part: float


def usual_step(seconds: NDArray[np.int64]) -> int:
    """The usual time between frames, in seconds: the median, the lower one of two.

    Raises:
        InputError: there is one frame alone.
    """
    if len(seconds) < 2:
        raise InputError("frames: found 1, expected at least 2 to know their time step")
    return int(np.sort(np.diff(seconds))[(len(seconds) - 2) // 2])


def sources_of(
    seconds: NDArray[np.int64], step: int, count: int | None, longest_gap: int
) -> list[Wanted]:
    """Where frames at even steps up to the last one come from, oldest first.

    Args:
        seconds: valid times of the frames that there are, strictly increasing.
        step: seconds between frames that are wanted.
        count: how many are wanted; None takes as many as there can be.
        longest_gap: longest time between two frames that is interpolated, in seconds.

    Raises:
        InputError: there are too few frames, or too far apart.
    """
    found: list[Wanted] = []
    while count is None or len(found) < count:
        second = int(seconds[-1]) - step * len(found)
        nearest = int(np.abs(seconds - second).argmin())
        if abs(int(seconds[nearest]) - second) <= AS_GOOD_AS_AT * step:
            found.append(Wanted(nearest, nearest, 0.0))
            continue
        later = int(np.searchsorted(seconds, second))
        gap = int(seconds[later] - seconds[later - 1]) if later else 0
        if later and gap <= longest_gap:
            found.append(Wanted(later - 1, later, (second - int(seconds[later - 1])) / gap))
            continue
        if count is None:
            break
        oldest = _said(seconds[-1] - step * ((count or 1) - 1))
        need = (
            f"the network needs them from {oldest} on ({count} at steps of {step / 60:g} minutes, "
            f"interpolated over gaps of up to {longest_gap / 60:g} minutes)"
        )
        if later:
            raise InputError(
                f"frames: found none for {gap / 60:g} minutes from {_said(seconds[later - 1])} on, "
                f"{need}"
            )
        raise InputError(
            f"frames: found {len(seconds)} from {_said(seconds[0])} to {_said(seconds[-1])}, {need}"
        )
    return found[::-1]


def interpolated(pixels: NDArray[np.floating], source: Wanted) -> NDArray[np.floating]:
    """A frame at a time between two others.

    Args:
        pixels: pixel values (time, y, x) of the frames that there are; NaN = not observed.
        source: which of them, and how far between.

    Returns:
        (y, x); NaN where neither frame observed the air that is there.

    Raises:
        InputError: a side is too short to find motion on.
    """
    if source.earlier == source.later:
        return pixels[source.earlier]
    ends = pixels[[source.earlier, source.later]]
    motion = estimate_motion(ends)
    rain = np.zeros(pixels.shape[1:], np.float32)
    weight = np.zeros(pixels.shape[1:], np.float32)
    for end, share, part in (
        (ends[0], 1 - source.part, source.part),
        (ends[1], source.part, source.part - 1),
    ):
        observed = ~np.isnan(end)
        rate = np.where(observed & (end > 0), pixel_to_rain_rate(np.nan_to_num(end)), 0.0)
        rain += share * extrapolate(rate, part * motion, 1)[0]
        weight += share * extrapolate(observed.astype(np.float32), part * motion, 1)[0]
    # Less than a tenth is the rim of what was observed, interpolated from beyond it.
    known = weight > 0.1
    mean = np.divide(rain, weight, out=np.zeros_like(rain), where=known)
    return np.where(known, rain_rate_to_pixel(mean).clip(0.0, 1.0), np.nan)


def _said(second: np.integer) -> str:
    return str(np.datetime64(int(second), "s"))
