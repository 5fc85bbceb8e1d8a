"""Clips to look at: the wettest, what every method forecasts for them, and how they are labelled.

How they are drawn is the rendering room's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nowcast.errors import InputError
from nowcast.evaluation.methods import Method
from nowcast.radar.store import Sequence as Place
from nowcast.training.clips import SequentialClips
from nowcast.training.data import DataSettings
from nowcast.training.sampling import clip_rain
from nowcast.verification.running import forecast_members, mean_rain_rate


@dataclass(frozen=True, eq=False)
class ShownClip:
    """One clip with every method's forecast of it.

    Attributes:
        observed: pixel values at the lead times, (time, y, x).
        forecasts: pixel values of each method's forecast, (time, y, x), by its name; of an ensemble
            those of the mean rain rate.
        mask: where there is coverage at the lead times, bool (time, y, x).
        inputs: observed pixel values up to the issue time, (time, y, x).
        input_mask: where there is coverage up to the issue time, bool (time, y, x).
        issue_time: valid time of the last input.
        step_minutes: minutes between frames.
        title: issue time and place.
        source: credit line for the observations.
    """

    observed: np.ndarray
    forecasts: dict[str, np.ndarray]
    mask: np.ndarray
    inputs: np.ndarray
    input_mask: np.ndarray
    issue_time: np.datetime64
    step_minutes: float
    title: str
    source: str

    def arguments(self) -> dict[str, Any]:
        """What every picture of a forecast takes, by the name of its parameter."""
        return dict(vars(self))


def show(
    data: DataSettings, place: Place, start: np.datetime64, methods: Mapping[str, Method]
) -> ShownClip:
    """Forecast a clip with every method.

    Args:
        data: where the clip comes from.
        place: its sequence.
        start: time of its first frame.
        methods: by the names to show them under.

    Raises:
        InputError: a method cannot forecast the clip.
    """
    store = data.open()
    frames, counts, times = store.read(place, start, data.length)
    pixels = frames.astype(np.float32) / 255
    # HKO-7's masks also leave out single noisy pixels; what is hatched is what no frame shows. A
    # frame that is missing altogether is hatched as a whole.
    missing = ~np.any(counts, axis=(1, 2), keepdims=True)
    coverage = np.any(counts, axis=0) & ~missing
    past, future = slice(None, data.input_frames), slice(data.input_frames, None)
    issue_time = times[data.input_frames - 1]
    inputs = torch.from_numpy(pixels[past])[None, :, None]
    forecasts = {}
    for name, method in methods.items():
        members = forecast_members(
            name, method, inputs, (place.name,), np.array([issue_time]), data.lead_times
        )
        forecast = members[:, 0] if members.shape[1] == 1 else mean_rain_rate(members)
        forecasts[name] = forecast[0, :, 0].cpu().numpy()
    credit = [place.metadata.get(key) for key in ("source", "license", "licence")]
    return ShownClip(
        observed=pixels[future],
        forecasts=forecasts,
        mask=coverage[future],
        inputs=pixels[past],
        input_mask=coverage[past],
        issue_time=issue_time,
        step_minutes=store.step_minutes,
        title=f"Forecast of {str(issue_time.astype('datetime64[m]')).replace('T', ' ')} UTC, "
        f"{place.name}",
        source="; ".join(str(part) for part in credit if part) or store.path.name,
    )


def find(
    clips: SequentialClips, sequence: str | None = None, start: np.datetime64 | None = None
) -> tuple[Place, np.datetime64]:
    """The clip that is asked for, or the wettest of those.

    Args:
        clips: to choose from.
        sequence: name of its sequence; any where None.
        start: time of its first frame; any where None.

    Raises:
        InputError: there is no such clip.
    """
    wanted = [
        number
        for number, (place, first) in enumerate(clips.clips)
        if sequence in (None, place.name) and start in (None, first)
    ]
    if not wanted:
        there = sorted({place.name for place, _ in clips.clips})
        raise InputError(
            f"{clips.store.path}: found no valid clip of {sequence or 'any sequence'} at "
            f"{start or 'any time'}; there are {len(clips)} from {clips.clips[0][1]} to "
            f"{clips.clips[-1][1]} in {', '.join(there[:6])}"
        )
    return clips.clips[_wettest_first(clips, wanted)[0]]


def wettest_by_event(clips: SequentialClips, count: int) -> list[tuple[Place, np.datetime64]]:
    """The wettest clip of each of the wettest events, at most `count` of them, in order of time."""
    first_of_events: dict[str, int] = {}
    for number in _wettest_first(clips, range(len(clips))):
        first_of_events.setdefault(clips.events[number], number)
    return [clips.clips[number] for number in sorted([*first_of_events.values()][:count])]


def _wettest_first(clips: SequentialClips, numbers: Iterable[int]) -> list[int]:
    """Numbers of clips by falling mean of 1 − exp(−R / (1 mm/h)), R their rain rate."""
    numbers = list(numbers)
    by_place: dict[int, list[int]] = {}
    for number in numbers:
        by_place.setdefault(id(clips.clips[number][0]), []).append(number)
    rain: dict[int, float] = {}
    for own in by_place.values():
        place = clips.clips[own[0]][0]
        starts = np.array([clips.clips[number][1] for number in own])
        values = clip_rain(place, starts, clips.length, clips.store.step_minutes)
        rain.update(zip(own, values.tolist(), strict=True))
    return sorted(numbers, key=lambda number: -rain[number])
