"""What one training step does to the most monosemantic neurons (Table 3 of the paper)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nowcast.memel.decision import Decision, in_backward
from nowcast.memel.insertion import inserted
from nowcast.memel.layer import MEmeL
from nowcast.memel.scale import compensated


@dataclass(frozen=True)
class UpdateEffect:
    """Selected activations before and after a training step, flat, in float64.

    Args:
        layer: places of their layers among the names.
        names: of the modules that the layers follow.
        z: activations before the step, unmodified.
        z_after: the same neurons' on the same input after the step, unmodified.
        phi: φ(z) by the statistics before the step.
        phi_after: φ(z_after) by the same statistics.
    """

    names: tuple[str, ...]
    layer: Tensor
    z: Tensor
    z_after: Tensor
    phi: Tensor
    phi_after: Tensor

    @property
    def decrease_ratio(self) -> Tensor:
        """1 − φ(z_after) / φ(z) (4.3); above 0, the neuron has become less monosemantic.

        0 where φ has not changed, −inf where it was 0 and has.
        """
        return torch.where(self.phi_after == self.phi, 0.0, 1 - self.phi_after / self.phi)

    @property
    def update_ratio(self) -> Tensor:
        """Total update ratio |z_after / z − 1| (4.3); explodes where z is near 0.

        0 where z has not changed, inf where it was 0 and has.
        """
        return torch.where(self.z_after == self.z, 0.0, (self.z_after / self.z - 1).abs())


class UpdateProbe:
    """Measures the decrease ratio and the total update ratio of a training step (4.3, Table 3).

        probe = UpdateProbe(model)
        with probe.before_step():
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        with probe.after_step(), torch.no_grad():
            model(x)
        effect = probe.effect()

    In the second forward pass the layers carry out the decisions of the first: the same neurons of
    the same samples in the same calls are replaced by the same means, though the step may have
    changed which are most monosemantic, so that what is measured is the step alone. Statistics do
    not move in it. A model with other random parts (dropout) must be given the same random state
    in both.

    Args:
        model: with MEmeL layers inserted, their statistics collected. A layer whose late start is
            still to come selects without replacing: that is Table 3's "Original".

    Raises:
        ValueError: if the model has no layers, or one without statistics.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers: dict[str, MEmeL] = inserted(model)
        if not self.layers:
            raise ValueError("MEmeL: the model has no layers to probe; insert them first")
        for name, layer in self.layers.items():
            if not layer.mean.numel():
                raise ValueError(f"MEmeL: the layer at {name} has collected no statistics yet")
        self._first: dict[str, list[tuple[Decision, Tensor]]] = {}
        self._second: dict[str, list[Tensor]] = {}
        self._statistics: dict[str, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def before_step(self) -> Iterator[None]:
        """Around the forward pass of the training step."""
        for name, layer in self.layers.items():
            self._statistics[name] = layer.mean.clone(), layer.variance.clone()
            self._first[name], self._second[name] = [], []

            def note(z: Tensor, decision: Decision, seen: list = self._first[name]) -> None:
                if not in_backward():
                    seen.append((decision, decision.values(z)))

            layer.observer = note
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.observer = None

    @contextmanager
    def after_step(self) -> Iterator[None]:
        """Around a second forward pass on the same input, after the optimizer's step."""
        for name, layer in self.layers.items():
            self._second[name] = []

            def note(z: Tensor, decision: Decision, seen: list = self._second[name]) -> None:
                seen.append(decision.values(z))

            layer.observer = note
            layer.script = iter([decision for decision, _ in self._first[name]])
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.observer = layer.script = None

    def effect(self) -> UpdateEffect:
        """What the step did.

        Raises:
            ValueError: if the two forward passes called a layer different numbers of times.
        """
        layers, before, after, phi, phi_after = [], [], [], [], []
        for place, (name, layer) in enumerate(self.layers.items()):
            first, second = self._first.get(name, []), self._second.get(name, [])
            if not first or len(first) != len(second):
                raise ValueError(
                    f"MEmeL: the layer at {name} was called {len(first)} times before the step and "
                    f"{len(second)} times after, expected the same and at least once"
                )
            mean, variance = (statistic.double() for statistic in self._statistics[name])
            for (decision, z), z_after in zip(first, second, strict=True):
                neurons = decision.neurons()
                arrangement = decision.arrangement
                means, variances = (
                    arrangement.flat(arrangement.statistic(s)) for s in (mean, variance)
                )
                means = means.take(neurons)
                variances = compensated(variances, layer.epsilon).take(neurons)
                layers.append(torch.full((len(z),), place))
                before.append(z.double())
                after.append(z_after.double())
                phi.append((z.double() - means).square() / variances)
                phi_after.append((z_after.double() - means).square() / variances)
        parts = (torch.cat(part).cpu() for part in (layers, before, after, phi, phi_after))
        return UpdateEffect(tuple(self.layers), *parts)
