"""Scores of the HKO-7 benchmark, accumulated over clips and kept per lead time.

Counts of the contingency table and their skill scores, squared and absolute errors with and
without the balanced weights, and the gradient difference. Source: Shi et al., NeurIPS 2017,
section 3.2, and the evaluation code that its authors publish. Which clips are scored, and by which
forecast, is decided elsewhere.
"""

import itertools
from collections.abc import Sequence
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.verification.weights import balanced_weights

THRESHOLDS_MM_H = (0.5, 2.0, 5.0, 10.0, 30.0)
"""The benchmark's rain-rate thresholds, in mm/h."""

ERROR_NAMES = ("mse", "mae", "balanced_mse", "balanced_mae")
COUNT_NAMES = ("hits", "misses", "false_alarms", "correct_negatives")
SKILL_NAMES = ("pod", "far", "csi", "hss", "gss")

PIXELS_AT_A_TIME = 1 << 18
"""Pixels of one lead time that are scored in one go: their intermediates fit a CPU's cache."""


def skill_scores(
    hits: ArrayLike, misses: ArrayLike, false_alarms: ArrayLike, correct_negatives: ArrayLike
) -> dict[str, np.ndarray]:
    """POD, FAR, CSI, HSS and GSS of contingency tables, NaN where one is undefined (0 / 0).

    With a hits, b false alarms, c misses and d correct negatives: POD = a / (a + c),
    FAR = b / (a + b), CSI = a / (a + b + c),
    HSS = 2 (a d − b c) / ((a + c)(c + d) + (a + b)(b + d)), and
    GSS = (a d − b c) / ((b + c)(a + b + c + d) + a d − b c), the Gilbert skill score (also called
    equitable threat score).

    Args:
        hits: observed and forecast, any shape.
        misses: observed, not forecast; same shape.
        false_alarms: forecast, not observed; same shape.
        correct_negatives: neither; same shape.
    """
    a, c, b, d = (
        np.asarray(table, np.float64) for table in (hits, misses, false_alarms, correct_negatives)
    )
    more_than_chance = a * d - b * c
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "pod": a / (a + c),
            "far": b / (a + b),
            "csi": a / (a + b + c),
            "hss": 2.0 * more_than_chance / ((a + c) * (c + d) + (a + b) * (b + d)),
            "gss": more_than_chance / ((b + c) * (a + b + c + d) + more_than_chance),
        }


