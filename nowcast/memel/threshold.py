"""A threshold of φ that moves so that a fixed share of the activations lies above it."""

import torch
from torch import Tensor

from nowcast.memel.scalars import at_least

RATE = 0.05
"""Largest change of the logarithm of the threshold in a call."""


def normal_quantile(share: float) -> Tensor:
    """What φ of a normally distributed neuron exceeds with this probability."""
    return (2**0.5 * torch.erfinv(torch.tensor(1 - share, dtype=torch.float64))).square().float()


def move_threshold(
    threshold: Tensor,
    above: Tensor,
    activations: int | Tensor,
    share: float,
    known: bool | Tensor,
) -> None:
    """One step of tracking a quantile of φ, on a logarithmic scale, in place.

    Args:
        threshold: a scalar.
        above: how many activations lay above it.
        activations: how many there were.
        share: of them that is to lie above it in the long run.
        known: whether φ rests on any statistics yet; the threshold stays where not.
    """
    # Where few or none are expected, the limit to a step would cut off more of those up than of
    # those down; a larger denominator keeps them within it.
    expected = activations * share
    excess = ((above - expected) / at_least(4, expected)).clamp(-1, 1)
    threshold.mul_(torch.exp(RATE * excess * known))
    limits = torch.finfo(threshold.dtype)
    threshold.clamp_(limits.tiny, limits.max)
