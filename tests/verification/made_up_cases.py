"""Made-up cases to forecast and score, methods whose forecasts are known, and plain scores."""

from typing import ClassVar

import numpy as np
import torch

from nowcast.verification.accumulator import LEAD_TIME, Accumulator
from nowcast.verification.cases import Cases
from nowcast.verification.results import ScoreKinds

STEP = np.timedelta64(360, "s")
START = np.datetime64("2020-06-01T00:00:00", "s")


class SquaredErrors(Accumulator):
    """Sum of squared errors over the pixels that count, per clip."""

    DIMENSIONS: ClassVar = {"squared_error": (LEAD_TIME,)}

    def __init__(self, lead_times):
        super().__init__(lead_times)
        self.sums["squared_error"] = np.zeros(lead_times)

    def update(self, prediction, truth, mask):
        error = (prediction.double() - truth.double()).square() * mask
        self.sums["squared_error"] = self.sums["squared_error"] + error.sum((0, 2, 3, 4)).numpy()
        self.sums["clips"] = self.sums["clips"] + len(truth)

    def scores_from(self, sums):
        return {"squared_error": sums["squared_error"] / sums["clips"][..., None]}


class Spread(SquaredErrors):
    """Sum of the members' variance over the pixels that count; made for one number of members."""

    def __init__(self, lead_times, members):
        super().__init__(lead_times)
        self.members = members

    def update(self, prediction, truth, mask):
        assert prediction.shape == (len(truth), self.members, *truth.shape[1:])
        variance = prediction.double().var(dim=1, correction=0)
        super().update(variance.sqrt(), torch.zeros_like(truth), mask)


def plain_kinds(lead_times):
    return ScoreKinds(
        lambda: {"errors": SquaredErrors(lead_times)},
        lambda members: {"spread": Spread(lead_times, members)},
    )


class LastFrame:
    def forecast(self, frames, lead_times):
        return frames[:, -1:].expand(-1, lead_times, -1, -1, -1)


class Always:
    """The same forecast for every batch."""

    def __init__(self, forecast):
        self.answer = forecast

    def forecast(self, frames, lead_times):
        return self.answer


def make_cases(generator, clips, inputs, lead_times, side, events=None, first=0):
    frames = torch.rand(clips, inputs + lead_times, 1, side, side, generator=generator)
    mask = torch.rand(clips, lead_times, 1, side, side, generator=generator) > 0.3
    numbers = np.arange(first, first + clips)
    return Cases(
        frames[:, :inputs],
        frames[:, inputs:],
        mask,
        places=("somewhere",) * clips,
        issue_times=START + (numbers * inputs + inputs - 1) * STEP,
        events=("event",) * clips if events is None else tuple(events),
        new_episode=tuple(number == 0 for number in numbers.tolist()),
    )


def film_cases(times, inputs, lead_times, starts, film):
    """Clips one by one from a film.

    Args:
        times: seconds of the frames that exist.
        inputs: frames of the past of a clip.
        lead_times: frames of its future.
        starts: first second of each clip, and whether it begins an episode.
        film: seconds (n,) → frames (n, 1, y, x) and their masks.
    """
    existing = set(times)
    for start, is_first in starts:
        seconds = [start + 360 * step for step in range(inputs + lead_times)]
        frames, mask = film(seconds)
        gone = [second not in existing for second in seconds]
        frames[gone], mask[gone] = 0, False
        yield Cases(
            frames[None, :inputs],
            frames[None, inputs:],
            mask[None, inputs:],
            places=("film",),
            issue_times=np.array([seconds[inputs - 1]], "datetime64[s]"),
            events=("film",),
            new_episode=(is_first,),
        )
