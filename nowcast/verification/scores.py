"""Scores of the HKO-7 benchmark, accumulated over clips and kept per lead time.

Counts of the contingency table and their skill scores, squared and absolute errors with and
without the balanced weights, and the gradient difference. Source: Shi et al., NeurIPS 2017,
section 3.2, and the evaluation code that its authors publish. How the sums are taken is in
`benchmark_sums` and `device_sums`; which clips are scored, and by which forecast, is decided
elsewhere.

What is an event, and what counts, is the same for all scores here:

- An event is a value at or above (>=) the threshold, both as pixel values in single precision.
  pysteps' `det_cat_fct` takes values above (>) it.
- A masked pixel takes no part, whatever its value. A gradient difference needs both neighbours.
- NaN in a pixel that counts is refused. pysteps' takes it for a value without an event.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nowcast.verification.accumulator import LEAD_TIME, THRESHOLD, Accumulator, Field, Sums
from nowcast.verification.benchmark_sums import BenchmarkSums
from nowcast.verification.contingency import (
    COUNT_NAMES,
    SKILL_NAMES,
    contingency_tables,
    skill_scores,
)
from nowcast.verification.device_sums import sums_on_device
from nowcast.verification.fields import checked_fields, event_thresholds, threshold_pixels
from nowcast.verification.pieces import refuse_what_cannot_be_scored, sums_of_pieces

__all__ = [
    "COUNT_NAMES",
    "ERROR_NAMES",
    "SKILL_NAMES",
    "THRESHOLDS_MM_H",
    "Scores",
    "skill_scores",
]

THRESHOLDS_MM_H = (0.5, 2.0, 5.0, 10.0, 30.0)
"""The benchmark's rain-rate thresholds, in mm/h."""

ERROR_NAMES = ("mse", "mae", "balanced_mse", "balanced_mae")

_EVENTS = ("hits", "forecast_events", "observed_events")
_TOTALS = (*ERROR_NAMES, "gdl")


class Scores(Accumulator):
    """Accumulator of the benchmark's scores per lead time.

    Args:
        lead_times: number of forecast frames of every clip.
        thresholds_mm_h: rain rates that make an event, in mm/h, rising. They are compared as
            pixel values (HKO-7's Z–R) in single precision.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys((*COUNT_NAMES, *SKILL_NAMES), (LEAD_TIME, THRESHOLD)),
        **dict.fromkeys(_TOTALS, (LEAD_TIME,)),
        **{f"{name}_per_pixel": (LEAD_TIME,) for name in ERROR_NAMES},
    }
    COUNTS: ClassVar[frozenset[str]] = frozenset(COUNT_NAMES)

    def __init__(self, lead_times: int, thresholds_mm_h: Sequence[float] = THRESHOLDS_MM_H) -> None:
        super().__init__(lead_times)
        self.thresholds_mm_h = event_thresholds(thresholds_mm_h)
        shape = (lead_times, len(self.thresholds_mm_h))
        self.sums |= {name: np.zeros(shape, np.int64) for name in _EVENTS}
        self.sums["pixels"] = np.zeros(lead_times, np.int64)
        self.sums |= {name: np.zeros(lead_times) for name in _TOTALS}

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Thresholds in mm/h, by the name of their axis."""
        return {THRESHOLD: self.thresholds_mm_h}

    def update(self, prediction: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips.

        Everything is scored in float32 and summed in float64. Fields on the CPU are scored by as
        many threads as `torch.get_num_threads()` says, small frames by one; results do not
        depend on their number.

        Args:
            prediction: pixel values (batch, time, 1, y, x), clipped to [0, 1], infinities too.
            truth: observed pixel values in [0, 1], floating, same shape.
            mask: True where a pixel counts, same shape.

        Raises:
            InputError: shapes or dtypes do not fit, or a pixel that counts is NaN or, in `truth`,
                outside of [0, 1]; the accumulator stays as it was.
        """
        fields = checked_fields(prediction, truth, mask, self.lead_times)
        pixels = threshold_pixels(self.thresholds_mm_h)
        if all(field.device.type == "cpu" for field in fields):
            found, outside = sums_of_pieces(*fields, partial(BenchmarkSums, pixels))
        else:
            found, outside = sums_on_device(*fields, pixels)
        refuse_what_cannot_be_scored(found, outside)
        events, rest = np.split(found, [len(_EVENTS) * len(pixels)], axis=1)
        by_name = {
            "clips": len(fields[0]),
            **dict(zip(_EVENTS, np.split(events, len(_EVENTS), axis=1), strict=True)),
            **dict(zip(("pixels", *_TOTALS), rest.T, strict=True)),
        }
        for name, values in by_name.items():
            self.sums[name] = self.sums[name] + np.asarray(values).astype(self.sums[name].dtype)

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores per lead time that follow from sums.

        Returns:
            `hits`, `misses`, `false_alarms`, `correct_negatives` (time, threshold), integers:
            pixels that count, summed over all clips.
            `pod`, `far`, `csi`, `hss`, `gss`, `frequency_bias` (time, threshold): from those sums,
            NaN where 0 / 0; see `contingency.skill_scores`.
            `mse`, `mae`, `balanced_mse`, `balanced_mae`, `gdl` (time,): the benchmark's scale,
            sums over the pixels of a frame that count, averaged over clips; a clip whose frame is
            masked altogether adds 0. `gdl` sums | |Δ prediction| − |Δ truth| | over pairs of
            neighbours along y and along x of which both count.
            `mse_per_pixel` and so on for the first four: the same sum over all clips divided by
            the number of pixels that count; NaN where there is none.
        """
        counts = contingency_tables(
            sums["hits"],
            sums["forecast_events"],
            sums["observed_events"],
            sums["pixels"][..., None],
        )
        found = counts | skill_scores(**counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            for name in _TOTALS:
                found[name] = sums[name] / sums["clips"][..., None]
            for name in ERROR_NAMES:
                found[f"{name}_per_pixel"] = sums[name] / sums["pixels"]
        return found
