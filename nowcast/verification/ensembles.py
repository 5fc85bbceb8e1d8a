"""Scores of ensembles: whether members are equally likely, and whether they say how sure they are.

Continuous ranked probability score (Hersbach, Weather and Forecasting 15 (2000), 559–570), its fair
version (Ferro, Quarterly Journal of the Royal Meteorological Society 140 (2014), 1917–1923), spread
and skill (Fortin et al., Journal of Hydrometeorology 15 (2014), 1708–1713), rank histogram (Hamill,
Monthly Weather Review 129 (2001), 550–560), reliability and Brier score of exceedances.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import LEAD_TIME, THRESHOLD, Accumulator, Field, Sums
from nowcast.verification.fields import (
    checked_fields,
    counted_pixels,
    event_thresholds,
    rain_rates,
    threshold_pixels,
)
from nowcast.verification.scores import THRESHOLDS_MM_H

RANK = "rank"
PROBABILITY = "probability"
ERRORS = ("absolute_errors", "member_differences", "variances", "squared_errors_of_mean")
ERROR_SCORES = (
    *("crps_mm_h", "crps_fair_mm_h", "spread_mm_h", "error_of_mean_mm_h"),
    "spread_skill_ratio",
)

VALUES_AT_A_TIME = 1 << 18
"""Values of all members that are scored in one go: their intermediates fit a CPU's cache."""


