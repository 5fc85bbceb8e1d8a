"""How long a training step spends in its MEmeL layers.

Timed inside of the step, where the convolutions around the layers have driven their code and data
out of the caches. Called by themselves, one after the other, they would be flattered.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from nowcast import memel
from nowcast.benchmarks.machine import wait_for
from nowcast.benchmarks.training_step import TrainingStep


class LayerClock:
    """Takes a step and times the calls of the layers in it, forward and backward.

    What the clock's own nodes in the backward pass take is counted too. On a GPU each call is
    waited for, which no step does otherwise: there the layers take at most what is found.

    Args:
        step: whose network has layers. From now on they are timed.

    Attributes:
        seconds: in the layers, of each step taken.
        calls: of layers in the last step.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.device = step, step.device
        self.seconds: list[float] = []
        self.calls = 0
        self._started = 0.0
        for layer in memel.inserted(step.network).values():
            layer.register_forward_pre_hook(self._enter)
            layer.register_forward_hook(self._leave)

    def __call__(self) -> None:
        """Take one step and return when it is done."""
        self.seconds.append(0.0)
        self.calls = 0
        self.step()

    def _enter(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = _Passage.apply(args[0], self._stop)
        self.calls += 1
        self._start()
        return z, *args[1:]

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], z: Tensor) -> Any:
        self._stop()
        return _Passage.apply(z, self._start)

    def _start(self) -> None:
        wait_for(self.device)
        self._started = perf_counter()

    def _stop(self) -> None:
        wait_for(self.device)
        self.seconds[-1] += perf_counter() - self._started


class _Passage(torch.autograd.Function):
    """Hands activations and their gradient on, and tells when the gradient comes by."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, tell: Callable[[], None]) -> Tensor:
        ctx.tell = tell
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.tell()
        return gradients[0], None
