"""Doing the steps of an experiment, each once: what is done is found, what was begun goes on."""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from nowcast.errors import InputError, NotFinite
from nowcast.evaluation.methods import MethodSettings
from nowcast.evaluation.run import STATE, evaluate_into, evaluated, identity
from nowcast.evaluation.settings import ClipSettings, ScoreSettings
from nowcast.experiments.steps import (
    FIRST_FINETUNING_SEED,
    Evaluation,
    Finetuning,
    Pretraining,
    Split,
    Step,
    Training,
)
from nowcast.files import write_json
from nowcast.memel.variants import Inhibition
from nowcast.models.checkpoint import read_checkpoint
from nowcast.models.settings import NetworkSettings
from nowcast.training.data import DataSettings
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import finetune, pretrain
from nowcast.training.run_settings import RunSettings
from nowcast.training.sampling import SamplingSettings
from nowcast.verification import Report

log = logging.getLogger("nowcast")

NETWORK = "network"
"""Name of the network in the reports of evaluations."""

OPPONENTS = "opponents"
"""Folder with the scores of methods without training."""

DIVERGED = "diverged.json"
"""File in place of the scores of a network that forecasts no numbers."""

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class Diverged:
    """In place of scores: a network whose forecasts are not finite, as strong inhibition may leave.

    Args:
        found: what was found.
    """

    found: str


@dataclass(frozen=True)
class Work:
    """All that decides what comes out of a step, and where it is kept.

    Args:
        out: folder of the experiment.
        data: clips of pretrainings and evaluations.
        finetuning_data: clips of finetunings.
        network: its shape.
        pretraining: how pretrainings optimize.
        finetuning: how finetunings do.
        run: where trainings run; folder and seed are the step's.
        layers: settings of MEmeL layers but for what an `Inhibition` decides, and `at`, where they
            go.
        sampling: which clips trainings draw more often, and how they are changed.
        stride: frames between the starts of the clips that are scored.
        at_most: score only so many clips, spread evenly.
        device: where networks forecast: "auto", "cpu", "cuda".
    """

    out: Path
    data: DataSettings
    finetuning_data: DataSettings
    network: NetworkSettings
    pretraining: OptimizationSettings
    finetuning: OptimizationSettings
    run: RunSettings
    layers: Mapping[str, Any]
    sampling: SamplingSettings
    stride: int = 5
    at_most: int | None = None
    device: str = "auto"
    scores: ScoreSettings = field(default=ScoreSettings(scores=(), resamples=0), init=False)

    def checkpoint(self, training: Training) -> Path:
        """Where a training leaves its network."""
        return self._run(training).checkpoint

    def learning_curve(self, training: Training) -> Path:
        """Where a training leaves its metrics."""
        return self._run(training).learning_curve

    def is_done(self, step: Step) -> bool:
        """Whether nothing of a step is left to do.

        Raises:
            InputError: if a file of it is damaged.
        """
        if isinstance(step, Evaluation):
            done = self.is_done(step.training)
            return done and _found(self._evaluation(step)) is not None
        path = self.checkpoint(step)
        if not path.exists():
            return False
        return int(read_checkpoint(path)[1].get("global_step", 0)) >= self._steps(step)

    def do(self, step: Step) -> None:
        """Do a step, or what is left of it.

        Raises:
            InputError: for data that does not fit, or a folder that holds a run of other settings.
            Stopped: on Ctrl-C or SIGTERM, with what is done saved.
        """
        if isinstance(step, Evaluation):
            self.report(step)
        elif isinstance(step, Pretraining):
            pretrain(
                self.network,
                self.data,
                self.pretraining,
                self._run(step),
                self.layers_of(step.inhibition),
                self.sampling,
            )
        else:
            finetune(
                self.checkpoint(step.start),
                self.finetuning_data,
                self.finetuning,
                self._run(step),
                self.layers_of(step.inhibition),
                sampling=self.sampling,
            )

    def report(self, evaluation: Evaluation) -> Report | Diverged:
        """Scores of a trained network: `NETWORK`, and "NETWORK-T" with its layers on."""
        return _report(self._evaluation(evaluation))

    def opponents(self, baselines: tuple[Any, ...], split: Split) -> Report | None:
        """Scores of methods without training on the clips of a split; None for no methods."""
        if not baselines:
            return None
        methods = MethodSettings(baselines=baselines, device=self.device)
        report = _report(self._scored(Path(OPPONENTS, split), methods, split))
        assert not isinstance(report, Diverged)
        return report

    def run_of(self, inhibition: Inhibition | None) -> RunSettings:
        """Settings of a training's run but for folder and seed."""
        return replace(self.run, probe_every=self.run.probe_every if inhibition else 0)

    def _run(self, training: Training) -> RunSettings:
        seed = training.seed
        if isinstance(training, Finetuning):
            seed += FIRST_FINETUNING_SEED
        return replace(self.run_of(training.inhibition), out=self.out / training.folder, seed=seed)

    def _steps(self, training: Training) -> int:
        pretraining = isinstance(training, Pretraining)
        return (self.pretraining if pretraining else self.finetuning).steps

    def layers_of(self, inhibition: Inhibition | None) -> dict[str, Any] | None:
        """Settings of the MEmeL layers of a training; None without."""
        if inhibition is None:
            return None
        return {**self.layers, **inhibition.settings}

    @property
    def calls_per_step(self) -> tuple[int, int]:
        """How often a pretraining step calls each layer of the encoder, and of the forecaster."""
        if self.network.recurrence == "none":
            return 1, 1
        return self.data.input_frames, self.data.lead_times

    def _evaluation(self, evaluation: Evaluation) -> dict[str, Any]:
        methods = MethodSettings(
            baselines=(),
            checkpoints={NETWORK: self.checkpoint(evaluation.training)},
            memel_in_testing=evaluation.layers_on,
            device=self.device,
        )
        return self._scored(evaluation.folder, methods, evaluation.split)

    def _scored(self, folder: Path, methods: MethodSettings, split: Split) -> dict[str, Any]:
        return {
            "data": self.data,
            "out": self.out / folder,
            "methods": methods,
            "clips": ClipSettings(split=split, stride=self.stride, at_most=self.at_most),
            "scores": self.scores,
        }


