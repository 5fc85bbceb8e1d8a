"""The benchmark's online protocol: clips in order of time, and methods that learn on the way.

Between two clips a method may learn from the frames that it has been given. When it does is
`online_rule`, from which pixels `target_masks`; how a step is made is not decided here:
`training.online` makes the authors'.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nowcast.errors import InputError
from nowcast.radar.clips import step_in_seconds
from nowcast.verification.cases import Cases
from nowcast.verification.offline import complete, described
from nowcast.verification.online_rule import OnlineStore, clips_of_a_step
from nowcast.verification.results import MethodResult, ScoreKinds
from nowcast.verification.resuming import (
    SECONDS_BETWEEN_SAVES,
    HasState,
    SavedEvaluation,
    go_through,
)
from nowcast.verification.running import Method, Region, Scoring
from nowcast.verification.target_masks import TargetMask

log = logging.getLogger("nowcast")

Adapt = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]
"""Makes a step from inputs (1, input_frames, 1, y, x), targets (1, lead_times, 1, y, x) and the
targets' mask, True where one counts."""


@dataclass(frozen=True, eq=False)
class Given:
    """What is stored of a clip.

    Attributes:
        inputs: its frames (1, input_frames, 1, y, x).
        mask: that of its targets, (1, lead_times, 1, y, x), which are the inputs of the clips that
            follow it; looked at when these have been given.
    """

    inputs: torch.Tensor
    mask: torch.Tensor


class OnlineRun:
    """Scores clip after clip, and lets methods learn in between.

    Args:
        scoring: forecasts and scores each clip.
        adapts: what lets a method learn, by the method's name.
        step_minutes: time between frames.
        target_mask: mask of the targets of a step.

    Attributes:
        steps: how many were made so far.
    """

    def __init__(
        self,
        scoring: Scoring,
        adapts: Mapping[str, Adapt],
        step_minutes: float,
        target_mask: TargetMask,
    ) -> None:
        if others := [name for name in adapts if name not in scoring.methods]:
            raise InputError(f"online protocol: found no method {others[0]!r} to adapt")
        self.scoring, self.adapts, self.target_mask = scoring, adapts, target_mask
        self.step_s = step_in_seconds(step_minutes)
        self.store: OnlineStore[Given] | None = None
        self.last: tuple[str, int] | None = None
        self.steps = 0

    def take(self, cases: Cases) -> None:
        """Learn if it is time to, then forecast and score the next clip.

        Raises:
            InputError: more than one clip, one that does not follow the last by as many frames as
                it brings, or lead times that are no multiple of them.
        """
        input_frames = cases.inputs.shape[1]
        if self.store is None:
            self.store = OnlineStore(clips_of_a_step(input_frames, self.scoring.lead_times))
        if (due := self.store.due()) is not None:
            self._learn(due)
        self._check_follows(cases)
        self.scoring.add(cases)
        # Copies: views would keep, and save, whole clips.
        given = Given(cases.inputs.clone(), cases.mask.clone())
        self.store.add(given, cases.new_episode[0])

    def _learn(self, due: list[Given]) -> None:
        oldest, *others = due
        targets = torch.cat([given.inputs for given in others], dim=1)
        mask = self.target_mask(targets, oldest.mask)
        for adapt in self.adapts.values():
            adapt(oldest.inputs, targets, mask)
        self.steps += 1

    def _check_follows(self, cases: Cases) -> None:
        if len(cases) != 1:
            raise InputError(f"online protocol: found {len(cases)} clips at once, expected one")
        issued = int(np.asarray(cases.issue_times, "datetime64[s]").astype(np.int64)[0])
        expected_s = cases.inputs.shape[1] * self.step_s
        if not cases.new_episode[0] and self.last is not None:
            place, before = self.last
            if place != cases.places[0] or issued - before != expected_s:
                raise InputError(
                    f"online protocol: found a clip of {cases.places[0]} from "
                    f"{np.datetime64(issued, 's')} after one of {place} from "
                    f"{np.datetime64(before, 's')}, expected the next one "
                    f"{expected_s / 60:g} minutes later: all clips, with a stride of as many "
                    "frames as are given"
                )
        self.last = cases.places[0], issued

    def state_dict(self) -> dict[str, Any]:
        """What is stored, and the state of all that learns; the scores have their own."""
        items = [] if self.store is None else self.store.items
        return {
            "steps": self.steps,
            "capacity": None if self.store is None else self.store.capacity,
            "last": self.last,
            "inputs": [given.inputs for given in items],
            "masks": [given.mask for given in items],
            "adapts": {
                name: _with_state(name, adapt).state_dict() for name, adapt in self.adapts.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        if state["capacity"] is not None:
            self.store = OnlineStore(state["capacity"])
            pairs = zip(state["inputs"], state["masks"], strict=True)
            self.store.items = [Given(inputs, mask) for inputs, mask in pairs]
        self.steps, self.last = state["steps"], state["last"]
        for name, adapt in self.adapts.items():
            _with_state(name, adapt).load_state_dict(state["adapts"][name])


def evaluate_online(
    methods: Mapping[str, Method],
    batches: Iterable[Cases],
    *,
    adapts: Mapping[str, Adapt],
    lead_times: int,
    step_minutes: float,
    kinds: ScoreKinds,
    target_mask: TargetMask,
    region: Region | None = None,
    save_to: Path | None = None,
    fingerprint: str = "",
    save_every_s: float = SECONDS_BETWEEN_SAVES,
) -> dict[str, MethodResult]:
    """Score several methods on the same clips in order of time, letting some learn on the way.

    An evaluation that was stopped goes on from `save_to` as if it had not been, bit for bit, with
    the weights and the optimizers as they were.

    Args:
        methods: what forecasts, by the name that reports show. Methods see the inputs, places and
            times of clips, never a target or a mask.
        batches: the clips one by one, those of an episode in order of time and all of them; each
            begins as many frames after the last as it has inputs.
        adapts: what lets a method learn, by the method's name; it changes what the method forecasts
            with. All are called with the same arguments at the same times; methods without one
            only forecast. One that is saved needs `state_dict` and `load_state_dict`.
        lead_times: number of frames to forecast, a multiple of the input frames.
        step_minutes: time between frames.
        kinds: the scores to accumulate.
        target_mask: mask of the targets of a step: see `target_masks.target_mask_of`.
        region: rows and columns to score; steps are made with whole frames.
        save_to: as of `offline.evaluate`.
        fingerprint: as of `offline.evaluate`.
        save_every_s: as of `offline.evaluate`.

    Returns:
        What was found of every method, by name, in their order.

    Raises:
        InputError: as of `offline.evaluate`; clips that are not those of the protocol; something
            to adapt that cannot be saved.
        Stopped: asked to stop, with the state saved.
    """
    scoring = Scoring(methods, lead_times, kinds, region)
    run = OnlineRun(scoring, adapts, step_minutes, target_mask)
    if save_to is not None:
        for name, adapt in adapts.items():
            _with_state(name, adapt)
    online = described("online", scoring, batches, repr((list(adapts), fingerprint)))
    saved = SavedEvaluation(save_to, online, save_every_s)
    go_through(batches, run.take, {"scores": scoring, "online": run}, saved, unit="clip")
    log.info("online: %s steps", f"{run.steps:,}")
    return complete(scoring, batches)


def _with_state(name: str, adapt: Adapt) -> HasState:
    if not isinstance(adapt, HasState):
        raise InputError(
            f"what adapts {name!r}: found no state_dict and load_state_dict, expected them to save "
            "the evaluation"
        )
    return adapt
