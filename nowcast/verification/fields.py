"""What scores are given, looked at before it is scored: shapes, values, thresholds, rain rates.

Accumulators share these, so that what counts, what is refused and what a dry pixel is are the same
for all of them. Scores themselves are elsewhere.
"""

import itertools
import math
from collections.abc import Sequence

import torch

from nowcast.errors import InputError
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
from nowcast.verification.accumulator import Field

LOG_RATE_AT_ZERO = math.log(pixel_to_rain_rate(0.0))
LOG_RATE_PER_PIXEL = math.log(pixel_to_rain_rate(1.0)) - LOG_RATE_AT_ZERO


def event_thresholds(thresholds_mm_h: Sequence[float]) -> tuple[float, ...]:
    """Thresholds as floats.

    Raises:
        InputError: there is none, or they are not positive and rising.
    """
    rates = tuple(float(rate) for rate in thresholds_mm_h)
    rising = all(low < high for low, high in itertools.pairwise(rates))
    if not rates or not rates[0] > 0 or not rising or math.isinf(rates[-1]):
        raise InputError(f"thresholds: expected positive rising rates in mm/h, found {rates}")
    return rates


def threshold_pixels(thresholds_mm_h: Sequence[float]) -> list[float]:
    """Pixel values of rain-rate thresholds, to be compared with in single precision."""
    return [float(rain_rate_to_pixel(rate)) for rate in thresholds_mm_h]


def rain_rates(pixels: torch.Tensor) -> torch.Tensor:
    """Rain rate in mm/h of pixel values, of the same dtype; pixel value 0 is 0 mm/h.

    `units.pixel_to_rain_rate` otherwise, whose logarithm is a straight line: one exponential, which
    is several times faster than a power. Without the step at 0, dry pixels would be 0.017 mm/h.
    """
    rates = (pixels * LOG_RATE_PER_PIXEL).add_(LOG_RATE_AT_ZERO).exp_()
    # A comparison written as floats is several times faster on a CPU than one written as bool.
    return rates.mul_(torch.gt(pixels, 0.0, out=torch.empty_like(pixels)))


def checked_fields(
    prediction: Field, truth: Field, mask: Field, lead_times: int, members: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fields to score as tensors, if their shapes and dtypes fit.

    Args:
        prediction: pixel values, `(batch, lead_times, 1, y, x)`, or with members
            `(batch, members, lead_times, 1, y, x)`.
        truth: pixel values, `(batch, lead_times, 1, y, x)`.
        mask: True where a pixel counts, bool, as `truth`.
        lead_times: number of frames of every clip.
        members: number of ensemble members; None for a forecast without a member axis.

    Raises:
        InputError: a shape or dtype does not fit.
    """
    forecast, observed, counts = (
        torch.as_tensor(field).detach() for field in (prediction, truth, mask)
    )
    found = tuple(forecast.shape)
    ensemble = () if members is None else (members,)
    expected = (*ensemble, lead_times, 1)
    if len(found) != len(expected) + 3 or found[1:-2] != expected or 0 in found:
        text = ", ".join(map(str, expected))
        raise InputError(
            f"prediction to score: found shape {found}, expected (batch, {text}, y, x)"
        )
    shape = (found[0], *found[1 + len(ensemble) :])
    for name, field in (("truth", observed), ("mask", counts)):
        if tuple(field.shape) != shape:
            raise InputError(f"{name} to score: found shape {tuple(field.shape)}, expected {shape}")
    for name, field in (("prediction", forecast), ("truth", observed)):
        if not field.is_floating_point():
            raise InputError(f"{name} to score: found {field.dtype}, expected floats in [0, 1]")
    if counts.dtype != torch.bool:
        raise InputError(f"mask to score: found {counts.dtype}, expected bool")
    return forecast, observed, counts


def counted_pixels(
    forecast: torch.Tensor, observed: torch.Tensor, counts: torch.Tensor, lead_time: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames in single precision, forecasts clipped to [0, 1], 0 in both where a pixel is masked.

    Args:
        forecast: pixel values, any shape that `counts` broadcasts against.
        observed: pixel values, as `counts`.
        counts: True where a pixel counts.
        lead_time: of these frames, the first being 1: what an error names.

    Raises:
        InputError: a pixel that counts is NaN or, in `observed`, outside of [0, 1].
    """
    zero = forecast.new_zeros((), dtype=torch.float32)
    clipped = torch.where(counts, forecast.float().clamp(0.0, 1.0), zero)
    truth = torch.where(counts, observed.float(), zero)
    lowest, highest = truth.aminmax()
    if clipped.sum().isnan() or not (lowest >= 0.0 and highest <= 1.0):
        if clipped.isnan().any() or truth.isnan().any():
            raise InputError(f"scores: found NaN at lead time {lead_time} in a pixel that counts")
        raise InputError(
            f"truth to score: found values from {float(lowest):g} to {float(highest):g} at lead "
            f"time {lead_time} in pixels that count, expected [0, 1]"
        )
    return clipped, truth