def _report(settings: dict[str, Any]) -> Report | Diverged:
    """Of several processes the first one evaluates, the others wait for what it finds."""
    parent = os.getppid()
    while (found := _found(settings)) is None:
        if is_first_process():
            try:
                return evaluate_into(**settings, animations=0)
            except NotFinite as error:
                if not settings["methods"].checkpoints:
                    raise  # Of a method without training.
                said = {"evaluation": _identity(settings), "found": str(error)}
                write_json(settings["out"] / DIVERGED, said)
                (settings["out"] / STATE).unlink(missing_ok=True)
                return Diverged(str(error))
        if os.getppid() != parent:
            raise InputError(f"{settings['out']}: the process that evaluates has ended")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return found


def _found(settings: dict[str, Any]) -> Report | Diverged | None:
    """What an evaluation has found, None if it is not done."""
    report = evaluated(**settings)
    if report is not None:
        return report
    try:
        said = json.loads((settings["out"] / DIVERGED).read_text(encoding="utf-8"))
        same = said["evaluation"] == _identity(settings)
        return Diverged(str(said["found"])) if same else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # Damaged: it is found again in a moment.


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    return identity(**{name: value for name, value in settings.items() if name != "out"})


def is_first_process() -> bool:
    """Whether this is the process that evaluates, writes and says what is done."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_layer_settings(layers: Mapping[str, Any]) -> None:
    """Refuse settings of MEmeL layers that the rows of a table decide.

    Raises:
        InputError: for top or Δ.
    """
    for name in ("top", "delta"):
        if name in layers:
            raise InputError(f"inhibition: found {name}, which the rows of a table set")
