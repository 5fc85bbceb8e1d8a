"""Profiling a trained model: how the monosemantic scale φ is spread in its layers.

φ is Definition 3.1 (Eq. 7) with the compensation of D.2, but by the mean and variance of the very
samples that are judged, not of earlier batches only: the model is held still, so that no sample
comes before another. With n samples φ then cannot exceed (n − 1)² / n, which a neuron reaches that
fires for a single one of them, and φ of a normally distributed neuron follows (n − 1)² / n times
the Beta distribution of 1/2 and (n − 2) / 2, which tends to χ² of one degree of freedom.

What is kept does not grow with the number of samples: counts in bins, and a few numbers per neuron.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nowcast.memel.arrangement import Arrangement, Neurons, arrange
from nowcast.memel.inhibition import most_monosemantic
from nowcast.memel.insertion import modules_at
from nowcast.memel.layer_profile import (
    BINS,
    BINS_PER_DECADE,
    DECADES,
    LayerProfile,
    NeuronProfile,
)
from nowcast.memel.outputs import activations
from nowcast.memel.scale import monosemantic_scale, update_statistics


def profile(
    model: nn.Module,
    batches: Iterable[Any],
    at: Sequence[str],
    forward: Callable[[nn.Module, Any], Any] | None = None,
    neurons: Neurons = "element",
    epsilon: float = 1e-3,
    top: int = 10,
    item: int | str | None = None,
) -> dict[str, LayerProfile]:
    """Monosemanticity profile of the modules that a name or glob in `at` matches.

    The model is run twice over the batches, in evaluation mode and without gradients: once for the
    mean and variance of every neuron, once for φ of every activation. What is watched is what a
    module itself returns, in each of its calls; MEmeL layers are not needed. Padding counts as any
    sample. Where a module is called with several rows of each sample (windowed attention), φ is not
    affected, but every row counts as a selection.

    Args:
        model: any module; it is left as it was, the mode of each of its parts too.
        batches: gone through twice, and the same both times: a list, a data loader that does not
            shuffle; not a generator.
        at: names of submodules as `named_modules` gives them, or globs.
        forward: runs the model on a batch; where None, the model is called with the batch.
        neurons: what a neuron is, as in `MEmeL`.
        epsilon: variance compensation (D.2), as in `MEmeL`.
        top: how many of the most monosemantic neurons are named.
        item: which index, field or key of the output is meant where a module returns a tuple, a
            dataclass or a mapping; None takes the first floating-point tensor.

    Returns:
        A profile for each module by its name, in the order of `at`.

    Raises:
        ValueError: if a setting is out of range, a name matches nothing, a module is never called
            or has other neurons from call to call, activations are not finite, or the second pass
            has other calls than the first.
        TypeError: if a module returns no tensor.
    """
    if top < 0 or not epsilon >= 0:
        raise ValueError(f"MEmeL: found top={top}, epsilon={epsilon}, expected none below 0")
    modules = modules_at(model, at)
    run = _call if forward is None else forward
    statistics = {name: _Statistics(name, neurons) for name in modules}
    with _held_still(model), _watched(modules, statistics, item):
        for batch in batches:
            run(model, batch)
    for known in statistics.values():
        known.check()
    scales = {name: _Scales(known, epsilon) for name, known in statistics.items()}
    with _held_still(model), _watched(modules, scales, item):
        for batch in batches:
            run(model, batch)
    return {name: scale.summary(top) for name, scale in scales.items()}


def _call(model: nn.Module, batch: Any) -> Any:
    return model(batch)


@contextmanager
def _held_still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients within the block."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # Not inference mode: what a module keeps for later would be unfit for training.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _watched(
    modules: Mapping[str, nn.Module],
    watchers: Mapping[str, Callable[[Tensor], None]],
    item: int | str | None,
) -> Iterator[None]:
    """Hand each module's activations to its watcher within the block."""

    def hook(watcher: Callable[[Tensor], None]) -> Callable[..., None]:
        def hand_over(module: nn.Module, args: Any, output: Any) -> None:
            # Made contiguous, neurons lie as they are counted.
            watcher(activations(output, item, type(module).__name__).detach().contiguous())

        return hand_over

    handles = [
        # First of the module's hooks: before that of an inserted layer that is on in evaluation.
        module.register_forward_hook(hook(watchers[name]), prepend=True)
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Statistics:
    """Mean and variance of every neuron of a module, flat, over all its calls."""

    def __init__(self, name: str, neurons: Neurons) -> None:
        self.name, self.neurons = name, neurons
        self.neuron_shape: tuple[int, ...] | None = None
        self.calls = self.samples = 0

    def arranged(self, z: Tensor) -> tuple[Arrangement, Tensor]:
        """Arrangement of activations, and their grid in float32 or better."""
        arrangement = arrange(z, self.neurons, "sample")
        if self.neuron_shape not in (None, arrangement.neuron_shape):
            raise ValueError(
                f"MEmeL: {self.name} has neurons {self.neuron_shape} in one call and "
                f"{arrangement.neuron_shape} in another, expected the same"
            )
        grid = arrangement.in_grid(z)
        return arrangement, grid.to(torch.promote_types(z.dtype, torch.float32))

    def __call__(self, z: Tensor) -> None:
        arrangement, grid = self.arranged(z)
        if self.neuron_shape is None:
            self.neuron_shape = arrangement.neuron_shape
            # Near the mean from the start: sums of large squares would lose digits.
            self.mean = arrangement.over_samples(grid) / arrangement.samples
            self.variance = torch.zeros_like(self.mean)
        deviations = grid - arrangement.beside_grid(self.mean)
        sums = arrangement.over_samples(deviations)
        squares = arrangement.over_samples(deviations.square_())
        update_statistics(
            self.mean, self.variance, self.samples, sums, squares, arrangement.samples
        )
        self.samples += arrangement.samples
        self.calls += 1

    def check(self) -> None:
        if self.neuron_shape is None:
            raise ValueError(f"MEmeL: {self.name} was never called, expected at least one batch")
        if not torch.isfinite(self.variance).all():
            raise ValueError(f"MEmeL: {self.name} has activations that are not finite")


class _Scales:
    """φ of all activations of a module: counts in bins, and what is kept of every neuron."""

    def __init__(self, known: _Statistics, epsilon: float) -> None:
        self.known, self.epsilon = known, epsilon
        mean = known.mean
        self.counts = torch.zeros(BINS + 2, dtype=torch.int64, device=mean.device)
        self.largest = torch.zeros_like(mean)
        self.selected = torch.zeros(len(mean), dtype=torch.int64, device=mean.device)
        self.sum_of_squares = torch.zeros((), dtype=torch.float64, device=mean.device)
        self.calls = 0

    def __call__(self, z: Tensor) -> None:
        known = self.known
        arrangement, grid = known.arranged(z)
        mean, variance = (arrangement.beside_grid(s) for s in (known.mean, known.variance))
        phi = monosemantic_scale(grid, mean, variance, self.epsilon)
        # Rounding alone exceeds the bound: where a layer does not vary, say.
        phi.clamp_max_((known.samples - 1) ** 2 / known.samples)
        self.counts += torch.bincount(_bins(phi).view(-1), minlength=BINS + 2)
        largest = phi.amax((0, 2)) if arrangement.inner > 1 else phi.amax(0)
        torch.maximum(self.largest, largest, out=self.largest)
        columns = most_monosemantic(phi.view(arrangement.rows, -1), top=1)
        selected = arrangement.neuron_at(columns).view(-1)
        self.selected += torch.bincount(selected, minlength=len(self.selected))
        self.sum_of_squares += phi.square_().sum(dtype=torch.float64)
        self.calls += 1

    def summary(self, top: int) -> LayerProfile:
        """The profile, once all calls are made."""
        known, counts = self.known, self.counts.tolist()
        shape = known.neuron_shape
        assert shape is not None
        total = len(self.largest) * known.samples
        if self.calls != known.calls or sum(counts) != total:
            raise ValueError(
                f"MEmeL: {known.name} was called {known.calls} times in the first pass and "
                f"{self.calls} times in the second, expected the same batches in both"
            )
        order = self.largest.argsort(descending=True, stable=True)[:top].tolist()
        return LayerProfile(
            neuron_shape=shape,
            samples=known.samples,
            calls=known.calls,
            counts=tuple(counts),
            largest=float(self.largest.max()),
            mean_square=float(self.sum_of_squares) / total,
            selections=int(self.selected.sum()),
            ever_selected=float((self.selected > 0).double().mean()),
            most_monosemantic=tuple(
                NeuronProfile(
                    _unravelled(neuron, shape),
                    float(self.largest[neuron]),
                    int(self.selected[neuron]),
                )
                for neuron in order
            ),
        )


def _bins(phi: Tensor) -> Tensor:
    """Which of the counts each φ belongs to; computed, which is faster than to search the edges."""
    places = phi.log10().sub_(DECADES[0]).mul_(BINS_PER_DECADE).floor_()
    return places.clamp_(-1, BINS).to(torch.int32).add_(1)


def _unravelled(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))
