"""The benchmark's balanced weights, shared by the training loss and the scores.

Source: Shi et al., "Deep Learning for Precipitation Nowcasting: A Benchmark and A New Model",
NeurIPS 2017, section 3.2: heavy rain is rare, so its errors count more.
"""

import itertools

import torch

from nowcast.radar.units import rain_rate_to_pixel

WEIGHT_STEPS_MM_H = (2.0, 5.0, 10.0, 30.0)
"""Rain rates at which the weight rises, in mm/h."""

WEIGHTS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Weight below the first step, from the first step on, from the second on, and so on."""

WEIGHT_RISES = tuple(
    (float(rain_rate_to_pixel(rate)), above - below)
    for rate, (below, above) in zip(WEIGHT_STEPS_MM_H, itertools.pairwise(WEIGHTS), strict=True)
)
"""Pixel value of each step, compared in single precision, and by how much the weight rises there.
"""


def balanced_weights(truth_pixels: torch.Tensor) -> torch.Tensor:
    """Weight of each pixel by its observed rain rate: 1, 2, 5, 10 or 30.

    Args:
        truth_pixels: observed pixel values of any shape, in a floating dtype. A value equal to a
            step takes the higher weight; NaN takes weight 1.

    Returns:
        Weights of the same shape, dtype and device; no gradient flows through them.
    """
    with torch.no_grad():
        weights = torch.ones_like(truth_pixels)
        reached = torch.empty_like(truth_pixels)
        for pixel, rise in WEIGHT_RISES:
            torch.ge(truth_pixels, pixel, out=reached)
            weights.add_(reached, alpha=rise)
    return weights
