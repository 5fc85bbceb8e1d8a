"""Which clips exist: pure arithmetic on timestamps, no input or output.

A clip is `length` timestamps, `step_minutes` apart. It is valid if no more than `max_missing`
consecutive timestamps have no frame and not all have none: the rule of the HKO-7 benchmark (Shi et
al., NeurIPS 2017, and the iterator that its authors publish). Both of the benchmark's ways to
choose clips are here: uniformly at random (`valid_starts`) and in time order (`sequential`).
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError

Times = NDArray[np.datetime64]


def as_seconds(times: ArrayLike) -> NDArray[np.int64]:
    """Seconds since 1970-01-01 UTC of strictly increasing timestamps.

    Args:
        times: datetime64 timestamps of any unit, one-dimensional; fractions of a second are cut.

    Raises:
        InputError: the timestamps are not one-dimensional or not strictly increasing.
    """
    seconds = np.asarray(times, dtype="datetime64[s]").astype(np.int64)
    if seconds.ndim != 1:
        raise InputError(f"times: found shape {seconds.shape}, expected one axis")
    if seconds.size and (np.diff(seconds) <= 0).any():
        after = int(np.argmax(np.diff(seconds) <= 0))
        found = seconds[after : after + 2].astype("datetime64[s]")
        raise InputError(f"times: found {found[0]} before {found[1]}, expected strictly increasing")
    return seconds


def step_in_seconds(step_minutes: float) -> int:
    """Whole seconds of a time step.

    Raises:
        InputError: the step is not a positive number of whole seconds.
    """
    seconds = round(step_minutes * 60) if math.isfinite(step_minutes) else 0
    if seconds <= 0 or abs(seconds - step_minutes * 60) > 1e-6:
        raise InputError(
            f"step_minutes: found {step_minutes}, expected a positive number of whole seconds"
        )
    return seconds


def _clips_are_valid(
    seconds: NDArray[np.int64],
    starts: NDArray[np.int64],
    length: int,
    step_seconds: int,
    max_missing: int,
) -> NDArray[np.bool_]:
    """Whether a valid clip begins at each of `starts`; frames exist at `seconds`."""
    missing_run = np.zeros(starts.shape, dtype=np.int32)
    longest_run = np.zeros(starts.shape, dtype=np.int32)
    any_present = np.zeros(starts.shape, dtype=bool)
    for position in range(length):
        wanted = starts + position * step_seconds
        nearest = np.minimum(np.searchsorted(seconds, wanted), len(seconds) - 1)
        present = seconds[nearest] == wanted
        any_present |= present
        missing_run = np.where(present, 0, missing_run + 1)
        np.maximum(longest_run, missing_run, out=longest_run)
    return any_present & (longest_run <= max_missing)


def _check_rule(length: int, max_missing: int) -> None:
    if length < 1:
        raise InputError(f"length: found {length}, expected at least 1 frame")
    if max_missing < 0:
        raise InputError(f"max_missing: found {max_missing}, expected 0 or more")


def valid_starts(
    times: ArrayLike, length: int = 25, step_minutes: float = 6, max_missing: int = 2
) -> Times:
    """Existing timestamps at which a valid clip begins.

    A uniform draw from them equals the benchmark's random sampling (uniform over the existing
    timestamps, redrawn until the clip is valid).

    Args:
        times: timestamps that have a frame, strictly increasing.
        length: frames of a clip, those of the past and those to forecast together.
        step_minutes: time between two frames of a clip.
        max_missing: how many consecutive timestamps of a clip may be without a frame.

    Returns:
        datetime64[s], a subset of `times` in their order; empty if there is no valid clip.

    Raises:
        InputError: the timestamps are not strictly increasing, or a number makes no sense.
    """
    _check_rule(length, max_missing)
    seconds, step = as_seconds(times), step_in_seconds(step_minutes)
    if not seconds.size:
        return np.empty(0, dtype="datetime64[s]")
    return seconds[_clips_are_valid(seconds, seconds, length, step, max_missing)].astype(
        "datetime64[s]"
    )


def sequential(
    times: ArrayLike,
    length: int = 25,
    stride: int = 5,
    step_minutes: float = 6,
    max_missing: int = 2,
) -> Iterator[tuple[np.datetime64, bool]]:
    """Clips in time order, as the benchmark scores them.

    The start begins at the first timestamp. A valid clip moves it by `stride` frames, whether or
    not a frame exists there; an invalid one moves it to the next existing timestamp and begins a
    new episode. It ends when the start passes the last timestamp.

    Args:
        times: timestamps that have a frame, strictly increasing.
        length: frames of a clip, those of the past and those to forecast together.
        stride: frames from the start of a clip to the start of the next.
        step_minutes: time between two frames of a clip.
        max_missing: how many consecutive timestamps of a clip may be without a frame.

    Yields:
        The start of each valid clip (datetime64[s]), and whether it is the first of an episode.

    Raises:
        InputError: the timestamps are not strictly increasing, or a number makes no sense.
    """
    _check_rule(length, max_missing)
    if stride < 1:
        raise InputError(f"stride: found {stride}, expected at least 1 frame")
    seconds, step = as_seconds(times), step_in_seconds(step_minutes)
    if not seconds.size:
        return
    valid = seconds[_clips_are_valid(seconds, seconds, length, step, max_missing)]
    existing = set(seconds.tolist())
    existing_and_valid = set(valid.tolist())
    last = int(seconds[-1])
    start, new_episode = int(seconds[0]), True
    while start <= last:
        if start in existing:
            is_valid = start in existing_and_valid
        else:
            alone = np.array([start])
            is_valid = bool(_clips_are_valid(seconds, alone, length, step, max_missing)[0])
        if is_valid:
            yield np.datetime64(start, "s"), new_episode
            start, new_episode = start + stride * step, False
        else:
            # The existing timestamps in between are invalid too, so they would only be passed.
            following = int(np.searchsorted(valid, start, side="right"))
            if following == len(valid):
                return
            start, new_episode = int(valid[following]), True
