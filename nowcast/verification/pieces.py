"""Sums over clips on the CPU, taken piece by piece by several threads.

A piece is a frame, or some whole rows of a large one: few enough pixels that what is computed of it
stays near a core. NumPy and OpenCV let go of Python's lock while they compute, so that threads work
side by side; but handing the lock over takes some 50 µs where a core has to be woken for it, which
small pieces do not make up for. What is summed is decided elsewhere.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError

PIXELS_AT_A_TIME = 1 << 18
"""Pixels of a piece at most, unless one row has more."""

PIXELS_FOR_THREADS = 1 << 17
"""Pixels of a piece from which on several threads are faster than one."""

BITS_OF_ONE = np.float32(1.0).view(np.uint32)

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

PieceSums = Callable[[Frame, Frame, Mask], Sequence[float] | NDArray[np.float64]]
"""Sums over a piece, of its prediction, truth and mask (rows, x); as many numbers each time.

Wherever the frame has one, the arrays hold one row more than the piece: the next piece's first.
Called by one thread only and with arrays of one shape, so that it can keep buffers.
"""


class _Piece(NamedTuple):
    clip: int
    lead_time: int
    part: int


def sums_of_pieces(
    prediction: torch.Tensor,
    truth: torch.Tensor,
    mask: torch.Tensor,
    make_sums: Callable[[int, int, int], PieceSums],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over clips per lead time, and how far the truth lies outside of [0, 1].

    As many threads work as `torch.get_num_threads()` says, or one if frames are small. Which pieces
    there are depends on the shape of a frame alone, and their sums are added in one order, so that
    results do not depend on the number of threads. Memory beyond the fields themselves is bounded
    by the size of a piece.

    Args:
        prediction: pixel values (batch, time, 1, y, x) on the CPU, of a floating dtype.
        truth: same shape, of a floating dtype.
        mask: bool, same shape.
        make_sums: makes what sums up pieces of one shape, of its rows, the rows of the arrays that
            it is given (one more where the frame goes on) and their columns.

    Returns:
        Sums (time, number), and the largest distance of a true value that counts from [0, 1]
        (time,), 0 or less where there is none.
    """
    fields = [_as_array(field)[:, :, 0] for field in (prediction, truth, mask)]
    batch, lead_times, height, width = fields[0].shape
    parts = min(height, -(-height * width // PIXELS_AT_A_TIME))
    edges = [height * part // parts for part in range(parts + 1)]
    shape = (batch, lead_times, parts)
    pieces = [_Piece(*place) for place in np.ndindex(shape)]
    waiting = iter(pieces)  # Threads take from it; a list's iterator may be shared.

    def work() -> list[tuple[_Piece, Any, float]]:
        summing: dict[tuple[int, int, int], PieceSums] = {}
        found = []
        for piece in waiting:
            first, end = edges[piece.part : piece.part + 2]
            place = (piece.clip, piece.lead_time, slice(first, end + 1))
            # A cast is none where the field is in single precision already.
            forecast, observed = (
                field[place].astype(np.float32, copy=False) for field in fields[:2]
            )
            counts = fields[2][place]
            key = (end - first, len(counts), width)
            if key not in summing:
                summing[key] = make_sums(*key)
            outside = _outside(observed[: end - first], counts[: end - first])
            found.append((piece, summing[key](forecast, observed, counts), outside))
        return found

    large = edges[1] * width >= PIXELS_FOR_THREADS
    results = _in_threads(work, min(torch.get_num_threads(), len(pieces)) if large else 1)
    sums = np.zeros((*shape, len(results[0][1])))
    outside = np.zeros(shape)
    for piece, numbers, distance in results:
        sums[piece], outside[piece] = numbers, distance
    return sums.sum(axis=(0, 2)), outside.max(axis=(0, 2))


def refuse_what_cannot_be_scored(sums: NDArray[np.float64], outside: NDArray[np.float64]) -> None:
    """Refuse fields of which a pixel that counts has no meaning.

    Args:
        sums: what was summed over them, (time, number).
        outside: how far the truth lies outside of [0, 1] at most, (time,); NaN where it has one.

    Raises:
        InputError: a true value is outside of [0, 1], or a sum is not finite.
    """
    if (outside > 0).any():
        lead_time = int(np.argmax(outside > 0)) + 1
        raise InputError(
            f"truth to score: found a value by {outside[lead_time - 1]:g} outside of [0, 1] "
            f"at lead time {lead_time} in a pixel that counts"
        )
    if not np.isfinite(sums).all():
        lead_time = int(np.flatnonzero(~np.isfinite(sums).all(axis=1))[0]) + 1
        raise InputError(f"scores: found NaN at lead time {lead_time} in a pixel that counts")


def _outside(truth: Frame, mask: Mask) -> float:
    """How far values that count lie outside of [0, 1]; 0 or less if they do not."""
    # Bits of floats in [0, 1], taken for integers, are in order, and below those of all others.
    if truth.view(np.uint32).max() <= BITS_OF_ONE:
        return 0.0
    lowest, highest, _, _ = cv2.minMaxLoc(truth, mask.view(np.uint8))
    return max(highest - 1.0, -lowest)


def _in_threads(work: Callable[[], list[Any]], threads: int) -> list[Any]:
    """All that `work` returns in each of so many threads."""

    def quietly() -> list[Any]:
        # NaN and infinity are looked for in the results.
        with np.errstate(over="ignore", invalid="ignore"):
            return work()

    if threads == 1:
        return quietly()
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(quietly) for _ in range(threads)]
        return [result for one in running for result in one.result()]


def _as_array(field: torch.Tensor) -> NDArray[Any]:
    """The same memory as an array; a copy in single precision if NumPy lacks the dtype."""
    known = field.dtype in (torch.float16, torch.float32, torch.float64, torch.bool)
    return (field if known else field.float()).numpy()
