"""Errors of forecast rain rates in mm/h, accumulated over clips and kept per lead time.

Rain rates follow from pixel values by HKO-7's Z–R relation (`radar.units`); pixel value 0 is dry,
0 mm/h. Which clips are scored, and by which forecast, is decided elsewhere.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.verification.accumulator import LEAD_TIME, Accumulator, Field, Sums
from nowcast.verification.fields import (
    LOG_RATE_AT_ZERO,
    LOG_RATE_PER_PIXEL,
    checked_fields,
    rain_rates,
)
from nowcast.verification.pieces import Frame, Mask, refuse_what_cannot_be_scored, sums_of_pieces

RAIN_RATE_NAMES = (
    *("mean_error_mm_h", "mae_mm_h", "rmse_mm_h"),
    *("mean_forecast_mm_h", "mean_observed_mm_h"),
)

_TOTALS = ("forecast_mm_h", "observed_mm_h", "absolute_error_mm_h", "squared_error_mm2_h2")


class RainRateErrors(Accumulator):
    """Accumulator of mean error, mean absolute error and root mean squared error in mm/h.

    Every pixel that counts has the same part, of whichever clip it is. Predictions are clipped to
    [0, 1] first. Masked pixels take no part, whatever their value, NaN too; NaN in one that counts
    is refused, in forecast and truth. `pysteps.verification.detcontscores` has no masks and leaves
    out every pixel in which either is NaN, so that methods may be scored on different pixels.

    Args:
        lead_times: number of forecast frames of every clip.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        RAIN_RATE_NAMES, (LEAD_TIME,)
    )

    def __init__(self, lead_times: int) -> None:
        super().__init__(lead_times)
        self.sums["pixels"] = np.zeros(lead_times, np.int64)
        self.sums |= {name: np.zeros(lead_times) for name in _TOTALS}

    def update(self, prediction: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips.

        Rain rates are in float32 and summed in float64. Fields on the CPU are scored by as many
        threads as `torch.get_num_threads()` says, small frames by one; results do not depend on
        their number.

        Args:
            prediction: pixel values (batch, time, 1, y, x), clipped to [0, 1], infinities too.
            truth: observed pixel values in [0, 1], floating, same shape.
            mask: True where a pixel counts, same shape.

        Raises:
            InputError: shapes or dtypes do not fit, or a pixel that counts is NaN or, in `truth`,
                outside of [0, 1]; the accumulator stays as it was.
        """
        fields = checked_fields(prediction, truth, mask, self.lead_times)
        if all(field.device.type == "cpu" for field in fields):
            found, outside = sums_of_pieces(*fields, _RainRateSums)
        else:
            found, outside = rain_sums_on_device(*fields)
        refuse_what_cannot_be_scored(found, outside)
        self.sums["clips"] = self.sums["clips"] + len(fields[0])
        for name, values in zip(("pixels", *_TOTALS), found.T, strict=True):
            self.sums[name] = self.sums[name] + values.astype(self.sums[name].dtype)

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores per lead time that follow from sums, over the pixels that count; NaN without any.

        Returns:
            `mean_error_mm_h` (time,): forecast minus observed, also called bias.
            `mae_mm_h` (time,): mean absolute error.
            `rmse_mm_h` (time,): root of the mean squared error of all clips' pixels.
            `mean_forecast_mm_h`, `mean_observed_mm_h` (time,): mean rain rates.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            forecast, observed, absolute, squared = (
                sums[name] / sums["pixels"] for name in _TOTALS
            )
        return {
            "mean_error_mm_h": forecast - observed,
            "mae_mm_h": absolute,
            "rmse_mm_h": np.sqrt(squared),
            "mean_forecast_mm_h": forecast,
            "mean_observed_mm_h": observed,
        }


class _RainRateSums:
    """Sums over pieces of frames that all have one shape: see `pieces.PieceSums`."""

    def __init__(self, rows: int, given_rows: int, columns: int) -> None:
        self._rows = rows
        self._forecast, self._observed, self._error = np.empty((3, rows, columns), np.float32)
        self._wet = np.empty((rows, columns), np.bool_)

    def __call__(self, prediction: Frame, truth: Frame, mask: Mask) -> list[float]:
        """Pixels that count; forecast and observed rain, absolute and squared errors there."""
        counts = mask[: self._rows].view(np.uint8)
        clipped = np.clip(
            prediction[: self._rows], np.float32(0.0), np.float32(1.0), out=self._forecast
        )
        forecast = self._rates(clipped, self._forecast)
        observed = self._rates(truth[: self._rows], self._observed)
        error = cv2.absdiff(forecast, observed, self._error)
        return [
            cv2.countNonZero(counts),
            # Rain rates are not negative: their L1 norm is their sum.
            cv2.norm(forecast, cv2.NORM_L1, counts),
            cv2.norm(observed, cv2.NORM_L1, counts),
            cv2.norm(error, cv2.NORM_L1, counts),
            cv2.norm(error, cv2.NORM_L2SQR, counts),
        ]

    def _rates(self, pixels: Frame, rates: Frame) -> Frame:
        """`fields.rain_rates` into a buffer, which may be the pixels' own."""
        np.greater(pixels, np.float32(0.0), out=self._wet)
        np.multiply(pixels, np.float32(LOG_RATE_PER_PIXEL), out=rates)
        np.add(rates, np.float32(LOG_RATE_AT_ZERO), out=rates)
        cv2.exp(rates, rates)
        return np.multiply(rates, self._wet, out=rates)


@torch.no_grad()
def rain_sums_on_device(
    prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over clips per lead time with torch, for fields on a GPU or another device.

    Args:
        prediction: pixel values (batch, time, 1, y, x), of a floating dtype.
        truth: same shape, of a floating dtype.
        mask: bool, same shape.

    Returns:
        Pixels that count, forecast and observed rain, absolute and squared errors (time, 5), and
        the largest distance of a true value that counts from [0, 1] (time,).
    """
    zero = torch.zeros((), device=truth.device)
    sums, outside = [], []
    for forecast, observed, counts in zip(
        *(field.unbind(dim=1) for field in (prediction, truth, mask)), strict=True
    ):
        pixels = torch.where(counts, observed.float(), zero)
        lowest, highest = pixels.aminmax()
        outside.append(torch.maximum(highest - 1.0, -lowest))
        rates = rain_rates(torch.where(counts, forecast.float().clamp(0.0, 1.0), zero))
        true_rates = rain_rates(pixels)
        error = (rates - true_rates).abs_()
        terms = (counts, rates, true_rates, error, error * error)
        sums.append(torch.stack([term.sum(dim=-1).sum(dtype=torch.float64) for term in terms]))
    # Results leave the device once.
    return torch.stack(sums).cpu().numpy(), torch.stack(outside).double().cpu().numpy()
