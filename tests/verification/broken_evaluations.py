"""Evaluations that break or go on, of batches that note which were read; and equal results."""

from collections import Counter
from dataclasses import fields

import numpy as np
import torch
from made_up_cases import LastFrame, make_cases, plain_kinds
from tiny_network import LEAD_TIMES, drifting_bands, tiny_network

from nowcast.training.online import OnlineFinetuning
from nowcast.verification.cases import Cases
from nowcast.verification.offline import evaluate
from nowcast.verification.online import evaluate_online
from nowcast.verification.target_masks import NoiseRule

CLIPS = 24


class Broken(Exception):
    pass


class BreaksAt(LastFrame):
    """Persistence that does not survive one of its calls."""

    def __init__(self, call):
        self.call, self.calls = call, 0

    def forecast(self, frames, lead_times):
        self.calls += 1
        if self.calls == self.call:
            raise Broken
        return super().forecast(frames, lead_times)


class Ensemble(LastFrame):
    """An ensemble that counts the clips of which it has another forecast, as pysteps' do."""

    def __init__(self):
        self.replaced = Counter({"an earlier evaluation": 9})

    def forecast_members(self, frames, lead_times):
        self.replaced["odd"] += int((frames[:, -1].mean(dim=(1, 2, 3)) > 0.5).sum())
        last = self.forecast(frames, lead_times)
        return torch.stack([last, last**2], dim=1)


class Batches:
    """Batches with clips of several events, that note which of them were read."""

    def __init__(self, first=0, read=None):
        self.first, self.read = first, [] if read is None else read
        self.batches = [range(2 * number, 2 * number + 2) for number in range(first, 7)]

    def __len__(self):
        return len(self.batches)

    def from_batch(self, number):
        return Batches(self.first + number, self.read)

    def __iter__(self):
        for number in range(self.first, 7):
            self.read.append(number)
            generator = torch.Generator().manual_seed(number)
            events = [f"event {number // 3}", f"event {number // 2}"]
            yield make_cases(generator, 2, 2, LEAD_TIMES, 6, events)


class SevenClips:
    """Seven clips of three events in batches of a size."""

    def __init__(self, size):
        self.batches = [range(first, min(first + size, 7)) for first in range(0, 7, size)]

    def __len__(self):
        return len(self.batches)

    def from_batch(self, number):
        later = SevenClips(1)
        later.batches = self.batches[number:]
        return later

    def __iter__(self):
        clips = make_cases(
            torch.Generator().manual_seed(0),
            7,
            2,
            LEAD_TIMES,
            6,
            [f"event {n // 3}" for n in range(7)],
        )
        for numbers in self.batches:
            part = slice(numbers[0], numbers[-1] + 1)
            yield Cases(**{field.name: getattr(clips, field.name)[part] for field in fields(Cases)})


def offline(save_to, call=None, batches=None, methods=None, **changes):
    wanted = {"ensemble": Ensemble(), "last": BreaksAt(call)} if methods is None else methods
    return evaluate(
        wanted,
        Batches() if batches is None else batches,
        **{
            "lead_times": LEAD_TIMES,
            "kinds": plain_kinds(LEAD_TIMES),
            "save_to": save_to,
            "fingerprint": "made up",
            "save_every_s": 0.0,
            **changes,
        },
    )


def online(save_to, call=None, seed=0):
    learns = OnlineFinetuning(tiny_network(seed), learning_rate=1e-2)
    found = evaluate_online(
        {"learns": learns, "last": BreaksAt(call)},
        list(drifting_bands(1, CLIPS, episodes=3)),
        adapts={"learns": learns},
        lead_times=LEAD_TIMES,
        step_minutes=6,
        kinds=plain_kinds(LEAD_TIMES),
        target_mask=NoiseRule(),
        save_to=save_to,
        fingerprint="made up",
        save_every_s=0.0,
    )
    return found, learns


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, result in expected.items():
        assert (found[name].members, found[name].kinds) == (result.members, result.kinds)
        assert found[name].replaced == result.replaced
        assert list(found[name].events) == list(result.events)
        for event, kinds in result.events.items():
            for kind, scores in kinds.items():
                other = found[name].events[event][kind]
                assert type(other) is type(scores)
                assert other.sums.keys() == scores.sums.keys()
                for sums, values in scores.sums.items():
                    np.testing.assert_array_equal(other.sums[sums], values)
                    assert np.asarray(other.sums[sums]).dtype == np.asarray(values).dtype
