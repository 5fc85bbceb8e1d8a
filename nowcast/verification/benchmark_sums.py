"""The sums behind the benchmark's scores, on the CPU: of pieces of frames, with NumPy and OpenCV.

What can be summed in one pass is. All that is as large as a piece is written into few buffers that
are kept and used again, because a core's cache is what limits the speed. The same sums on other
devices are in `device_sums`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.verification.pieces import Bytes, Frame, Mask
from nowcast.verification.weights import WEIGHT_RISES


class BenchmarkSums:
    """Sums over pieces of frames that all have one shape: see `pieces.PieceSums`.

    A masked pixel takes no part in anything, whatever its value, NaN too; NaN in a pixel that
    counts makes the error sums NaN.

    Args:
        threshold_pixels: pixel values that make an event, rising, compared in single precision.
        rows: of a piece.
        given_rows: of the arrays, one more if the next piece's first row is among them.
        columns: of the arrays.
    """

    def __init__(
        self, threshold_pixels: Sequence[float], rows: int, given_rows: int, columns: int
    ) -> None:
        thresholds = np.array(threshold_pixels, np.float32)
        rises = {np.float32(step): rise for step, rise in WEIGHT_RISES}
        self._levels = [
            (level, bool(np.isin(level, thresholds)), rises.get(level, 0.0))
            for level in np.union1d(thresholds, np.array(list(rises), np.float32))
        ]
        self._rows = rows
        self._clipped = np.empty((given_rows, columns), np.float32)
        self._observed, self._forecast = np.empty((2, rows, columns), np.bool_)
        self._seen, self._foreseen = self._observed.view(np.uint8), self._forecast.view(np.uint8)
        scratch = np.empty((2, given_rows * columns), np.float32)
        both = np.empty(given_rows * columns, np.uint8)
        self._error = scratch[0, : rows * columns].reshape(rows, columns)
        self._across = _Neighbours(
            (slice(rows), slice(1, None)),
            (slice(rows), slice(-1)),
            _shaped(scratch, both, rows, columns - 1),
        )
        self._down = _Neighbours(
            (slice(1, None),), (slice(-1),), _shaped(scratch, both, given_rows - 1, columns)
        )

    def __call__(self, prediction: Frame, truth: Frame, mask: Mask) -> NDArray[np.float64]:
        """Sums over a piece, in this order, the first three by threshold.

        Hits, forecast events, observed events; pixels that count; squared, absolute, balanced
        squared and balanced absolute errors; gradient differences.
        """
        np.clip(prediction, np.float32(0.0), np.float32(1.0), out=self._clipped)
        clipped, observed = self._clipped[: self._rows], truth[: self._rows]
        own_mask = mask[: self._rows]
        counts, seen, foreseen = own_mask.view(np.uint8), self._seen, self._foreseen
        error = cv2.absdiff(clipped, observed, self._error)
        squared = balanced_squared = cv2.norm(error, cv2.NORM_L2SQR, counts)
        absolute = balanced_absolute = cv2.norm(error, cv2.NORM_L1, counts)
        events = []
        for level, is_threshold, rise in self._levels:
            np.greater_equal(observed, level, out=self._observed)
            np.logical_and(self._observed, own_mask, out=self._observed)
            if is_threshold:
                np.greater_equal(clipped, level, out=self._forecast)
                # Of zeros and ones, the L1 norm is their number.
                hits = cv2.norm(foreseen, cv2.NORM_L1, seen)
                events.append(
                    (hits, cv2.norm(foreseen, cv2.NORM_L1, counts), cv2.norm(seen, cv2.NORM_L1))
                )
            if rise:
                # A weight is a sum of rises, each of which applies from its step on.
                balanced_squared += rise * cv2.norm(error, cv2.NORM_L2SQR, seen)
                balanced_absolute += rise * cv2.norm(error, cv2.NORM_L1, seen)
        # From here on the errors' buffer holds differences of neighbours.
        ways = (self._across, self._down)
        gradient = sum(way.difference(self._clipped, truth, mask) for way in ways)
        errors = (squared, absolute, balanced_squared, balanced_absolute)
        return np.array([*np.ravel(events, order="F"), cv2.countNonZero(counts), *errors, gradient])


class _Neighbours:
    """Gradient differences between neighbours along one axis.

    Args:
        ahead: where one of two neighbours is.
        behind: where the other is.
        buffers: two for differences and one for the pairs that count, of the pairs' shape.
    """

    def __init__(
        self,
        ahead: tuple[slice, ...],
        behind: tuple[slice, ...],
        buffers: tuple[Frame, Frame, Bytes],
    ) -> None:
        self._ahead, self._behind = ahead, behind
        self._forecast, self._observed, self._both = buffers

    def difference(self, prediction: Frame, truth: Frame, mask: Mask) -> float:
        """Sum of | |Δ prediction| − |Δ truth| | over pairs of neighbours that both count."""
        if not self._both.size:
            return 0.0
        ahead, behind, counts = self._ahead, self._behind, mask.view(np.uint8)
        cv2.bitwise_and(counts[ahead], counts[behind], self._both)
        cv2.absdiff(prediction[ahead], prediction[behind], self._forecast)
        cv2.absdiff(truth[ahead], truth[behind], self._observed)
        return cv2.norm(self._forecast, self._observed, cv2.NORM_L1, self._both)


def _shaped(
    scratch: NDArray[np.float32], both: NDArray[np.uint8], rows: int, columns: int
) -> tuple[Frame, Frame, Bytes]:
    """The beginnings of two buffers and a third as (rows, columns)."""
    size, shape = rows * columns, (rows, columns)
    return (
        scratch[0, :size].reshape(shape),
        scratch[1, :size].reshape(shape),
        both[:size].reshape(shape),
    )
