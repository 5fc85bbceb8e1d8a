"""One training step of a network, to be timed, and how much it computes."""

import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nowcast.benchmarks.machine import wait_for
from nowcast.benchmarks.peak_memory import own_peak_memory
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.models.encoder_forecaster import EncoderForecaster, NetworkSettings
from nowcast.training.adam import adam
from nowcast.training.loss import balanced_loss
from nowcast.training.module import OptimizationSettings


def network_settings(hidden: tuple[int, ...]) -> NetworkSettings:
    """Shape of a network in the form of the benchmark's authors.

    Args:
        hidden: channels of the ConvGRU states, finest level first.
    """
    features = (8, *hidden[1:])
    return NetworkSettings(hidden=hidden, features=features, up_features=features)


@dataclass(frozen=True)
class StepShape:
    """What a training step works on.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame.
        batch: clips in a step.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
    """

    hidden: tuple[int, ...]
    side: int
    batch: int
    input_frames: int
    lead_times: int

    def __post_init__(self) -> None:
        for name in ("side", "batch", "input_frames", "lead_times"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if self.side % self.network.stride:
            raise InputError(
                f"side: found {self.side}, expected a multiple of {self.network.stride}"
            )

    @property
    def network(self) -> NetworkSettings:
        """Shape of the network."""
        return network_settings(self.hidden)

    @property
    def smallest_state(self) -> int:
        """Activations per sample of the level that has fewest."""
        sides = (
            self.side // factor
            for factor in itertools.accumulate(self.network.strides, operator.mul)
        )
        return min(hidden * side**2 for hidden, side in zip(self.hidden, sides, strict=True))

    def frames(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Made-up inputs, targets and mask (batch, time, 1, y, x)."""
        random = torch.Generator().manual_seed(0)
        times = self.input_frames + self.lead_times
        frames = torch.rand(self.batch, times, 1, self.side, self.side, generator=random)
        past, future = frames.to(device).split([self.input_frames, self.lead_times], dim=1)
        return past, future, future > 0.1

    def step_gflop(self) -> float:
        """10⁹ floating-point operations of a step's convolutions, there and back.

        Counted on tensors without content. A multiplication and an addition are two operations.
        """
        with torch.device("meta"):
            network = EncoderForecaster(self.network)
            past = torch.empty(self.batch, self.input_frames, 1, self.side, self.side)
        with FlopCounterMode(display=False) as counter:
            network(past, self.lead_times).sum().backward()
        return counter.get_total_flops() / 1e9


class TrainingStep:
    """Forward, balanced loss, backward, clipping and Adam, as training does them.

    Args:
        network: what is trained, on its device.
        forward: computes the forecast from inputs and the number of lead times.
        shape: of the step.
        bf16: whether to autocast to bfloat16.
        optimizer: makes Adam of weights, learning rate and betas; that of training by default.

    Attributes:
        loss: of the last step, before its update.
    """

    loss: Tensor

    def __init__(
        self,
        network: EncoderForecaster,
        forward: Callable[[Tensor, int], Tensor],
        shape: StepShape,
        bf16: bool,
        optimizer: Callable[..., torch.optim.Optimizer] = adam,
    ) -> None:
        self.network, self.forward, self.shape, self.bf16 = network, forward, shape, bf16
        self.settings = OptimizationSettings()
        self.device = next(network.parameters()).device
        self.past, self.future, self.mask = shape.frames(self.device)
        self.optimizer = optimizer(
            network.parameters(), self.settings.learning_rate, self.settings.betas
        )

    def __call__(self) -> None:
        """Take one step and return when it is done."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            prediction = self.forward(self.past, self.shape.lead_times)
            squared, absolute = balanced_loss(prediction, self.future, self.mask)
            loss = (squared + absolute) * self.settings.loss_scale
        loss.backward()
        for part in (self.network.encoder, self.network.forecaster):
            torch.nn.utils.clip_grad_norm_(part.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        wait_for(self.device)
        self.loss = loss.detach()

    def peak_memory(self) -> int | None:
        """Largest memory so far in bytes: of a GPU what was allocated, else of the process.

        None where the system does not tell.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return own_peak_memory()


def own_step(
    shape: StepShape, device: torch.device, bf16: bool, recompute_every: int = 0
) -> TrainingStep:
    """Our step, in a process that is made to keep freed memory as training makes it.

    Args:
        shape: of the step.
        device: where it runs.
        bf16: see `TrainingStep`.
        recompute_every: see `Network.recompute`.

    Returns:
        A step from the same weights each time.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    network = EncoderForecaster(shape.network).to(device)
    network.recompute(recompute_every)
    return TrainingStep(network, network, shape, bf16=bf16)
