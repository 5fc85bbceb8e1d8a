"""Fractions skill score: whether events are forecast in the right neighbourhood.

A score pixel by pixel punishes a shower that is forecast 2 km off twice, as a miss and as a false
alarm. This one compares the fraction of a window's pixels that has an event, for windows of several
sizes. Source: Roberts and Lean, Monthly Weather Review 136 (2008), 78–97, equations 5 to 7.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import LEAD_TIME, THRESHOLD, Accumulator, Field, Sums
from nowcast.verification.fields import (
    checked_fields,
    counted_pixels,
    event_thresholds,
    threshold_pixels,
)
from nowcast.verification.scores import THRESHOLDS_MM_H

WINDOWS_PIXELS = (1, 5, 11, 21, 41)
"""Sides of the square windows, in pixels; 1 compares pixel by pixel."""

WINDOW = "window_pixels"
SQUARES = ("squared_differences", "squared_forecasts", "squared_observations")


def check_windows(windows_pixels: Sequence[int], shape: tuple[int, int]) -> None:
    """Refuse windows of which nearly all lies outside of the frame.

    Args:
        windows_pixels: sides of the windows in pixels.
        shape: (y, x) of the frames that are scored.

    Raises:
        InputError: a window is wider than twice the frame's longer side.
    """
    if max(windows_pixels) > 2 * max(shape):
        raise InputError(
            f"windows: found {max(windows_pixels)} pixels, "
            f"expected at most twice the frame of {shape[0]} × {shape[1]}"
        )


class FractionsSkill(Accumulator):
    """Accumulator of the fractions skill score per lead time, threshold and window.

    An event is a pixel that counts with a value at or above the threshold; a pixel that does not
    count is no event on either side. The fraction of a pixel is the number of events in the window
    around it, divided by the number of pixels of the whole window: outside of the frame there is no
    event. Values are those of `pysteps.verification.spatialscores` (NaN, which pysteps takes for
    dry, has to be masked here). `scores.spatial.fss_2d(zero_padding=True)` also looks at the
    windows around one more row and column, below and to the right of the frame.

    Args:
        lead_times: number of forecast frames of every clip.
        thresholds_mm_h: rain rates that make an event, in mm/h, rising. They are compared as pixel
            values (HKO-7's Z–R) in single precision.
        windows_pixels: sides of the square windows in pixels, odd, rising.

    Raises:
        InputError: thresholds are not positive and rising, or windows not odd and rising.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fss": (LEAD_TIME, THRESHOLD, WINDOW),
        "fss_target_skill": (LEAD_TIME, THRESHOLD),
    }

    def __init__(
        self,
        lead_times: int,
        thresholds_mm_h: Sequence[float] = THRESHOLDS_MM_H,
        windows_pixels: Sequence[int] = WINDOWS_PIXELS,
    ) -> None:
        super().__init__(lead_times)
        self.thresholds_mm_h = event_thresholds(thresholds_mm_h)
        self.windows_pixels = tuple(windows_pixels)
        odd = all(isinstance(one, int) and one % 2 == 1 for one in self.windows_pixels)
        rising = list(self.windows_pixels) == sorted(set(self.windows_pixels))
        if not self.windows_pixels or not odd or not rising or self.windows_pixels[0] < 1:
            raise InputError(
                f"windows: expected odd rising sides in pixels, found {self.windows_pixels}"
            )
        for name in SQUARES:
            shape = (lead_times, len(self.thresholds_mm_h), len(self.windows_pixels))
            self.sums[name] = np.zeros(shape, np.float64)
        self.sums["observed_events"] = np.zeros((lead_times, len(self.thresholds_mm_h)), np.int64)
        self.sums["frame_pixels"] = np.zeros(lead_times, np.int64)

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Thresholds in mm/h and windows in pixels, by the names of their axes."""
        return {THRESHOLD: self.thresholds_mm_h, WINDOW: self.windows_pixels}

    def update(self, prediction: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips.

        Lead times are shared out among as many threads as torch may use; memory is that of one clip
        and a few frames for each thread. Frames on another device are brought to the CPU.

        Args:
            prediction: pixel values `(batch, time, 1, y, x)`, clipped to [0, 1].
            truth: observed pixel values in [0, 1], floating, same shape.
            mask: True where a pixel counts, same shape.

        Raises:
            InputError: shapes, dtypes or windows (`check_windows`) do not fit, or a pixel that
                counts is NaN or, in `truth`, outside of [0, 1]. The accumulator stays as it was.
        """
        forecast, observed, counts = checked_fields(prediction, truth, mask, self.lead_times)
        batch, height, width = (forecast.shape[axis] for axis in (0, 3, 4))
        check_windows(self.windows_pixels, (height, width))
        thresholds = threshold_pixels(self.thresholds_mm_h)

        def sums_of(frame: _Frame) -> _FrameSums:
            return _frame_sums(*frame, thresholds, self.windows_pixels)

        found = []
        with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), self.lead_times))) as threads:
            for clip in range(batch):
                frames = _frames_of(forecast[clip, :, 0], observed[clip, :, 0], counts[clip, :, 0])
                found.append(list(threads.map(sums_of, frames)))
        squares = np.sum([[one.squares for one in clip] for clip in found], axis=0)
        events = np.sum([[one.observed_events for one in clip] for clip in found], axis=0)
        for index, name in enumerate(SQUARES):
            self.sums[name] = self.sums[name] + squares[..., index]
        self.sums["observed_events"] = self.sums["observed_events"] + events
        self.sums["frame_pixels"] = self.sums["frame_pixels"] + batch * height * width
        self.sums["clips"] = self.sums["clips"] + batch

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores that follow from sums.

        Returns:
            `fss` (time, threshold, window): 1 − Σ (f − o)² / (Σ f² + Σ o²) with the fractions f of
            the forecast and o of the observation, all sums over all pixels of all clips, so that a
            clip with much rain weighs more than one with little; NaN where there is no event at
            all. `fss_target_skill` (time, threshold): 0.5 + f_o / 2 with the share f_o of all
            pixels of the frames that have an observed event: halfway between f_o, what events
            scattered at random score, and 1. A window at which `fss` reaches it is one at which
            the forecast is useful (Roberts and Lean 2008).
        """
        difference, forecast, observed = (sums[name] for name in SQUARES)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "fss": 1.0 - difference / (forecast + observed),
                "fss_target_skill": 0.5
                + 0.5 * sums["observed_events"] / sums["frame_pixels"][..., None],
            }


class _FrameSums(NamedTuple):
    """Sums over a frame: squares (threshold, window, 3), observed events (threshold,)."""

    squares: NDArray[np.float64]
    observed_events: NDArray[np.int64]


_Frame = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]
"""Forecast, truth and what counts, all (y, x)."""


def _frames_of(
    forecast: torch.Tensor, observed: torch.Tensor, counts: torch.Tensor
) -> list[_Frame]:
    """The frames of a clip, fields (time, y, x) on any device, as arrays of pixels that count."""
    frames = []
    for index, kept in enumerate(counts.cpu()):
        clipped, truth = counted_pixels(
            forecast[index].cpu(), observed[index].cpu(), kept, lead_time=index + 1
        )
        frames.append((clipped.numpy(), truth.numpy(), kept.numpy()))
    return frames


def _frame_sums(
    forecast: NDArray[np.float32],
    observed: NDArray[np.float32],
    counts: NDArray[np.bool_],
    thresholds: list[float],
    windows: tuple[int, ...],
) -> _FrameSums:
    """Squares of fractions of a frame (y, x), summed.

    Counts of events in windows are exact integers: differences of a summed-area table, first
    between rows and then between columns.
    """
    height, width = counts.shape
    margin = windows[-1] // 2
    # Both fields side by side with a dry margin around each: one table serves both and every
    # window, and no window needs to be cut at the frame's edge.
    columns = (margin, 3 * margin + width)
    events = np.zeros((height + 2 * margin, 2 * (width + 2 * margin)), np.bool_)
    forecast_events, observed_events = (
        events[margin : margin + height, first : first + width] for first in columns
    )
    # Differences of a table that has overflowed are right as long as they fit themselves.
    count_type = np.int16 if windows[-1] ** 2 <= np.iinfo(np.int16).max else np.int32
    strips = np.empty((height, events.shape[1] + 1), count_type)
    in_window = np.empty((2, height, width), count_type)
    squares = np.zeros((len(thresholds), len(windows), len(SQUARES)))
    observed_counts = np.zeros(len(thresholds), np.int64)
    for index, threshold in enumerate(thresholds):
        for field, flags in ((forecast, forecast_events), (observed, observed_events)):
            np.logical_and(field >= threshold, counts, out=flags)
        if not events.any():
            # What does not reach this threshold does not reach the higher ones.
            break
        observed_counts[index] = np.count_nonzero(observed_events)
        table = cv2.integral(events.view(np.uint8), sdepth=cv2.CV_32S).astype(count_type)
        for position, window in enumerate(windows):
            start = margin - window // 2
            np.subtract(
                table[start + window : start + window + height],
                table[start : start + height],
                out=strips,
            )
            for side, first in enumerate(columns):
                left = first - window // 2
                np.subtract(
                    strips[:, left + window : left + window + width],
                    strips[:, left : left + width],
                    out=in_window[side],
                )
            squares[index, position] = (
                cv2.norm(in_window[0], in_window[1], cv2.NORM_L2SQR),
                cv2.norm(in_window[0], cv2.NORM_L2SQR),
                cv2.norm(in_window[1], cv2.NORM_L2SQR),
            )
    # OpenCV takes a root and squares it: the whole number that it was is the nearest.
    areas = np.square(windows, dtype=np.float64)[:, None]
    return _FrameSums(np.rint(squares) / areas**2, observed_counts)
