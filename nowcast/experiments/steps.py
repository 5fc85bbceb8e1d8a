"""What an experiment is made of: pretrainings, finetunings, and evaluations of what they leave."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nowcast.memel.variants import Inhibition

Split = Literal["test", "valid"]

FIRST_FINETUNING_SEED = 1000
"""A finetuning draws its own clips: with seed 1000 + s from the network pretrained with seed s."""


@dataclass(frozen=True)
class Pretraining:
    """Training from initial weights.

    Args:
        inhibition: of its MEmeL layers; None goes without.
        seed: of initial weights and clips.
    """

    inhibition: Inhibition | None
    seed: int

    @property
    def inhibitions(self) -> tuple[Inhibition | None, ...]:
        """Of this training and those before it."""
        return (self.inhibition,)

    @property
    def folder(self) -> Path:
        """Where it lives in the experiment's folder."""
        return Path("pretraining", f"{_name(self.inhibition)}_seed{self.seed}")

    def __str__(self) -> str:
        return f"pretraining {_said(self.inhibition)}, seed {self.seed}"


@dataclass(frozen=True)
class Finetuning:
    """Training on from a pretrained network.

    Args:
        start: how that was trained.
        inhibition: of the MEmeL layers in the finetuning; None goes without.
    """

    start: Pretraining
    inhibition: Inhibition | None

    @property
    def seed(self) -> int:
        """Of the network that it starts from."""
        return self.start.seed

    @property
    def inhibitions(self) -> tuple[Inhibition | None, ...]:
        """Of this training and those before it."""
        return (*self.start.inhibitions, self.inhibition)

    @property
    def folder(self) -> Path:
        """Where it lives in the experiment's folder."""
        start, own = _name(self.start.inhibition), _name(self.inhibition)
        return Path("finetuning", f"{own}_from_{start}_seed{self.seed}")

    def __str__(self) -> str:
        return f"finetuning {_said(self.inhibition)} after {self.start}"


Training = Pretraining | Finetuning


@dataclass(frozen=True)
class Evaluation:
    """Scores of a trained network.

    Args:
        training: that left it.
        split: whose clips are forecast.
        layers_on: keep the MEmeL layers in, statistics frozen (the "-T" rows, F.1).
    """

    training: Training
    split: Split
    layers_on: bool = False

    @property
    def folder(self) -> Path:
        """Where it lives in the experiment's folder."""
        return self.training.folder / (f"{self.split}_layers_on" if self.layers_on else self.split)

    def __str__(self) -> str:
        on = ", layers on," if self.layers_on else ""
        return f"{self.split} scores{on} of {self.training}"


Step = Training | Evaluation


def with_what_they_need(evaluations: list[Evaluation]) -> list[Step]:
    """Evaluations and the trainings that they need, each once, each after what it needs."""
    steps: dict[Step, None] = {}
    for evaluation in evaluations:
        training = evaluation.training
        if isinstance(training, Finetuning):
            steps[training.start] = None
        steps[training] = None
        steps[evaluation] = None
    return list(steps)


def _name(inhibition: Inhibition | None) -> str:
    if inhibition is None:
        return "plain"
    late = "" if inhibition.late_start is None else f"_late{inhibition.late_start}"
    neurons = "" if inhibition.neurons is None else f"_{inhibition.neurons}"
    delta = str(float(inhibition.delta)).removesuffix(".0")
    return f"top{inhibition.top}_delta{delta}{late}{neurons}"


def _said(inhibition: Inhibition | None) -> str:
    return "without MEmeL" if inhibition is None else f"with MEmeL ({inhibition})"
