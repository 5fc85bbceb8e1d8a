"""Table 3's experiment on a trained network: what one step of training does to monosemanticity.

The same clips are stepped on four times from the same weights: without inhibition, with the naive
ways (a) and (b), and with reverse deactivation.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nowcast import memel
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import load_weights, read_checkpoint
from nowcast.models.network import Network
from nowcast.progress import progress
from nowcast.training.data import DataSettings, RandomClips, split_clip
from nowcast.training.inhibition import HIDDEN_STATES, insert_layers, keep_statistics
from nowcast.training.loss import balanced_loss
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import check_frame_shape
from nowcast.training.update_rows import Step, UpdateRow, summary

DELTAS: Mapping[str, float | None] = {
    "Original": None,
    "Naive (a)": 0.0,
    "Naive (b)": -1.0,
    "Reverse deactivation": 1.0,
}
"""Δ of each row of Table 3; None replaces nothing."""


def measure_update_effects(
    checkpoint: Path,
    data: DataSettings,
    at_least: int = 10_000,
    top: int | None = None,
    per: memel.Per | None = None,
    neurons: memel.Neurons | None = None,
    optimizer: Literal["adam", "sgd"] = "adam",
    learning_rate: float = 1e-4,
    statistics_batches: int = 50,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, UpdateRow]:
    """Measure the decrease ratio and the total update ratio of Table 3 on a trained network.

    Args:
        checkpoint: of the network. Statistics of MEmeL layers that it holds are used; where it
            holds none they are collected first.
        data: clips; training clips are stepped on.
        at_least: selected activations to measure per row.
        top: activations selected per selection; this and the next two, where not given, are those
            that the checkpoint was trained with, or else MEmeL's defaults.
        per: one selection per "sample" or per "batch".
        neurons: what a neuron is, as in `MEmeL`. Where it is not what it was in training,
            statistics are collected anew.
        optimizer: "adam" goes on from the moments in the checkpoint; "sgd" is plain gradient
            descent, of which Lemma 3.3 speaks.
        learning_rate: of the step.
        statistics_batches: batches to collect statistics from where the checkpoint has none.
        seed: of the clips.
        device: where the network runs: "auto", "cpu", "cuda".

    Returns:
        The rows by their names, in the order of Table 3. Intervals are percentiles of a bootstrap
        over batches: activations of one batch are not independent.

    Raises:
        InputError: if the checkpoint or the data does not fit, or a setting makes no sense.
    """
    if at_least < 1 or statistics_batches < 1 or not learning_rate > 0 or seed < 0:
        raise InputError(
            f"probe: found at_least={at_least}, statistics_batches={statistics_batches}, "
            f"learning_rate={learning_rate}, seed={seed}, expected values above 0 (seed: or 0)"
        )
    place = choose_device(device)
    description, content = read_checkpoint(checkpoint)
    if description.step_minutes != data.step_minutes:
        raise InputError(
            f"{checkpoint}: trained on steps of {description.step_minutes:g} minutes, "
            f"the data is asked for at {data.step_minutes:g}"
        )
    network = build_network(description.network, description.input_frames, description.lead_times)
    trained = description.inhibition or {"at": HIDDEN_STATES}
    wanted = {
        name: value
        for name, value in (("top", top), ("per", per), ("neurons", neurons))
        if value is not None
    }
    insert_layers(network, {**trained, **wanted, "share": None})
    layers = memel.inserted(network)
    load_weights(network, content, checkpoint)
    if neurons not in (None, trained.get("neurons", "element")):
        for layer in layers.values():
            layer.reset()
    store = data.open()
    check_frame_shape(network, store)
    keep_statistics(network, checkpoint, description, store.path, store.shape)
    network.to(place).train()
    batches = _batches(data, seed, place)
    trial = _Trial(network, optimizer, learning_rate, content)
    try:
        if not all(layer.mean.numel() for layer in layers.values()):
            trial.collect_statistics(batches, statistics_batches)
        steps: dict[str, list[Step]] = {row: [] for row in DELTAS}

        def step_on(batch: list[Tensor]) -> None:
            for row, delta in DELTAS.items():
                steps[row].append(trial.step(batch, delta))

        step_on(next(batches))
        in_a_batch = min(len(row[0].decrease) for row in steps.values())
        further = max(1, -(-at_least // max(1, in_a_batch)) - 1)  # Of one, no interval is known.
        for _ in progress(range(further), "probing training steps", unit="batches"):
            step_on(next(batches))
    except ValueError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    return {row: summary(steps[row], steps["Original"], steps["Naive (a)"]) for row in DELTAS}


class _Trial:
    """Takes single steps from the same weights, optimizer state and statistics."""

    def __init__(
        self,
        network: Network,
        optimizer: Literal["adam", "sgd"],
        learning_rate: float,
        content: dict[str, Any],
    ) -> None:
        self.network = network
        self.settings = OptimizationSettings(learning_rate=learning_rate)
        self.optimizer: torch.optim.Optimizer
        if optimizer == "sgd":
            self.optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
        else:
            self.optimizer = torch.optim.Adam(network.parameters(), betas=self.settings.betas)
            if saved := content.get("optimizer_states"):
                self.optimizer.load_state_dict(saved[0])
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
        self.keep()

    def keep(self) -> None:
        """Make the present state the one that every step starts from."""
        self.weights = copy.deepcopy(self.network.state_dict())
        self.moments = copy.deepcopy(self.optimizer.state_dict())

    def collect_statistics(self, batches: Iterator[list[Tensor]], count: int) -> None:
        layers = memel.inserted(self.network).values()
        for layer in layers:
            layer.reset()
            layer.late_start = NEVER
        for _ in progress(range(count), "collecting statistics", unit="batches"):
            with torch.no_grad():
                self.loss(next(batches))
        self.keep()

    def step(self, batch: list[Tensor], delta: float | None) -> Step:
        self.network.load_state_dict(self.weights)
        self.optimizer.load_state_dict(copy.deepcopy(self.moments))
        self.optimizer.zero_grad()
        for layer in memel.inserted(self.network).values():
            layer.late_start = NEVER if delta is None else 0
            layer.delta = 1.0 if delta is None else delta
        probe = memel.UpdateProbe(self.network)
        with probe.before_step():
            loss = self.loss(batch)
        loss.backward()
        for part in (self.network.encoder, self.network.forecaster):
            torch.nn.utils.clip_grad_norm_(part.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        with probe.after_step(), torch.no_grad():
            after = self.loss(batch)
        effect = probe.effect()
        return Step(
            effect.decrease_ratio.numpy(),
            effect.update_ratio.numpy(),
            float((after - loss.detach()) / loss.detach()),
        )

    def loss(self, batch: list[Tensor]) -> Tensor:
        inputs, targets, mask = batch
        squared, absolute = balanced_loss(
            self.network(inputs, lead_times=targets.shape[1]), targets, mask
        )
        return (squared + absolute) * self.settings.loss_scale


NEVER = 2**62
"""A late start that does not come."""


def _batches(data: DataSettings, seed: int, device: torch.device) -> Iterator[list[Tensor]]:
    clips = RandomClips(data.open_to_train(), "train", data.length, seed)
    first = 0
    while True:
        drawn = [clips[index] for index in range(first, first + data.batch_size)]
        first += data.batch_size
        frames, mask = (torch.stack(part) for part in zip(*drawn, strict=True))
        yield [part.to(device) for part in split_clip((frames, mask), data.input_frames)]
