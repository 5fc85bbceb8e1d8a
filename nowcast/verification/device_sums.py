"""The sums behind the benchmark's scores with torch, for fields on a GPU or another device.

The same sums on the CPU, several times faster there, are in `benchmark_sums`; tests hold the two
against each other.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.verification.weights import balanced_weights

PIXELS_AT_A_TIME = 1 << 24
"""Pixels of one lead time that are scored in one go, so that memory stays bounded."""


@torch.no_grad()
def sums_on_device(
    prediction: torch.Tensor,
    truth: torch.Tensor,
    mask: torch.Tensor,
    threshold_pixels: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over clips per lead time, and how far the truth lies outside of [0, 1].

    Args:
        prediction: pixel values (batch, time, 1, y, x), of a floating dtype.
        truth: same shape, of a floating dtype.
        mask: bool, same shape.
        threshold_pixels: pixel values that make an event, compared in single precision.

    Returns:
        Sums (time, number), in the order of `benchmark_sums.BenchmarkSums`, and the largest
        distance of a true value that counts from [0, 1] (time,), 0 or less where there is none.
        NaN in a pixel that counts makes the error sums NaN.
    """
    batch, lead_times = prediction.shape[:2]
    clips_at_a_time = max(1, PIXELS_AT_A_TIME // (prediction.shape[3] * prediction.shape[4]))
    slices = [slice(clip, clip + clips_at_a_time) for clip in range(0, batch, clips_at_a_time)]
    sums, outside = [], []
    for lead_time in range(lead_times):
        parts = [
            _sums_of_frames(
                prediction[clips, lead_time, 0],
                truth[clips, lead_time, 0],
                mask[clips, lead_time, 0],
                threshold_pixels,
            )
            for clips in slices
        ]
        sums.append(torch.stack([own for own, _ in parts]).sum(dim=0))
        outside.append(torch.stack([own for _, own in parts]).amax(dim=0))
    # Results leave the device once.
    return torch.stack(sums).cpu().numpy(), torch.stack(outside).double().cpu().numpy()


def _sums_of_frames(
    prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, thresholds: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of frames (batch, y, x) of one lead time: (number,) and ()."""
    zero = torch.zeros((), device=truth.device)
    prediction = torch.where(mask, prediction.float().clamp(0.0, 1.0), zero)
    truth = torch.where(mask, truth.float(), zero)
    lowest, highest = torch.aminmax(truth)
    forecast = [(prediction >= threshold) & mask for threshold in thresholds]
    observed = [(truth >= threshold) & mask for threshold in thresholds]
    hits = [both[0] & both[1] for both in zip(forecast, observed, strict=True)]
    error = (prediction - truth).abs_()
    weights = balanced_weights(truth)
    terms = [error * error, error, weights * error * error, weights * error]
    down, across = (_gradient_difference(prediction, truth, mask, axis) for axis in (1, 2))
    counts = [*hits, *forecast, *observed, mask]
    sums = [events.sum().double() for events in counts] + [_sum(term) for term in terms]
    return torch.stack([*sums, down + across]), torch.maximum(highest - 1.0, -lowest)


def _gradient_difference(
    prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, axis: int
) -> torch.Tensor:
    """Sum of | |Δ prediction| − |Δ truth| | between neighbours along `axis` that both count."""
    length = truth.shape[axis] - 1
    difference = prediction.diff(dim=axis).abs_().sub_(truth.diff(dim=axis).abs_()).abs_()
    both = mask.narrow(axis, 0, length) & mask.narrow(axis, 1, length)
    return _sum(difference.mul_(both))


def _sum(values: torch.Tensor) -> torch.Tensor:
    """Sum in float64 of sums in float32 along rows: as exact as is needed, without a wide copy."""
    return values.sum(dim=-1).sum(dtype=torch.float64)
