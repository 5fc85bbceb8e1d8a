"""Table 3's experiment on any model: what one step of training does to the selected neurons.

Each batch is stepped on four times from the same weights, with the same random numbers: without
inhibition, with the naive ways (a) and (b), and with reverse deactivation.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nowcast.memel.insertion import inserted
from nowcast.memel.update_probe import UpdateProbe
from nowcast.memel.update_rows import Step

DELTAS: Mapping[str, float | None] = {
    "Original": None,
    "Naive (a)": 0.0,
    "Naive (b)": -1.0,
    "Reverse deactivation": 1.0,
}
"""Δ of each row of Table 3; None replaces nothing."""

NEVER = 2**62
"""A late start that does not come."""

Shown = Callable[[range], Iterable[int]]
"""Hands batch numbers on one by one, and may show how far it is."""


class UpdateTrial:
    """Takes single steps from the same weights, optimizer state and statistics.

    Args:
        model: in training mode, with MEmeL layers inserted that select by `top`. Weights and
            settings of the layers are what they were after `restore`.
        optimizer: of the model's parameters; its state and learning rate are those of the step.
        loss: makes a loss of a batch by running the model once, mean or sum, as in training.
        clip_gradients: is called between the backward pass and the optimizer's step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Any], Tensor],
        clip_gradients: Callable[[], object] | None = None,
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.clip_gradients = clip_gradients
        self._settings = {
            name: (layer.late_start, layer.delta) for name, layer in inserted(model).items()
        }
        self._keep()

    def collect_statistics(
        self, batches: Iterable[Any], count: int, seed: int = 0, shown: Shown = iter
    ) -> None:
        """Let the layers start anew with the statistics of some batches; nothing is trained.

        Args:
            batches: so many are taken.
            count: how many.
            seed: of the random numbers that the model draws.
            shown: is handed the numbers of the batches, to show a bar.

        Raises:
            ValueError: if the batches run out.
        """
        self.restore()
        for layer in inserted(self.model).values():
            layer.reset()
            layer.late_start = NEVER
        source = iter(batches)
        for number in shown(range(count)):
            with _random_numbers(self.model, seed + number), torch.no_grad():
                self.loss(_next(source, number, count))
        self._keep()
        self.restore()

    def step(self, batch: Any, delta: float | None, seed: int = 0) -> Step:
        """One step of training, and what it did to the activations that were selected.

        The model is left as it is after the step; the next step or `restore` takes it back.

        Args:
            batch: what the loss is handed, before the step and after it.
            delta: Δ of all layers; None replaces nothing.
            seed: of the random numbers that the model draws (dropout, drop path), the same before
                the step and after it.

        Raises:
            ValueError: if the model has no layers, or one without statistics, or the two forward
                passes are not of the same calls.
        """
        self.restore()
        self.optimizer.zero_grad()
        for layer in inserted(self.model).values():
            layer.late_start = NEVER if delta is None else 0
            layer.delta = 1.0 if delta is None else delta
        probe = UpdateProbe(self.model)
        with _random_numbers(self.model, seed):
            with probe.before_step():
                loss = self.loss(batch)
            loss.backward()
        if self.clip_gradients is not None:
            self.clip_gradients()
        self.optimizer.step()
        with _random_numbers(self.model, seed), probe.after_step(), torch.no_grad():
            after = self.loss(batch)
        effect = probe.effect()
        return Step(
            decrease=effect.decrease_ratio.numpy(),
            update=effect.update_ratio.numpy(),
            loss=float(loss.detach()),
            loss_change=float((after - loss.detach()) / loss.detach()),
        )

    def restore(self) -> None:
        """Take all steps back: weights, statistics, optimizer, settings of the layers."""
        self.model.load_state_dict(self._weights)
        self.optimizer.load_state_dict(copy.deepcopy(self._moments))
        for name, layer in inserted(self.model).items():
            layer.late_start, layer.delta = self._settings[name]

    def _keep(self) -> None:
        """Make the present state the one that every step starts from."""
        self._weights = copy.deepcopy(self.model.state_dict())
        self._moments = copy.deepcopy(self.optimizer.state_dict())


def measure_updates(
    trial: UpdateTrial,
    batches: Iterable[Any],
    at_least: int = 10_000,
    seed: int = 0,
    shown: Shown = iter,
) -> dict[str, list[Step]]:
    """Steps of all rows of Table 3 on the same batches, until enough neurons are measured.

    Args:
        trial: takes the steps.
        batches: as many are taken as it takes, two at least: of one, no interval is known.
        at_least: selected activations to measure in each row.
        seed: of the random numbers that the model draws: other ones in each batch, the same in all
            rows.
        shown: is handed the numbers of the batches still to come, to show a bar.

    Returns:
        The steps by the names of the rows, in the order of Table 3; see `summarize_updates`.

    Raises:
        ValueError: if the batches run out, a batch has nothing selected, or a step fails as in
            `UpdateTrial.step`.
    """
    steps: dict[str, list[Step]] = {row: [] for row in DELTAS}
    source = iter(batches)

    def step_on_next() -> None:
        taken = len(steps["Original"])
        batch = _next(source, taken, taken + 1)
        for row, delta in DELTAS.items():
            steps[row].append(trial.step(batch, delta, seed + taken))

    try:
        step_on_next()
        first = _measured(steps)
        if not first:
            raise ValueError("MEmeL: nothing was selected in a batch; expected layers with a `top`")
        further = max(1, -(-at_least // first) - 1)
        while further > 0:
            for _ in shown(range(further)):
                step_on_next()
            # Where batches differ in size, some may still be missing.
            further = -(-(at_least - _measured(steps)) // first)
    finally:
        trial.restore()
    return steps


def _measured(steps: Mapping[str, list[Step]]) -> int:
    return min(sum(len(step.decrease) for step in row) for row in steps.values())


def _next(source: Iterator[Any], taken: int, expected: int) -> Any:
    for batch in source:
        return batch
    raise ValueError(f"MEmeL: found {taken} batches, expected at least {expected}")


@contextmanager
def _random_numbers(model: nn.Module, seed: int) -> Iterator[None]:
    """Random numbers of a seed within the block; the state of the generators is left as it was."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(seed)
        yield
