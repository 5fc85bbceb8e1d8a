"""A 2-D CNN: the frames of the past are channels, and so are those of the future."""

import torch
from torch import Tensor, nn

from nowcast.errors import InputError
from nowcast.models.network import Head, Network, activated, coordinates_of
from nowcast.models.settings import NetworkSettings


class ConvolutionalNetwork(Network):
    """The encoder-forecaster with convolutions in place of its recurrent layers.

    In spirit the benchmark's "2D CNN" (Shi et al., NeurIPS 2017, section 5): all frames are seen at
    once, stacked as channels, and all lead times are forecast at once. It has the levels, kernels
    and channels of the recurrent networks, so that what is compared is the recurrence. The authors'
    differs: it has two more levels of stride 2, down to 4 × 4 for 480 × 480, batch normalisation,
    no way from the encoder to the forecaster but the coarsest level, and at full resolution 8 maps
    per lead time.

    What is asked for beyond the lead times that it is built for is forecast from its own forecasts,
    clipped to [0, 1] as frames are, in as many goes as it takes; for fewer, the rest is cut off.

    Args:
        settings: shape of the network.
        input_frames: frames that it sees.
        lead_times: frames that it forecasts in one go.
    """

    hidden_states = ("encoder.stages.*.hidden", "forecaster.stages.*.hidden")

    def __init__(self, settings: NetworkSettings, input_frames: int, lead_times: int) -> None:
        super().__init__(settings)
        if input_frames < 1 or lead_times < 1:
            raise InputError(
                f"network: found {input_frames} input frames and {lead_times} lead times, expected "
                "at least 1"
            )
        self.input_frames = input_frames
        self.lead_times = lead_times
        self.encoder = ConvolutionalEncoder(settings, input_frames)
        self.forecaster = ConvolutionalForecaster(settings, lead_times)
        self.make_ready()

    def _forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        if frames.shape[1] != self.input_frames:
            raise InputError(
                f"network: found {frames.shape[1]} frames, it was built for {self.input_frames}"
            )
        past, goes = frames, []
        for _ in range(-(-lead_times // self.lead_times)):
            goes.append(super()._forecast(past, self.lead_times))
            past = torch.cat([past, goes[-1].clamp(0, 1)], dim=1)[:, -frames.shape[1] :]
        return torch.cat(goes, dim=1)[:, :lead_times]

    def from_levels(self, frames: Tensor, seen: Tensor | None, lead_times: int) -> Tensor:
        """See `Network.from_levels`; both numbers of frames are those that it was built for."""
        channels = frames.squeeze(2)
        if self.settings.coordinates:
            grid = coordinates_of(frames).expand(len(frames), -1, -1, -1)
            channels = torch.cat([channels, grid], dim=1)
        found: Tensor = self.forecaster(self.encoder(channels), seen)
        return found.unflatten(1, (self.lead_times, -1))


class HiddenConvolution(nn.Module):
    """A convolution with leaky ReLU that keeps the grid."""

    def __init__(self, inputs: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, hidden, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, hidden, y, x)."""
        return activated(self.convolution, x)


class ConvolutionalEncoderStage(nn.Module):
    """Downsample, then convolve at that scale."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        features, hidden = settings.features[level], settings.hidden[level]
        self.down = nn.Conv2d(
            inputs, features, settings.down_kernels[level], settings.strides[level], padding=1
        )
        self.hidden = HiddenConvolution(features, hidden, settings.state_kernels[level])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, hidden, y, x), coarser by the stride."""
        return self.hidden(activated(self.down, x))


class ConvolutionalEncoder(nn.Module):
    """Stacked frames to the hidden activations of all levels."""

    def __init__(self, settings: NetworkSettings, input_frames: int) -> None:
        super().__init__()
        inputs = (input_frames + (3 if settings.coordinates else 0), *settings.hidden)
        self.stages = nn.ModuleList(
            ConvolutionalEncoderStage(settings, level, inputs[level])
            for level in range(len(settings.hidden))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Frames (batch, time, y, x) to hidden activations (batch, hidden, y, x), finest first."""
        activations = []
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations


class ConvolutionalForecasterStage(nn.Module):
    """Convolve what comes from the coarser level and from the encoder, then upsample."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        hidden = settings.hidden[level]
        self.hidden = HiddenConvolution(inputs + hidden, hidden, settings.state_kernels[level])
        self.up = nn.ConvTranspose2d(
            hidden,
            settings.up_features[level],
            settings.up_kernels[level],
            settings.strides[level],
            padding=1,
            bias=settings.deconvolution_bias,
        )

    def forward(self, x: Tensor | None, encoded: Tensor) -> Tensor:
        """The coarser level's output and the encoder's to an output finer by the stride."""
        joined = encoded if x is None else torch.cat([encoded, x], dim=1)
        return activated(self.up, self.hidden(joined))


class ConvolutionalForecaster(nn.Module):
    """Hidden activations of all levels to frames; stage 0 is the finest, as in the encoder."""

    def __init__(self, settings: NetworkSettings, lead_times: int) -> None:
        super().__init__()
        inputs = (*settings.up_features[1:], 0)
        self.stages = nn.ModuleList(
            ConvolutionalForecasterStage(settings, level, inputs[level])
            for level in range(len(inputs))
        )
        self.head = Head(settings, lead_times)

    def forward(self, encoded: list[Tensor], seen: Tensor | None) -> Tensor:
        """Activations, finest first, to channels (batch, lead times · channels, y, x).

        Args:
            encoded: what the encoder gives.
            seen: what the head sees of the last frame (batch, …, y, x), if anything.
        """
        x: Tensor | None = None
        for stage, activations in zip(reversed(self.stages), reversed(encoded), strict=True):
            x = stage(x, activations)
        assert x is not None
        return self.head(x if seen is None else torch.cat([x, seen.to(x.dtype)], dim=1))
