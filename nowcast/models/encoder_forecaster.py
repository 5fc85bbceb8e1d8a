"""The HKO-7 benchmark's encoder-forecaster of ConvGRUs, in both published forms."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nowcast.errors import InputError
from nowcast.models.convgru import NEGATIVE_SLOPE, ConvGRU, leaky


@dataclass(frozen=True)
class NetworkSettings:
    """Shape of an encoder-forecaster; the defaults are the benchmark's, in the authors' form.

    Every tuple goes from the finest to the coarsest level. The 2019 PyTorch port's form is
    `PORT_2019`.

    Args:
        hidden: channels of the ConvGRU states.
        features: channels after each downsampling convolution.
        up_features: channels after each upsampling deconvolution.
        strides: factor between levels; a frame's sides must be multiples of their product.
        down_kernels: sides of the downsampling kernels (padding 1).
        up_kernels: sides of the upsampling kernels (padding 1).
        state_kernels: sides of the state-to-state kernels.
        coordinates: give the network x and y in [−1, 1] over the grid and a channel of ones beside
            the frame. A network meant for any grid goes without.
        deconvolution_bias: whether deconvolutions have a bias.
        initial_weights: "authors" draws from a Gaussian of variance 2 / (1.04 · mean of fan-in and
            fan-out) with zero biases; "pytorch" keeps PyTorch's default.
    """

    hidden: tuple[int, ...] = (64, 192, 192)
    features: tuple[int, ...] = (8, 192, 192)
    up_features: tuple[int, ...] = (8, 192, 192)
    strides: tuple[int, ...] = (5, 3, 2)
    down_kernels: tuple[int, ...] = (7, 5, 3)
    up_kernels: tuple[int, ...] = (7, 5, 4)
    state_kernels: tuple[int, ...] = (5, 5, 3)
    coordinates: bool = True
    deconvolution_bias: bool = False
    initial_weights: Literal["authors", "pytorch"] = "authors"

    def __post_init__(self) -> None:
        tuples = {k: tuple(v) for k, v in vars(self).items() if isinstance(v, tuple | list)}
        for name, values in tuples.items():
            object.__setattr__(self, name, values)
            if len(values) != len(tuples["hidden"]):
                raise InputError(
                    f"network settings: {name} has {len(values)} levels, "
                    f"hidden has {len(tuples['hidden'])}; expected the same"
                )
            if not values or min(values) < 1:
                raise InputError(f"network settings: {name} is {values}, expected values above 0")

        # With padding 1, only such kernels divide a side by the stride and multiply it back.
        for stride, down, up in zip(self.strides, self.down_kernels, self.up_kernels, strict=True):
            if not 3 <= down <= stride + 2 or up != stride + 2:
                raise InputError(
                    f"network settings: stride {stride} has kernels {down} down and {up} up, "
                    f"expected 3 to {stride + 2} down and {stride + 2} up"
                )
        if not all(kernel % 2 for kernel in self.state_kernels):
            raise InputError(
                f"network settings: state_kernels is {self.state_kernels}, expected odd sizes"
            )

    @property
    def stride(self) -> int:
        """Factor between the frame and the coarsest level; sides must be multiples of it."""
        return math.prod(self.strides)


AUTHORS = NetworkSettings()
"""The form of the benchmark's authors (MXNet)."""

PORT_2019 = NetworkSettings(
    up_features=(8, 64, 192), coordinates=False, deconvolution_bias=True, initial_weights="pytorch"
)
"""The form of the PyTorch port of 2019."""


class EncoderForecaster(nn.Module):
    """Frames in, frames out: ConvGRUs read the past at several scales and unroll the future.

    Shi et al., "Deep Learning for Precipitation Nowcasting: A Benchmark and A New Model", NeurIPS
    2017, section 3.2. Each level downsamples and runs a ConvGRU over the inputs; the states it ends
    with start the forecaster's ConvGRUs, which go from the coarsest level up.

    Args:
        settings: shape of the network.
    """

    def __init__(self, settings: NetworkSettings = AUTHORS) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(settings)
        self.forecaster = Forecaster(settings)
        if settings.initial_weights == "authors":
            self.apply(_draw_authors_weights)
        # Faster convolutions on CPU and GPU; torch's stubs do not know this form of `to`.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frames: Tensor, lead_times: int) -> Tensor:
        """Forecast, without clipping, differentiable.

        Args:
            frames: pixel values (batch, time, 1, y, x), any number of times, oldest first.
            lead_times: how many frames to forecast.

        Returns:
            Pixel values (batch, lead_times, 1, y, x); the training loss wants them unclipped.

        Raises:
            InputError: if a side of the frames is no multiple of the network's stride.
        """
        side = self.settings.stride
        if frames.shape[-1] % side or frames.shape[-2] % side:
            raise InputError(
                f"network: frames are {frames.shape[-2]} × {frames.shape[-1]}, "
                f"expected sides that are multiples of {side}"
            )
        sequence = frames.transpose(0, 1)
        if self.settings.coordinates:
            sequence = _with_coordinates(sequence)
        return self.forecaster(self.encoder(sequence), lead_times).transpose(0, 1)

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """Forecast in evaluation mode, without gradient, clipped to [0, 1]; a `NowcastMethod`.

        Frames and forecast are (batch, time, 1, y, x) on any device; the network stays on its own
        and keeps the mode it was in.
        """
        training, home = self.training, next(self.parameters())
        self.eval()
        try:
            with torch.inference_mode():
                forecast = self(frames.to(home), lead_times).clamp(0, 1)
        finally:
            self.train(training)
        return forecast.to(frames)


