"""A network so small that a hundred steps take a second, and a film to forecast with it."""

import math

import numpy as np
import torch

from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.settings import NetworkSettings
from nowcast.verification.cases import Cases

SIDE, INPUTS, LEAD_TIMES, STEP_S = 12, 2, 4, 360
WAVELENGTH = 6

TINY = NetworkSettings(
    hidden=(8,),
    features=(8,),
    up_features=(8,),
    strides=(2,),
    down_kernels=(3,),
    up_kernels=(4,),
    state_kernels=(3,),
    coordinates=False,
)


def tiny_network(seed=0):
    torch.manual_seed(seed)
    return EncoderForecaster(TINY)


def drifting_bands(pixels_per_frame, clips, episodes=1):
    """Clips one by one of bands of rain that drift east; each follows the last, in each episode."""
    x = torch.arange(SIDE, dtype=torch.float64)
    for number in range(clips):
        steps = torch.arange(INPUTS + LEAD_TIMES) + INPUTS * number
        phase = 2 * math.pi * (x - pixels_per_frame * steps[:, None]) / WAVELENGTH
        frames = (0.5 + 0.4 * torch.cos(phase)).float()[None, :, None, None]
        frames = frames.expand(-1, -1, -1, SIDE, -1).contiguous()
        issued = (INPUTS * (number + 1) - 1) * STEP_S
        episode = number * episodes // clips
        yield Cases(
            frames[:, :INPUTS],
            frames[:, INPUTS:],
            torch.ones(1, LEAD_TIMES, 1, SIDE, SIDE, dtype=torch.bool),
            places=("bands",),
            issue_times=np.array([issued], "datetime64[s]"),
            events=(f"bands {episode}",),
            new_episode=(number == 0 or (number - 1) * episodes // clips != episode,),
        )
