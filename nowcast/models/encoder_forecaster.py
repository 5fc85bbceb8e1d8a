"""The HKO-7 benchmark's encoder-forecaster, of ConvGRUs or TrajGRUs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nowcast.models.convgru import ConvGRU, RecurrentLayer
from nowcast.models.network import Head, Network, activated, coordinates_of, each_frame
from nowcast.models.parts import Parts
from nowcast.models.settings import AUTHORS, NetworkSettings
from nowcast.models.trajgru import TrajGRU, TrajGRUCell


class EncoderForecaster(Network):
    """Recurrent layers read the past at several scales and unroll the future.

    Shi et al., "Deep Learning for Precipitation Nowcasting: A Benchmark and A New Model", NeurIPS
    2017, section 3.2. Each level downsamples and runs a recurrent layer over the inputs; the states
    it ends with start the forecaster's recurrent layers, which go from the coarsest level up.

    Args:
        settings: shape of the network.
    """

    encoder: "Encoder"
    forecaster: "Forecaster"
    hidden_states = ("encoder.stages.*.rnn.cell", "forecaster.stages.*.rnn.cell")

    def __init__(self, settings: NetworkSettings = AUTHORS) -> None:
        super().__init__(settings)
        self.encoder = Encoder(settings)
        self.forecaster = Forecaster(settings)
        self.make_ready()
        if settings.initial_weights == "authors":
            # Flows start at zero (INIT_GRID in the authors' code).
            for module in self.modules():
                if isinstance(module, TrajGRUCell):
                    nn.init.zeros_(module.flows.weight)
        for layer in self.forecaster.modules():
            if isinstance(layer, RecurrentLayer):
                layer.remember(settings.forecaster_memory)

    def from_levels(self, frames: Tensor, seen: Tensor | None, lead_times: int) -> Tensor:
        """See `Network.from_levels`; any number of frames will do."""
        sequence = frames.transpose(0, 1)
        if self.settings.coordinates:
            grid = coordinates_of(frames).expand(*sequence.shape[:2], -1, -1, -1)
            sequence = torch.cat([sequence, grid], dim=2)
        parts = Parts.of(self.recompute_every, self.training)
        states = self.encoder(sequence, parts)
        found = self.forecaster(states, seen, lead_times, parts)
        return found.transpose(0, 1)

    def recompute(self, every: int) -> None:
        """See `Network.recompute`."""
        self.recompute_every = every


def recurrent_layer(
    settings: NetworkSettings, level: int, inputs: int, links: tuple[int, ...]
) -> RecurrentLayer:
    """The recurrent layer of a level; `links` are those of all levels."""
    hidden = settings.hidden[level]
    if settings.recurrence == "TrajGRU":
        return TrajGRU(inputs, hidden, links[level], settings.bounded_states)
    if settings.recurrence == "ConvGRU":
        kernel = settings.state_kernels[level]
        return ConvGRU(inputs, hidden, kernel, bounded=settings.bounded_states)
    raise ValueError(f"encoder-forecaster: there is no recurrent layer {settings.recurrence!r}")


class EncoderStage(nn.Module):
    """Downsample, then run a recurrent layer at that scale."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(
            inputs,
            settings.features[level],
            settings.down_kernels[level],
            settings.strides[level],
            padding=1,
        )
        self.rnn = recurrent_layer(
            settings, level, settings.features[level], settings.encoder_links
        )

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sequence (time, batch, channel, y, x) to states and last state, coarser by the stride."""
        return self.rnn(each_frame(lambda frames: activated(self.down, frames), x), state)


class Encoder(nn.Module):
    """Frames to the states that the recurrent layers of all levels end with."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        inputs = (4 if settings.coordinates else 1, *settings.hidden)
        self.stages = nn.ModuleList(
            EncoderStage(settings, level, inputs[level]) for level in range(len(settings.hidden))
        )

    def forward(self, x: Tensor, parts: Parts) -> list[Tensor]:
        """Sequence (time, batch, channel, y, x) to states (batch, hidden, y, x), finest first."""
        states: Any = [None] * len(self.stages)
        for frames in parts.of_sequence(x):
            states = parts.run(self._read, frames, states)
        return list(states)

    def _read(self, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
        after = []
        for stage, before in zip(self.stages, states, strict=True):
            x, state = stage(x, before)
            after.append(state)
        return after


class ForecasterStage(nn.Module):
    """Run a recurrent layer from the encoder's state, then upsample."""

    def __init__(self, settings: NetworkSettings, level: int, inputs: int) -> None:
        super().__init__()
        self.rnn = recurrent_layer(settings, level, inputs, settings.forecaster_links)
        self.up = nn.ConvTranspose2d(
            settings.hidden[level],
            settings.up_features[level],
            settings.up_kernels[level],
            settings.strides[level],
            padding=1,
            bias=settings.deconvolution_bias,
        )

    def forward(self, x: Tensor | None, state: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """State (and a coarser sequence) to a sequence, finer by the stride, and the last state."""
        states, last = self.rnn(x, state, steps)
        return each_frame(lambda frames: activated(self.up, frames), states), last


class Forecaster(nn.Module):
    """States of all levels to a sequence of frames; stage 0 is the finest, as in the encoder."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        inputs = (*settings.up_features[1:], 0)
        self.stages = nn.ModuleList(
            ForecasterStage(settings, level, inputs[level]) for level in range(len(inputs))
        )
        self.head = Head(settings, 1)

    def forward(
        self, states: list[Tensor], seen: Tensor | None, steps: int, parts: Parts
    ) -> Tensor:
        """States, finest first, to forecasts (time, batch, channel, y, x).

        Args:
            states: where the recurrent layers start.
            seen: what the head sees of the last frame (batch, …, y, x), if anything.
            steps: frames to forecast.
            parts: of the sequence that are run one by one.
        """
        sequence = []
        *others, last = parts.lengths(steps)
        for length in others:
            frames, states = parts.run(self._unroll, states, seen, length)
            sequence.append(frames)
        sequence.append(parts.run(self._unroll, states, seen, last, last=True)[0])
        return sequence[0] if len(sequence) == 1 else torch.cat(sequence)

    def _unroll(
        self, states: list[Tensor], seen: Tensor | None, steps: int
    ) -> tuple[Tensor, list[Tensor]]:
        x: Tensor | None = None
        after: list[Tensor] = []
        for stage, state in zip(reversed(self.stages), reversed(states), strict=True):
            x, last = stage(x, state, steps)
            after.insert(0, last)
        assert x is not None
        if seen is not None:
            x = torch.cat([x, seen.to(x.dtype).expand(len(x), -1, -1, -1, -1)], dim=2)
        return each_frame(self.head, x), after
