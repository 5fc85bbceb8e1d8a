"""Table 3's experiment on a trained network: what one step of training does to monosemanticity.

Here is what it takes to take a step of a checkpoint: its clips, its loss, its optimizer. The trial
itself is `memel.UpdateTrial`.
"""

from collections.abc import Iterator, Mapping
from functools import partial
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
from nowcast.training.adam import adam
from nowcast.training.data import DataSettings, RandomClips, split_clip
from nowcast.training.inhibition import HIDDEN_STATES, insert_layers, keep_statistics
from nowcast.training.loss import balanced_loss
from nowcast.training.module import OptimizationSettings


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
) -> dict[str, memel.UpdateRow]:
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
    if optimizer == "adam" and not content.get("optimizer_states"):
        raise InputError(
            f"{checkpoint}: found no state of an optimizer, expected a checkpoint that training "
            "wrote, or optimizer: sgd"
        )
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
    keep_statistics(network, checkpoint, description, store.path, store.shape)
    network.to(place).train()
    batches = _batches(data, seed, place)
    settings = OptimizationSettings(learning_rate=learning_rate)

    def loss(batch: list[Tensor]) -> Tensor:
        inputs, targets, mask = batch
        forecast = network(inputs, lead_times=targets.shape[1])
        squared, absolute = balanced_loss(forecast, targets, mask)
        return (squared + absolute) * settings.loss_scale

    def clip_gradients() -> None:
        for part in (network.encoder, network.forecaster):
            torch.nn.utils.clip_grad_norm_(part.parameters(), settings.clip_norm)

    trial = memel.UpdateTrial(
        network, _optimizer(network, optimizer, settings, content), loss, clip_gradients
    )
    try:
        if not all(layer.mean.numel() for layer in layers.values()):
            trial.collect_statistics(
                batches,
                statistics_batches,
                shown=partial(progress, description="collecting statistics", unit="batches"),
            )
        steps = memel.measure_updates(
            trial,
            batches,
            at_least,
            shown=partial(progress, description="probing training steps", unit="batches"),
        )
    except ValueError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    return memel.summarize_updates(steps)


def _optimizer(
    network: Network,
    kind: Literal["adam", "sgd"],
    settings: OptimizationSettings,
    content: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """An optimizer that takes the next step of a checkpoint, or of plain gradient descent."""
    if kind == "sgd":
        return torch.optim.SGD(network.parameters(), lr=settings.learning_rate)
    optimizer = adam(network.parameters(), settings.learning_rate, settings.betas)
    optimizer.load_state_dict(content["optimizer_states"][0])
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate
    return optimizer


def _batches(data: DataSettings, seed: int, device: torch.device) -> Iterator[list[Tensor]]:
    clips = RandomClips(data.open_to_train(), "train", data.length, seed)
    first = 0
    while True:
        drawn = [clips[index] for index in range(first, first + data.batch_size)]
        first += data.batch_size
        frames, mask = (torch.stack(part) for part in zip(*drawn, strict=True))
        yield [part.to(device) for part in split_clip((frames, mask), data.input_frames)]
