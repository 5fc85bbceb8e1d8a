"""The plain opponent: the encoder-forecaster as a reader of the paper would first write it.

It follows the PyTorch port of 2019: float32, contiguous (batch, channel, y, x), convolutions
between the levels over all frames at once, and then one time step after the other. Its weights are
those of the network it competes with, and so are its results.
"""

import copy
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from nowcast.models.convgru import NEGATIVE_SLOPE, ConvGRU, RecurrentLayer, leaky
from nowcast.models.encoder_forecaster import EncoderForecaster, EncoderStage, ForecasterStage


def plain_copy(network: EncoderForecaster) -> EncoderForecaster:
    """The same weights, contiguous."""
    copied = copy.deepcopy(network)
    return copied.to(memory_format=torch.contiguous_format)


def plain_forward(
    network: EncoderForecaster, frames: Tensor, lead_times: int, inputs_at_once: bool
) -> Tensor:
    """Forecast, written plainly; arguments and result as in `EncoderForecaster.forward`.

    Args:
        network: whose convolutions are used.
        frames: pixel values (batch, time, 1, y, x).
        lead_times: how many frames to forecast.
        inputs_at_once: convolve the input of a recurrent layer for all time steps together, as the
            port's TrajGRU does, instead of one by one, as its ConvLSTM does. The port has no
            ConvGRU.
    """
    x = frames.transpose(0, 1).contiguous()
    if network.settings.coordinates:
        x = torch.cat([x, _coordinates(x)], dim=2)
    states = []
    # To type checkers a ModuleList holds modules of any kind.
    for stage in cast(Iterable[EncoderStage], network.encoder.stages):
        x = _over_frames(stage.down, x)
        zeros = x.new_zeros(x.shape[1], stage.rnn.hidden, *x.shape[3:])
        x, state = _recur(stage.rnn, x, zeros, len(x), inputs_at_once)
        states.append(state)
    sequence: Tensor | None = None
    stages = cast(Iterable[ForecasterStage], reversed(network.forecaster.stages))
    for up_stage, state in zip(stages, reversed(states), strict=True):
        sequence, _ = _recur(up_stage.rnn, sequence, state, lead_times, inputs_at_once)
        sequence = _over_frames(up_stage.up, sequence)
    assert sequence is not None
    merged = network.forecaster.head(sequence.reshape(-1, *sequence.shape[2:]))
    return merged.reshape(lead_times, -1, 1, *frames.shape[3:]).transpose(0, 1)


def _recur(
    rnn: RecurrentLayer, x: Tensor | None, state: Tensor, steps: int, inputs_at_once: bool
) -> tuple[Tensor, Tensor]:
    """All states and the last, one time step after the other."""
    assert isinstance(rnn, ConvGRU)
    shares = None
    if x is not None and rnn.i2h is not None and inputs_at_once:
        shares = rnn.i2h(x.reshape(-1, *x.shape[2:]))
        shares = shares.reshape(*x.shape[:2], *shares.shape[1:])
    states = []
    for step in range(steps):
        h2h = torch.chunk(rnn.cell.h2h(state), 3, dim=1)
        if x is None or rnn.i2h is None:
            reset, update = torch.sigmoid(h2h[0]), torch.sigmoid(h2h[1])
            candidate = leaky(reset * h2h[2])
        else:
            share = rnn.i2h(x[step]) if shares is None else shares[step]
            i2h = torch.chunk(share, 3, dim=1)
            reset, update = torch.sigmoid(i2h[0] + h2h[0]), torch.sigmoid(i2h[1] + h2h[1])
            candidate = leaky(i2h[2] + reset * h2h[2])
        state = update * state + (1 - update) * candidate
        states.append(state)
    return torch.stack(states), state


def _over_frames(convolution: torch.nn.Module, x: Tensor) -> Tensor:
    # In place, as the port has it.
    merged = convolution(x.reshape(-1, *x.shape[2:]))
    merged = functional.leaky_relu(merged, NEGATIVE_SLOPE, inplace=True)
    return merged.reshape(*x.shape[:2], *merged.shape[1:])


def _coordinates(x: Tensor) -> Tensor:
    """Channels x, y and ones of every frame."""
    time, batch, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device).view(height, 1)
    columns = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device)
    rows, columns = rows.expand(height, width), columns.expand(height, width)
    grid = torch.stack([columns, rows, torch.ones_like(rows)])
    return grid.expand(time, batch, 3, height, width)