class Scores:
    """Accumulator of the benchmark's scores per lead time.

    Args:
        lead_times: number of forecast frames of every clip.
        thresholds_mm_h: rain rates that make an event, in mm/h, rising. They are compared as
            pixel values (HKO-7's Z–R) in single precision.
    """

    def __init__(self, lead_times: int, thresholds_mm_h: Sequence[float] = THRESHOLDS_MM_H) -> None:
        rates = tuple(float(rate) for rate in thresholds_mm_h)
        if lead_times < 1:
            raise InputError(f"lead times: expected at least 1, found {lead_times}")
        rising = all(low < high for low, high in itertools.pairwise(rates))
        if not rates or not rates[0] > 0 or not rising:
            raise InputError(f"thresholds: expected positive rising rates in mm/h, found {rates}")
        self.lead_times = lead_times
        self.thresholds_mm_h = rates
        self.clips = 0
        self._threshold_pixels = [float(rain_rate_to_pixel(rate)) for rate in rates]
        classes = len(rates) + 1
        self._joint = np.zeros((lead_times, classes, classes), np.int64)
        self._sums = np.zeros((lead_times, len(ERROR_NAMES) + 1), np.float64)

    def update(
        self,
        prediction: torch.Tensor | np.ndarray,
        truth: torch.Tensor | np.ndarray,
        mask: torch.Tensor | np.ndarray,
    ) -> None:
        """Add a batch of clips.

        Everything is cast to float32. A NaN where `mask` is False is left out like any masked
        pixel; where `mask` is True it is refused, and the accumulator stays as it was.

        Args:
            prediction: pixel values (batch, time, 1, y, x), clipped to [0, 1], infinities too.
            truth: observed pixel values in [0, 1], floating, same shape.
            mask: True where a pixel counts, same shape.

        Raises:
            InputError: shapes or dtypes do not fit, or a pixel that counts is NaN or, in `truth`,
                outside of [0, 1].
        """
        forecast, observed, counts = (
            torch.as_tensor(field).detach() for field in (prediction, truth, mask)
        )
        self._check(forecast, observed, counts)
        joint, sums, outside = _tally(forecast, observed, counts, self._threshold_pixels)
        if (outside > 0).any():
            lead_time = int(np.argmax(outside > 0)) + 1
            raise InputError(
                f"truth to score: found a value by {outside[lead_time - 1]:g} outside of [0, 1] "
                f"at lead time {lead_time} in a pixel that counts"
            )
        if not np.isfinite(sums).all():
            lead_time = int(np.flatnonzero(~np.isfinite(sums).all(axis=1))[0]) + 1
            raise InputError(f"scores: found NaN at lead time {lead_time} in a pixel that counts")
        self._joint += joint
        self._sums += sums
        self.clips += forecast.shape[0]

    def merge(self, other: "Scores") -> Self:
        """Add what `other` has accumulated; returns this accumulator.

        Raises:
            InputError: `other` has other lead times or thresholds.
        """
        mine, theirs = (
            f"{scores.lead_times} lead times and thresholds {scores.thresholds_mm_h} mm/h"
            for scores in (self, other)
        )
        if mine != theirs:
            raise InputError(f"scores to merge: found {theirs}, expected {mine}")
        self._joint += other._joint
        self._sums += other._sums
        self.clips += other.clips
        return self

    def compute(self) -> dict[str, np.ndarray]:
        """Scores per lead time.

        Returns:
            `hits`, `misses`, `false_alarms`, `correct_negatives` (time, threshold), int64: pixels
            that count, summed over all clips; an event is a value at or above the threshold.
            `pod`, `far`, `csi`, `hss`, `gss` (time, threshold): from those sums, NaN where 0 / 0.
            `mse`, `mae`, `balanced_mse`, `balanced_mae`, `gdl` (time,): the benchmark's scale,
            sums over the pixels of a frame that count, averaged over clips; a clip whose frame is
            masked altogether adds 0. `gdl` sums | |Δ prediction| − |Δ truth| | over pairs of
            neighbours along y and along x of which both count.
            `mse_per_pixel` and so on for the first four: the same sum over all clips divided by
            the number of pixels that count; NaN where there is none.
        """
        at_least = self._joint[:, ::-1, ::-1].cumsum(axis=1).cumsum(axis=2)[:, ::-1, ::-1]
        hits = np.diagonal(at_least, axis1=1, axis2=2)[:, 1:]
        pixels = at_least[:, 0, 0]
        counts = {
            "hits": hits,
            "misses": at_least[:, 0, 1:] - hits,
            "false_alarms": at_least[:, 1:, 0] - hits,
        }
        counts["correct_negatives"] = pixels[:, None] - sum(counts.values())
        counts = {name: np.ascontiguousarray(table) for name, table in counts.items()}
        result = counts | skill_scores(**counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            per_clip = self._sums / self.clips
            per_pixel = self._sums / pixels[:, None]
        for index, name in enumerate((*ERROR_NAMES, "gdl")):
            result[name] = per_clip[:, index]
        for index, name in enumerate(ERROR_NAMES):
            result[f"{name}_per_pixel"] = per_pixel[:, index]
        return result

    def summary(self) -> dict[str, np.ndarray]:
        """Mean over lead times of every score that `compute` gives, counts left out.

        Lead times at which a score is undefined (NaN) are left out of its mean; a score undefined
        at every lead time stays NaN. Skill scores are (threshold,), the others ().
        """
        return {
            name: mean_of_defined(values)
            for name, values in self.compute().items()
            if name not in COUNT_NAMES
        }

    def _check(self, prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> None:
        shape = tuple(prediction.shape)
        if len(shape) != 5 or shape[1:3] != (self.lead_times, 1) or 0 in shape:
            raise InputError(
                f"prediction to score: found shape {shape}, "
                f"expected (batch, {self.lead_times}, 1, y, x)"
            )
        for name, field in (("truth", truth), ("mask", mask)):
            if tuple(field.shape) != shape:
                raise InputError(
                    f"{name} to score: found shape {tuple(field.shape)}, expected {shape}"
                )
        for name, field in (("prediction", prediction), ("truth", truth)):
            if not field.is_floating_point():
                raise InputError(f"{name} to score: found {field.dtype}, expected floats in [0, 1]")
        if mask.dtype != torch.bool:
            raise InputError(f"mask to score: found {mask.dtype}, expected bool")


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return cast(np.ndarray, np.where(defined, values, 0.0).sum(axis=0) / defined.sum(axis=0))


@torch.no_grad()
def _tally(
    prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, thresholds: list[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joint histogram (time, forecast class, observed class), error sums (time, 5), and how far
    the truth lies outside of [0, 1] at most (time,); NaN where the truth has one.

    A class is the number of thresholds that a value reaches. One lead time and a few clips at a
    time, so that memory stays bounded and the results leave the device once.
    """
    batch, lead_times = prediction.shape[:2]
    clips_at_a_time = max(1, PIXELS_AT_A_TIME // (prediction.shape[3] * prediction.shape[4]))
    classes = len(thresholds) + 1
    joints, sums, outsides = [], [], []
    for lead_time in range(lead_times):
        parts = [
            _tally_frames(
                prediction[first : first + clips_at_a_time, lead_time, 0].float(),
                truth[first : first + clips_at_a_time, lead_time, 0].float(),
                mask[first : first + clips_at_a_time, lead_time, 0],
                thresholds,
            )
            for first in range(0, batch, clips_at_a_time)
        ]
        joints.append(torch.stack([joint for joint, _, _ in parts]).sum(dim=0))
        sums.append(torch.stack([sums_ for _, sums_, _ in parts]).sum(dim=0))
        outsides.append(torch.stack([outside for _, _, outside in parts]).amax(dim=0))
    joint = torch.stack(joints).cpu().numpy().reshape(lead_times, classes, classes)
    return joint, torch.stack(sums).cpu().numpy(), torch.stack(outsides).cpu().numpy()


def _tally_frames(
    prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, thresholds: list[float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same of frames (batch, y, x) of one lead time: (classes²,), (5,) and ()."""
    # Masked pixels become 0 in both, which takes their errors out. Clearing their bits does that to
    # NaN too, at the speed of a multiplication.
    kept_bits = mask.to(torch.int32).neg_()
    prediction = prediction.clamp(0.0, 1.0).view(torch.int32).bitwise_and_(kept_bits)
    prediction = prediction.view(torch.float32)
    truth = truth.view(torch.int32).bitwise_and(kept_bits).view(torch.float32)
    counts = mask.to(torch.float32)
    lowest, highest = torch.aminmax(truth)
    outside = torch.maximum(highest - 1.0, -lowest)

    classes = len(thresholds) + 1
    # Comparisons written as floats are several times faster on a CPU than those written as bool.
    reached = torch.empty_like(truth)
    forecast_class, observed_class = torch.zeros_like(truth), torch.zeros_like(truth)
    for threshold in thresholds:
        forecast_class.add_(torch.ge(prediction, threshold, out=reached))
        observed_class.add_(torch.ge(truth, threshold, out=reached))
    # Class 0 of this sum is what is masked; one histogram then serves all thresholds.
    joint_class = forecast_class.mul_(classes).add_(observed_class).add_(1.0).mul_(counts)
    smallest = torch.uint8 if classes * classes <= 255 else torch.int32
    joint = torch.bincount(joint_class.to(smallest).flatten(), minlength=classes * classes + 1)[1:]

    weights = balanced_weights(truth)
    absolute = (prediction - truth).abs_()
    squared = absolute * absolute
    terms = [squared, absolute, weights * squared, weights.mul_(absolute)]
    sums = torch.stack(
        [_sum(term) for term in terms]
        + [
            _gradient_difference(prediction, truth, counts, axis=1)
            + _gradient_difference(prediction, truth, counts, axis=2)
        ]
    )
    return joint, sums, outside


def _gradient_difference(
    prediction: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor, axis: int
) -> torch.Tensor:
    """Sum of | |Δ prediction| − |Δ truth| | between neighbours along `axis` that both count."""
    length = truth.shape[axis] - 1
    difference = prediction.diff(dim=axis).abs_().sub_(truth.diff(dim=axis).abs_()).abs_()
    both = counts.narrow(axis, 0, length) * counts.narrow(axis, 1, length)
    return _sum(difference.mul_(both))


def _sum(values: torch.Tensor) -> torch.Tensor:
    """Sum in float64 of sums in float32 along rows: as exact as is needed, without a wide copy."""
    return values.sum(dim=-1).sum(dtype=torch.float64)
