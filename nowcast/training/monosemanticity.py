"""The monosemantic scale φ of a network on clips, and its course in a training.

The measure itself is `nowcast.memel.profile`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import lightning.pytorch as pl
from torch import Tensor, nn

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.network import Network
from nowcast.progress import progress
from nowcast.training.data import BatchesToScore, DataSettings, SequentialClips
from nowcast.training.inhibition import HIDDEN_STATES, Inhibition, places
from nowcast.training.module import NowcastModule
from nowcast.verification.cases import Cases

Curve = tuple[list[int], list[float]]
"""Steps, and the value at each."""

Course = dict[str, Curve]
"""Quantities of φ in the course of a training."""


class Quantity(NamedTuple):
    """A number that a layer's profile comes down to, and how plots call it."""

    label: str
    value: Callable[[memel.LayerProfile], float]


QUANTITIES: Mapping[str, Quantity] = {
    "phi_median": Quantity("median", lambda layer: layer.quantile(0.5)),
    "phi_99": Quantity("99 %", lambda layer: layer.quantile(0.99)),
    "phi_max": Quantity("largest", lambda layer: layer.largest),
    "phi_mean_square": Quantity("mean φ²", lambda layer: layer.mean_square),
}
"""What is followed in a training, by the names of the metrics."""


class ClipInputs:
    """What a network sees of clips, in batches, as often as they are gone through.

    Args:
        clips: in their order.
        data: where they come from.
        shown_as: the work that they are for, to show how far it is; None shows nothing.
    """

    def __init__(
        self, clips: SequentialClips, data: DataSettings, shown_as: str | None = None
    ) -> None:
        self.clips, self.data, self.shown_as = clips, data, shown_as

    def __iter__(self) -> Iterator[Tensor]:
        batches: Iterable[Cases] = BatchesToScore(self.clips, self.data)
        if self.shown_as is not None:
            batches = progress(batches, self.shown_as, unit="batches")
        for cases in batches:
            yield cases.inputs


def profile_network(
    network: Network,
    inputs: ClipInputs,
    at: Sequence[str],
    neurons: memel.Neurons = "element",
    epsilon: float = 1e-3,
    top: int = 10,
) -> dict[str, memel.LayerProfile]:
    """Monosemanticity profile of a network that forecasts clips, by layer.

    The time steps of a ConvGRU are samples of the same neurons, as in MEmeL: a state that sets out
    from elsewhere than where it settles is monosemantic in its first steps.

    Args:
        network: on any device; it is left as it was.
        inputs: of the clips; gone through twice.
        at: names or globs of the layers; the default means any network's hidden states.
        neurons: see `memel.profile`.
        epsilon: see `memel.profile`.
        top: see `memel.profile`.

    Raises:
        InputError: if a name matches no layer, a layer returns no tensor, activations are not
            finite, or a setting is out of range.
    """
    home = next(network.parameters())

    def forecast(network: nn.Module, frames: Tensor) -> None:
        network(frames.to(home), inputs.data.lead_times)

    try:
        return memel.profile(network, inputs, places(network, at), forecast, neurons, epsilon, top)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error


class LogMonosemanticity(pl.Callback):
    """Logs after each validation what φ comes down to in each layer, as "phi_median/LAYER" ….

    Profiled are the layers and neurons that MEmeL has or, without it, would have; in full
    precision. Training goes on as it would have without: no random number is drawn, and no
    statistic moves.

    Args:
        data: where the clips come from.
        clips: how many, spread evenly over the validation split.
        inhibition: settings of the MEmeL layers; None without.

    Raises:
        InputError: if there are no such clips.
    """

    def __init__(self, data: DataSettings, clips: int, inhibition: Inhibition | None) -> None:
        chosen = SequentialClips(data.open(), "valid", data.length, at_most=clips)
        self.inputs = ClipInputs(chosen, data)
        settings = {"at": HIDDEN_STATES, **(inhibition or {})}
        known = ("at", "neurons", "epsilon")
        self.settings = {name: settings[name] for name in known if name in settings}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Profile and log."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, NowcastModule)
        layers = profile_network(pl_module.network, self.inputs, **self.settings, top=0)
        metrics = {
            f"{name}/{layer}": quantity.value(found)
            for layer, found in layers.items()
            for name, quantity in QUANTITIES.items()
        }
        for logger in trainer.loggers:
            # As the engine counts: the step that was done last.
            logger.log_metrics(metrics, trainer.global_step - 1)


def split_off_phi(curve: Mapping[str, Curve]) -> tuple[dict[str, Curve], dict[str, Course]]:
    """Part a learning curve into what is not of φ, and the course of φ by layer.

    Args:
        curve: steps and values by metric, as `read_learning_curve` gives them.

    Returns:
        The curve without what `LogMonosemanticity` logged; and that, as layer → label of the
        quantity → steps and values.
    """
    rest: dict[str, Curve] = {}
    courses: dict[str, Course] = {}
    for metric, values in curve.items():
        name, _, layer = metric.partition("/")
        if layer and name in QUANTITIES:
            courses.setdefault(layer, {})[QUANTITIES[name].label] = values
        else:
            rest[metric] = values
    return rest, courses