class EnsembleScores(Accumulator):
    """Accumulator of ensemble scores per lead time.

    Rain rates are in mm/h, pixel value 0 is 0 mm/h. An event is a value at or above the threshold,
    its forecast probability the share of members that have it. Masked pixels take no part, whatever
    their value, NaN too; NaN in one that counts is refused, in any member and in the truth, where
    pysteps leaves out the pixel if one member is NaN there. Where the observation equals a
    member, `pysteps.verification.probscores` leaves a part of the CRPS out (the interval between
    that member and the next lower one); here and in `scores.probability` nothing is left out.

    Args:
        lead_times: number of forecast frames of every clip.
        members: number of ensemble members.
        thresholds_mm_h: rain rates that make an event, in mm/h, rising. They are compared as pixel
            values (HKO-7's Z–R) in single precision.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(ERROR_SCORES, (LEAD_TIME,)),
        "rank_histogram": (LEAD_TIME, RANK),
        "forecast_count": (LEAD_TIME, THRESHOLD, PROBABILITY),
        "observed_frequency": (LEAD_TIME, THRESHOLD, PROBABILITY),
        "brier": (LEAD_TIME, THRESHOLD),
    }
    COUNTS: ClassVar[frozenset[str]] = frozenset(("rank_histogram", "forecast_count"))

    def __init__(
        self, lead_times: int, members: int, thresholds_mm_h: Sequence[float] = THRESHOLDS_MM_H
    ) -> None:
        super().__init__(lead_times)
        if members < 1:
            raise InputError(f"ensemble members: expected at least 1, found {members}")
        self.members = members
        self.thresholds_mm_h = event_thresholds(thresholds_mm_h)
        self.sums["pixels"] = np.zeros(lead_times, np.int64)
        for name in ERRORS:
            self.sums[name] = np.zeros(lead_times, np.float64)
        self.sums["rank_histogram"] = np.zeros((lead_times, members + 1), np.float64)
        for name in ("forecast_count", "observed_count"):
            shape = (lead_times, len(self.thresholds_mm_h), members + 1)
            self.sums[name] = np.zeros(shape, np.int64)

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Thresholds in mm/h, ranks and forecast probabilities, by the names of their axes."""
        ranks = range(self.members + 1)
        return {
            THRESHOLD: self.thresholds_mm_h,
            RANK: tuple(ranks),
            PROBABILITY: tuple(rank / self.members for rank in ranks),
        }

    @torch.no_grad()
    def update(self, members: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips, a part of a frame at a time.

        Args:
            members: pixel values `(batch, member, time, 1, y, x)`, clipped to [0, 1].
            truth: observed pixel values in [0, 1], floating, `(batch, time, 1, y, x)`.
            mask: True where a pixel counts, as `truth`.

        Raises:
            InputError: shapes or dtypes do not fit, or a pixel that counts is NaN or, in `truth`,
                outside of [0, 1]. The accumulator stays as it was.
        """
        forecast, observed, counts = checked_fields(
            members, truth, mask, self.lead_times, self.members
        )
        thresholds = threshold_pixels(self.thresholds_mm_h)
        found = {name: np.zeros_like(values) for name, values in self.sums.items()}
        found["clips"] += forecast.shape[0]
        pixels_at_a_time = max(1, VALUES_AT_A_TIME // self.members)
        for clip in range(forecast.shape[0]):
            for index in range(self.lead_times):
                parts = zip(
                    forecast[clip, :, index, 0].flatten(1).split(pixels_at_a_time, dim=1),
                    observed[clip, index, 0].flatten().split(pixels_at_a_time),
                    counts[clip, index, 0].flatten().split(pixels_at_a_time),
                    strict=True,
                )
                for part_forecast, part_observed, part_counts in parts:
                    pixels, true_pixels = counted_pixels(
                        part_forecast, part_observed, part_counts, index + 1
                    )
                    # Comparisons, masks and counts as floats are several times faster on a CPU
                    # than as bool, and exact.
                    weights = part_counts.float()
                    part = {
                        "pixels": part_counts.sum().cpu().numpy(),
                        **_errors(pixels, true_pixels),
                        "rank_histogram": _rank_histogram(pixels, true_pixels, weights),
                        **_reliability(pixels, true_pixels, weights, thresholds),
                    }
                    for name, values in part.items():
                        found[name][index] += values
        for name, values in found.items():
            self.sums[name] = self.sums[name] + values

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores that follow from sums over the pixels that count; NaN where there is none.

        With M members x_i and the observation y of a pixel:

        Returns:
            `crps_mm_h` (time,): mean of Σ |x_i − y| / M − Σ_{i<j} |x_i − x_j| / M², the score of
            the members' empirical distribution; of one member, the mean absolute error.
            `crps_fair_mm_h` (time,): the same with M (M − 1) in place of M², which does not favour
            small ensembles; NaN of one member.
            `spread_mm_h` (time,): root of the mean variance of the members (divided by M − 1; NaN
            of one member). `error_of_mean_mm_h` (time,): root mean square error of their mean.
            `spread_skill_ratio` (time,): √((M + 1) / M) times the former divided by the latter; the
            factor makes it 1 for an ensemble whose members and observation are drawn alike,
            whatever M (Fortin et al. 2014).
            `rank_histogram` (time, rank): pixels by the number of members below the observation. A
            pixel where e members equal the observation is shared evenly among the e + 1 ranks that
            it may have, so that one dry in all of them adds 1 / (M + 1) to each; pysteps draws one
            of the ranks at random.
            `forecast_count` (time, threshold, probability): pixels by the share k / M of members
            with an event. `observed_frequency`, the same axes: the share of those pixels that have
            an event; NaN where there is no such pixel.
            `brier` (time, threshold): mean of (k / M − o)², o being 1 where there is an event.
        """
        count = self.members
        pixels = sums["pixels"]
        forecasts, events = sums["forecast_count"], sums["observed_count"]
        probability = np.arange(count + 1) / count
        with np.errstate(divide="ignore", invalid="ignore"):
            error, difference, variance, squared = (sums[name] / pixels for name in ERRORS)
            pairs = np.float64(count * (count - 1))
            spread = np.sqrt(variance)
            error_of_mean = np.sqrt(squared)
            brier = (forecasts - events) * probability**2 + events * (1.0 - probability) ** 2
            return {
                "crps_mm_h": error - difference / count**2,
                "crps_fair_mm_h": error - difference / pairs,
                "spread_mm_h": spread,
                "error_of_mean_mm_h": error_of_mean,
                "spread_skill_ratio": np.sqrt((count + 1) / count) * spread / error_of_mean,
                "rank_histogram": sums["rank_histogram"],
                "forecast_count": forecasts,
                "observed_frequency": events / forecasts,
                "brier": brier.sum(axis=-1) / pixels[..., None],
            }


def sorting_network(length: int) -> Iterator[tuple[int, int]]:
    """Pairs of places to compare, and to swap if out of order, that sort any sequence of a length.

    Batcher's odd–even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    The pairs do not depend on the values, so that many sequences are sorted at once by minima and
    maxima of whole arrays.
    """
    widest = 1 << max(0, (length - 1).bit_length() - 1)
    step = widest
    while step > 0:
        merged, residue, distance = widest, 0, step
        while True:
            for place in range(length - distance):
                if place & step == residue:
                    yield place, place + distance
            if merged == step:
                break
            distance, merged, residue = merged - step, merged // 2, step
        step //= 2


def _errors(pixels: torch.Tensor, truth: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """Sums over pixels of errors in mm/h, of members (member, pixel) and the truth (pixel,).

    Pixels that are 0 in all, as masked ones are, add nothing.
    """
    rates, observed = rain_rates(pixels), rain_rates(truth)
    members = len(rates)
    absolute = (rates - observed).abs_().mean(dim=0)
    mean = rates.mean(dim=0)
    # NaN of one member, which has no variance.
    variance = (rates - mean).square_().sum(dim=0).div_(members - 1 if members > 1 else torch.nan)
    squared = (mean - observed).square_()
    ordered = list(rates)
    for low, high in sorting_network(members):
        ordered[low], ordered[high] = (
            torch.minimum(ordered[low], ordered[high]),
            torch.maximum(ordered[low], ordered[high]),
        )
    # Σ_{i<j} |x_i − x_j| is Σ_i (2 i − M − 1) x_(i) of the members in order.
    factors = torch.arange(1 - members, members, 2, dtype=torch.float64)
    by_order = torch.stack([values.sum() for values in ordered]).double().cpu()
    sums = [values.sum().double().cpu() for values in (absolute, variance, squared)]
    sums.insert(1, (factors * by_order).sum())
    return {name: value.numpy() for name, value in zip(ERRORS, sums, strict=True)}


def _rank_histogram(
    pixels: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor
) -> NDArray[np.float64]:
    """Pixels that count (1, not 0) by rank of the truth, `(rank,)`."""
    ranks = len(pixels) + 1
    flags = torch.empty_like(pixels)
    below = torch.lt(pixels, truth, out=flags).sum(dim=0)
    equal = torch.eq(pixels, truth, out=flags).sum(dim=0)
    cell = below.mul_(ranks).add_(equal)
    cells = _counts_of(cell, counts, ranks * ranks).reshape(ranks, ranks)
    histogram = np.zeros(ranks)
    for ties in range(ranks):
        share = cells[: ranks - ties, ties] / (ties + 1)
        for place in range(ties + 1):
            histogram[place : place + ranks - ties] += share
    return histogram


def _reliability(
    pixels: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor, thresholds: list[float]
) -> dict[str, NDArray[np.int64]]:
    """Pixels that count (1, not 0), and those of them with an event, `(threshold, probability)`."""
    classes = len(pixels) + 1
    flags, event = torch.empty_like(pixels), torch.empty_like(truth)
    cells = []
    for threshold in thresholds:
        with_event = torch.ge(pixels, threshold, out=flags).sum(dim=0)
        cell = with_event.mul_(2.0).add_(torch.ge(truth, threshold, out=event))
        cells.append(_counts_of(cell, counts, 2 * classes).reshape(classes, 2))
    table = np.stack(cells)
    return {"forecast_count": table.sum(axis=2), "observed_count": table[:, :, 1]}


def _counts_of(cell: torch.Tensor, counts: torch.Tensor, cells: int) -> NDArray[np.int64]:
    """How many of the pixels that count are in each cell; cells are below 2²⁴."""
    shifted = cell.add(1.0).mul_(counts).int()
    return np.asarray(torch.bincount(shifted, minlength=cells + 1)[1:].cpu().numpy())
