"""What all networks have in common, whatever runs at their levels.

Everything that trains, loads or evaluates a network takes a `Network`; which one it is, only
`nowcast.models.build` decides.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nowcast.device import Precision
from nowcast.errors import InputError
from nowcast.models.convgru import NEGATIVE_SLOPE, observed
from nowcast.models.distribution import with_values_of
from nowcast.models.flow import Flow
from nowcast.models.scales import SCALES, decayed, split_scales
from nowcast.models.settings import NetworkSettings


class Network(nn.Module):
    """Frames in, frames out, through an encoder and a forecaster; a `NowcastMethod`.

    Args:
        settings: shape of the network.
    """

    encoder: nn.Module
    forecaster: nn.Module

    hidden_states: ClassVar[tuple[str, ...]]
    """Globs of the modules whose outputs are the hidden states."""

    input_frames: int | None = None
    """The one number of frames that it can see; None for any."""

    precision: Precision = "fp32"
    """How `forecast` computes; `forward` computes as it is called. Weights stay as they are."""

    recompute_every: int = 0
    """Set by `recompute`."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, frames: Tensor, lead_times: int) -> Tensor:
        """Forecast, without clipping, differentiable.

        The grid may have any size. What its levels do not divide is filled up to the south and the
        east with what convolutions have beyond any grid, zeros, and the forecast is cut back.

        Args:
            frames: pixel values (batch, time, 1, y, x), oldest first.
            lead_times: how many frames to forecast.

        Returns:
            Pixel values (batch, lead_times, 1, y, x); the training loss wants them unclipped.

        Raises:
            InputError: if the network cannot see so many frames.
        """
        if self.settings.along_flow:
            flow = Flow.of(frames, max(frames.shape[1] - 1, lead_times))
            return flow.to_their_times(self._forecast(flow.to_the_last(frames), lead_times))
        return self._forecast(frames, lead_times)

    def _forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """Forecast in the coordinates of `frames`; in and out as `forward`."""
        found = self.predict(frames, lead_times)
        if self.settings.forecasts == "frames":
            return found
        if self.settings.forecasts == "change":
            return frames[:, -1:] + found
        return decayed(split_scales(frames[:, -1]), found.to(frames.dtype))

    def predict(self, frames: Tensor, lead_times: int) -> Tensor:
        """What the settings say that is forecast.

        Args:
            frames: pixel values (batch, time, 1, y, x), oldest first.
            lead_times: how many frames to forecast.

        Returns:
            (batch, lead_times, channels, y, x): one channel, frames or their change; for "decay"
            one for each scale, finest first: how fast it fades, see `left_of_scales`.
        """
        height, width = frames.shape[-2:]
        seen = self.seen_by_head(frames)
        found = self.from_levels(
            self._filled_up(frames), None if seen is None else self._filled_up(seen), lead_times
        )
        return found[..., :height, :width]

    def from_levels(self, frames: Tensor, seen: Tensor | None, lead_times: int) -> Tensor:
        """`predict` on a grid that the levels divide; `seen` is what the head sees beside them."""
        raise NotImplementedError

    def _filled_up(self, fields: Tensor) -> Tensor:
        """With zeros to the south and the east, up to a grid that the levels divide."""
        south, east = (-side % self.settings.stride for side in fields.shape[-2:])
        return functional.pad(fields, (0, east, 0, south)) if south or east else fields

    def seen_by_head(self, frames: Tensor) -> Tensor | None:
        """What the last layers see of input frames (batch, time, 1, y, x): (batch, …, y, x)."""
        if not self.settings.head_sees_last:
            return None
        return split_scales(frames[:, -1]) if self.settings.forecasts == "decay" else frames[:, -1]

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """Forecast in evaluation mode, without gradient, clipped to [0, 1].

        Frames and forecast are (batch, time, 1, y, x) on any device and of one floating-point type;
        the network stays on its own device, computes in its `precision` and keeps the mode it was
        in.
        """
        training, home = self.training, next(self.parameters())
        self.eval()
        try:
            half = self.precision == "bf16"
            with (
                torch.inference_mode(),
                torch.autocast(home.device.type, torch.bfloat16, enabled=half),
            ):
                seen = frames.to(home)
                forecast = self(seen, lead_times).clamp(0, 1)
                if self.settings.keeps_distribution:
                    last = seen[:, -1:].expand(-1, lead_times, -1, -1, -1)
                    if self.settings.along_flow:
                        last = Flow.of(seen, lead_times).to_their_times(last)
                    forecast = with_values_of(last.clamp(0, 1), forecast)
        finally:
            self.train(training)
        return forecast.to(frames)

    def recompute(self, every: int) -> None:
        """Have training keep the states of every so many frames, and no activations between them.

        They are computed again in the backward pass: less memory, more time, the same gradients to
        rounding (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). A module that
        sees the whole sequence, as the recurrent layers do, is called for so many frames at a time;
        a cell is called as ever.

        Args:
            every: frames; 0 keeps all activations.

        Raises:
            InputError: if the network has no states.
        """
        if every:
            raise InputError(
                f"network: found recompute_every = {every} for one without recurrence, expected 0"
            )

    def make_ready(self) -> None:
        """Draw the initial weights that the settings ask for, and lay them out for speed."""
        if self.settings.initial_weights == "authors":
            self.apply(_draw_authors_weights)
        # Faster convolutions on CPU and GPU.
        self.to(memory_format=torch.channels_last)


def activated(convolution: nn.Module, x: Tensor) -> Tensor:
    """Leaky ReLU of a convolution, in place: only the result is kept for the gradient.

    Not where somebody looks at what the convolution gives.
    """
    found = convolution(x)
    return functional.leaky_relu(found, NEGATIVE_SLOPE, inplace=not observed(convolution))


class Head(nn.Sequential):
    """The last layers: features of the finest level, and what stands beside them, to pixel values.

    Args:
        settings: of the network.
        frames: how many go out at once.
    """

    def __init__(self, settings: NetworkSettings, frames: int) -> None:
        features = settings.up_features[0]
        scales = SCALES if settings.forecasts == "decay" else 1
        seen = scales if settings.head_sees_last else 0
        super().__init__(
            nn.Conv2d(features + seen, features, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            nn.Conv2d(features, frames * scales, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features, y, x) to (batch, channels, y, x)."""
        first, activation, last = self
        found = first(x)
        return last(activation(found.clone() if observed(first) else found))


def each_frame(function: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
    """Apply a function of (frames, channel, y, x) to every frame of (time, batch, …) at once."""
    return function(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


def coordinates_of(frames: Tensor) -> Tensor:
    """Channels x and y, in [−1, 1] over the grid of (…, y, x), and ones: (3, y, x)."""
    precise = torch.promote_types(frames.dtype, torch.float32)
    # Made on the device: a copy from the host would wait for the work before it.
    y, x = (
        torch.linspace(-1, 1, side, dtype=precise, device=frames.device).to(frames.dtype)
        for side in frames.shape[-2:]
    )
    return torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones_like(x)))


def _draw_authors_weights(module: nn.Module) -> None:
    """Gaussian of variance 2 / ((1 + slope²) · mean of fan-in and fan-out), biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        first, second, *kernel = module.weight.shape
        fan = (first + second) / 2 * math.prod(kernel)
        nn.init.normal_(module.weight, std=math.sqrt(2 / ((1 + NEGATIVE_SLOPE**2) * fan)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
