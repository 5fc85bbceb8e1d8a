"""Table 3's experiment on a trained network: what one step of training does to monosemanticity.

The same clips are stepped on four times from the same weights: without inhibition, with the naive
ways (a) and (b), and with reverse deactivation.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nowcast import memel
from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.models.checkpoint import load_weights, read_checkpoint
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.progress import progress
from nowcast.training.data import DataSettings, RandomClips, split_clip
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.loss import balanced_loss
from nowcast.training.module import OptimizationSettings

DELTAS: Mapping[str, float | None] = {
    "Original": None,
    "Naive (a)": 0.0,
    "Naive (b)": -1.0,
    "Reverse deactivation": 1.0,
}
"""Δ of each row of Table 3; None replaces nothing."""

RESAMPLES = 2_000
"""Bootstrap samples behind a confidence interval."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class UpdateRow:
    """A row of the table. All ratios are fractions, not percent.

    Args:
        neurons: how many selected activations it rests on.
        decrease_mean: mean of 1 − φ(z*)/φ(z), z* being z after the step (4.3).
        decrease_median: its median.
        update_mean: mean of |z*/z − 1| (4.3); it explodes where z is near 0.
        update_median: its median.
        loss_change: mean change of the loss by the step, relative to the loss before it; with the
            selected neurons held at their means in both, except in the row that holds none.
        decrease_beyond_original: `decrease_mean` less that of "Original", batch by batch.
        decrease_beyond_naive_a: `decrease_mean` less that of "Naive (a)", batch by batch: its
            forward pass is the same, so that what remains is what the gradient −Δ does.
    """

    neurons: int
    decrease_mean: Interval
    decrease_median: Interval
    update_mean: Interval
    update_median: Interval
    loss_change: Interval
    decrease_beyond_original: Interval
    decrease_beyond_naive_a: Interval


@dataclass(frozen=True)
class _Step:
    """One step of one row: per selected activation, and the loss before and after."""

    decrease: np.ndarray
    update: np.ndarray
    loss_change: float


def measure_update_effects(
    checkpoint: Path,
    data: DataSettings,
    neurons: int = 10_000,
    top: int = 1,
    per: memel.Per = "sample",
    kind: memel.Neurons = "element",
    optimizer: Literal["adam", "sgd"] = "adam",
    learning_rate: float = 1e-4,
    statistics_batches: int = 50,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, UpdateRow]:
    """Measure the decrease ratio and the total update ratio of Table 3 on a trained network.

    Args:
        checkpoint: of the network. Statistics of MEmeL layers that it holds are used; where it
            holds none they are collected first.
        data: clips; training clips are stepped on.
        neurons: selected activations to measure per row, at least.
        top: activations selected per selection.
        per: one selection per "sample" or per "batch".
        kind: what a neuron is, as in `MEmeL`.
        optimizer: "adam" goes on from the moments in the checkpoint; "sgd" is plain gradient
            descent, of which Lemma 3.3 speaks.
        learning_rate: of the step.
        statistics_batches: batches to collect statistics from where the checkpoint has none.
        seed: of the clips.
        device: where the network runs.

    Returns:
        The rows by their names, in the order of Table 3. Intervals are percentiles of a bootstrap
        over batches: activations of one batch are not independent.

    Raises:
        InputError: if the checkpoint or the data does not fit, or a setting makes no sense.
    """
    if neurons < 1 or statistics_batches < 1 or not learning_rate > 0:
        raise InputError(
            f"probe: found neurons={neurons}, statistics_batches={statistics_batches}, "
            f"learning_rate={learning_rate}, expected values above 0"
        )
    description, content = read_checkpoint(checkpoint)
    if description.step_minutes != data.step_minutes:
        raise InputError(
            f"{checkpoint}: trained on steps of {description.step_minutes:g} minutes, "
            f"the data is asked for at {data.step_minutes:g}"
        )
    network = EncoderForecaster(description.network)
    try:
        layers = memel.insert(network, HIDDEN_STATES, top=top, per=per, neurons=kind, late_start=0)
    except ValueError as error:
        raise InputError(str(error)) from error
    load_weights(network, content, checkpoint)
    network.to(device).train()
    batches = _batches(data, seed, torch.device(device))
    trial = _Trial(network, optimizer, learning_rate, content)
    try:
        if not all(layer.mean.numel() for layer in layers.values()):
            trial.collect_statistics(batches, statistics_batches)
        steps: dict[str, list[_Step]] = {row: [] for row in DELTAS}
        for batch in _until(batches, neurons, lambda: steps):
            for row, delta in DELTAS.items():
                steps[row].append(trial.step(batch, delta))
    except ValueError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    return {row: _summary(steps[row], steps["Original"], steps["Naive (a)"]) for row in DELTAS}


