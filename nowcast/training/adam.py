"""The optimizer of training: Adam in one pass over the weights, and taking up what runs saved."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

FUSED = "cpu", "cuda"
"""Devices whose Adam in one pass is used; on others it is PyTorch's default."""


def adam(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float]
) -> torch.optim.Adam:
    """Adam with weights, gradients and moments read once where the device can.

    It takes up any state that Adam has saved, of a version without this, or on another device.

    Args:
        parameters: on their device.
        learning_rate: at first.
        betas: decay of the moments.
    """
    parameters = list(parameters)
    fused = all(p.device.type in FUSED and p.is_floating_point() for p in parameters) or None
    optimizer = torch.optim.Adam(parameters, learning_rate, betas, fused=fused)
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    optimizer.register_load_state_dict_post_hook(_lay_as_weights)
    return optimizer


def _keep_implementation(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A saved group would bring the implementation that it was saved with."""
    fused = optimizer.defaults["fused"]
    return state | {"param_groups": [group | {"fused": fused} for group in state["param_groups"]]}


def _lay_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Moments lie in memory as when they were saved; fused Adam on the CPU takes them as weights.

    It goes through the memory of both from the first number to the last, and asks for no strides.
    """
    for weights, state in optimizer.state.items():
        for name, values in state.items():
            if values.shape == weights.shape and values.stride() != weights.stride():
                state[name] = torch.empty_like(weights, dtype=values.dtype).copy_(values)