class EncoderStage(nn.Module):
    """Downsample, then run a ConvGRU at that scale."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(
            inputs,
            settings.features[level],
            settings.down_kernels[level],
            settings.strides[level],
            padding=1,
        )
        self.rnn = ConvGRU(
            settings.features[level], settings.hidden[level], settings.state_kernels[level]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sequence (time, batch, channel, y, x) to states and last state, coarser by the stride."""
        return self.rnn(_each_frame(lambda frames: leaky(self.down(frames)), x))


class Encoder(nn.Module):
    """Frames to the states that the ConvGRUs of all levels end with."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        inputs = (4 if settings.coordinates else 1, *settings.hidden)
        self.stages = nn.ModuleList(
            EncoderStage(settings, level, inputs[level]) for level in range(len(settings.hidden))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Sequence (time, batch, channel, y, x) to states (batch, hidden, y, x), finest first."""
        states = []
        for stage in self.stages:
            x, state = stage(x)
            states.append(state)
        return states


class ForecasterStage(nn.Module):
    """Run a ConvGRU from the encoder's state, then upsample."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        self.rnn = ConvGRU(inputs, settings.hidden[level], settings.state_kernels[level])
        self.up = nn.ConvTranspose2d(
            settings.hidden[level],
            settings.up_features[level],
            settings.up_kernels[level],
            settings.strides[level],
            padding=1,
            bias=settings.deconvolution_bias,
        )

    def forward(self, x: Tensor | None, state: Tensor, steps: int) -> Tensor:
        """State (and input of the coarser level) to a sequence, finer by the stride."""
        states, _ = self.rnn(x, state, steps)
        return _each_frame(lambda frames: leaky(self.up(frames)), states)


class Forecaster(nn.Module):
    """States of all levels to a sequence of frames; stage 0 is the finest, as in the encoder."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        inputs = (*settings.up_features[1:], 0)
        self.stages = nn.ModuleList(
            ForecasterStage(settings, level, inputs[level]) for level in range(len(inputs))
        )
        features = settings.up_features[0]
        self.head = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(features, 1, 1),
        )

    def forward(self, states: list[Tensor], steps: int) -> Tensor:
        """States, finest first, to frames (time, batch, 1, y, x)."""
        *finer, (coarsest, state) = zip(self.stages, states, strict=True)
        x: Tensor = coarsest(None, state, steps)
        for stage, state in reversed(finer):
            x = stage(x, state, steps)
        return _each_frame(self.head, x)


def _each_frame(function: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
    """Apply a function of (frames, channel, y, x) to every frame of (time, batch, …) at once."""
    return function(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


def _with_coordinates(sequence: Tensor) -> Tensor:
    """Add channels x and y, in [−1, 1] over the grid, and ones."""
    time, batch, _, height, width = sequence.shape
    precise = torch.promote_types(sequence.dtype, torch.float32)
    y = torch.linspace(-1, 1, height, dtype=precise).to(sequence).view(height, 1)
    x = torch.linspace(-1, 1, width, dtype=precise).to(sequence).view(1, width)
    grid = torch.stack(torch.broadcast_tensors(x, y, torch.ones_like(x)))
    return torch.cat([sequence, grid.expand(time, batch, 3, height, width)], dim=2)


def _draw_authors_weights(module: nn.Module) -> None:
    """Gaussian of variance 2 / ((1 + slope²) · mean of fan-in and fan-out), biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        first, second, *kernel = module.weight.shape
        fan = (first + second) / 2 * math.prod(kernel)
        nn.init.normal_(module.weight, std=math.sqrt(2 / ((1 + NEGATIVE_SLOPE**2) * fan)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