class _Trial:
    """Takes single steps from the same weights, optimizer state and statistics."""

    def __init__(
        self,
        network: EncoderForecaster,
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

    def step(self, batch: list[Tensor], delta: float | None) -> _Step:
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
        return _Step(
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


def _until(
    batches: Iterator[list[Tensor]], neurons: int, steps: Callable[[], dict[str, list[_Step]]]
) -> Iterator[list[Tensor]]:
    """Batches until every row has as many selected activations."""
    first = next(batches)
    yield first
    per_batch = min(len(row[0].decrease) for row in steps().values())
    further = -(-neurons // max(1, per_batch)) - 1
    for _ in progress(range(further), "probing training steps", unit="batches"):
        yield next(batches)


def _summary(
    steps: Sequence[_Step], original: Sequence[_Step], naive_a: Sequence[_Step]
) -> UpdateRow:
    decrease = [step.decrease for step in steps]
    update = [step.update for step in steps]

    def beyond(others: Sequence[_Step]) -> list[np.ndarray]:
        pairs = zip(steps, others, strict=True)
        return [np.array([own.decrease.mean() - other.decrease.mean()]) for own, other in pairs]

    return UpdateRow(
        neurons=sum(map(len, decrease)),
        decrease_mean=_bootstrap(decrease, np.mean),
        decrease_median=_bootstrap(decrease, np.median),
        update_mean=_bootstrap(update, np.mean),
        update_median=_bootstrap(update, np.median),
        loss_change=_bootstrap([np.array([step.loss_change]) for step in steps], np.mean),
        decrease_beyond_original=_bootstrap(beyond(original), np.mean),
        decrease_beyond_naive_a=_bootstrap(beyond(naive_a), np.mean),
    )


def _bootstrap(batches: Sequence[np.ndarray], statistic: Callable[..., Any]) -> Interval:
    """A statistic of all values, with percentiles of it over resampled batches."""
    random = np.random.default_rng(0)
    resampled = [
        float(statistic(np.concatenate([batches[i] for i in chosen])))
        for chosen in random.integers(len(batches), size=(RESAMPLES, len(batches)))
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(statistic(np.concatenate(batches))), float(low), float(high))


def write_update_effects(
    path: Path, rows: Mapping[str, UpdateRow], settings: Mapping[str, Any]
) -> None:
    """Write rows and settings as JSON; `path` is complete or untouched."""
    plain = {"settings": dict(settings), "rows": {name: asdict(row) for name, row in rows.items()}}
    with replacing(path) as temporary:
        text = json.dumps(plain, indent=2, ensure_ascii=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


def format_update_effects(rows: Mapping[str, UpdateRow]) -> str:
    """The rows as aligned text, in percent, each value with its interval."""
    columns: dict[str, Callable[[UpdateRow], Interval]] = {
        "decrease ratio": lambda row: row.decrease_mean,
        "beyond Original": lambda row: row.decrease_beyond_original,
        "beyond Naive (a)": lambda row: row.decrease_beyond_naive_a,
        "total update ratio": lambda row: row.update_mean,
        "its median": lambda row: row.update_median,
        "loss": lambda row: row.loss_change,
    }
    cells = [["in percent", *columns]]
    for name, row in rows.items():
        cells.append([name, *(_percent(column(row)) for column in columns.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    first = next(iter(rows.values()))
    lines.append(
        f"\n{first.neurons:,} selected neurons a row, the same clips in all; in brackets the 95 % "
        "interval over batches.\ndecrease ratio: mean of 1 − φ(z*)/φ(z); total update ratio: mean "
        "of |z*/z − 1|; loss: change by the step, the neurons held at their means."
    )
    return "\n".join(lines)


def _percent(interval: Interval) -> str:
    if interval.low == interval.high == 0:
        return "–"
    value, low, high = (f"{100 * x:.3g}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
