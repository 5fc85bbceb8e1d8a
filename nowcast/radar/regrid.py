"""Coarser and smaller grids: area averages, central crops, tiles. Arrays only, no files.

Masks come along: only pixels that count are averaged, and an average counts if at least
`MINIMUM_SHARE` of its cell's pixels do. HKO-7's frames are averaged in pixel values, that is in
dB, the way the benchmark's frames are made smaller. Composites in mm/h are averaged in mm/h,
before they become pixel values: rain rates add up, decibels do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nowcast.errors import InputError

MINIMUM_SHARE = 0.5
"""Share of a cell's pixels that must count for the cell to count."""


def _cell_sums(values: NDArray, factor: int, dtype: DTypeLike) -> NDArray:
    """Sums over cells of factor × factor pixels: rows first, which lie apart and add up fastest."""
    height, width = values.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise InputError(
            f"area average: found {height} × {width} pixels, expected sides divisible by {factor}"
        )
    leading = values.shape[:-2]
    rows = values.reshape(*leading, height // factor, factor, width).sum(axis=-2, dtype=dtype)
    return rows.reshape(*leading, height // factor, width // factor, factor).sum(axis=-1)


def average_pixels(
    frames: NDArray[np.uint8], mask: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Area average of stored pixel values over the pixels of each cell that count.

    Args:
        frames: uint8 (…, y, x).
        mask: bool (…, y, x), True = counts.
        factor: pixels along each side of a cell; must divide both sides of a frame.

    Returns:
        uint8 frames (…, y / factor, x / factor), the average rounded to the nearest whole number
        and up where two are equally near, 0 where the cell does not count; and their bool mask.

    Raises:
        InputError: the sides are not divisible.
    """
    if factor == 1:
        return frames, mask
    counting = _cell_sums(mask, factor, np.int32)
    total = _cell_sums(frames * mask, factor, np.int32)
    counts = counting >= MINIMUM_SHARE * factor * factor
    # Whole numbers throughout: exact, and the same on every machine.
    divisor = np.maximum(2 * counting, 1)
    average = np.where(counts, (2 * total + counting) // divisor, 0).astype(np.uint8)
    return average, counts


def average_rain_rate(rain_rate_mm_h: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Area average of rain rate over the pixels of each cell that were observed.

    Rows and columns that do not fill a cell are left out evenly: one more at the south or east
    than at the north or west where their number is odd.

    Args:
        rain_rate_mm_h: (…, y, x) in mm/h; NaN = not observed.
        factor: pixels along each side of a cell.

    Returns:
        (…, y // factor, x // factor) in mm/h, NaN where too little of a cell was observed.

    Raises:
        InputError: the grid is smaller than one cell.
    """
    height, width = rain_rate_mm_h.shape[-2:]
    if factor < 1 or min(height, width) < factor:
        raise InputError(
            f"area average: found {height} × {width} pixels, expected at least one cell of "
            f"{factor} × {factor}"
        )
    top, left = (height % factor) // 2, (width % factor) // 2
    trimmed = rain_rate_mm_h[
        ..., top : top + height // factor * factor, left : left + width // factor * factor
    ]
    observed = np.isfinite(trimmed)
    counting = _cell_sums(observed, factor, np.int32)
    total = _cell_sums(np.where(observed, trimmed, 0), factor, trimmed.dtype)
    counts = counting >= MINIMUM_SHARE * factor * factor
    return np.where(counts, total / np.maximum(counting, 1), np.nan)


def central_crop(values: NDArray, size: int) -> NDArray:
    """The central size × size pixels of (…, y, x), a view.

    Where a margin is odd, one more row (column) is cut at the south (east).

    Raises:
        InputError: a side is shorter than that.
    """
    height, width = values.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise InputError(
            f"central crop: found {height} × {width} pixels, expected at least {size} × {size}"
        )
    top, left = (height - size) // 2, (width - size) // 2
    return values[..., top : top + size, left : left + size]


def coarsening_factor(grid_spacing_km: float, native_spacing_km: float) -> int:
    """Native pixels along each side of a coarse one.

    Raises:
        InputError: the spacing wanted is not a whole multiple of the native one.
    """
    ratio = grid_spacing_km / native_spacing_km
    factor = round(ratio)
    if factor < 1 or abs(ratio - factor) > 1e-3 * factor:
        raise InputError(
            f"found a grid spacing of {native_spacing_km:g} km, "
            f"expected one that {grid_spacing_km:g} km is a whole multiple of"
        )
    return factor


@dataclass(frozen=True)
class Tile:
    """A square part of a grid, and how much of it is observed and wet over an event.

    Attributes:
        row: its first row, 0 the northernmost.
        column: its first column.
        coverage: share of pixels and frames that count.
        wet_fraction: share of those that have at least the wet rain rate; 0 if none counts.
    """

    row: int
    column: int
    coverage: float
    wet_fraction: float


def tile_origins(length: int, size: int, stride: int) -> list[int]:
    """Where tiles begin along an axis: every `stride` pixels, what is left over shared evenly.

    Raises:
        InputError: no tile fits, or the stride makes no sense.
    """
    if size > length or size < 1:
        raise InputError(f"tiles: found a grid side of {length} pixels, expected at least {size}")
    if stride < 1:
        raise InputError(f"tiles: found a stride of {stride} pixels, expected at least 1")
    count = (length - size) // stride + 1
    margin = (length - size - (count - 1) * stride) // 2
    return [margin + number * stride for number in range(count)]


def tiles(
    counting: NDArray[np.integer],
    wet: NDArray[np.integer],
    number_of_frames: int,
    size: int,
    stride: int | None = None,
) -> Iterator[Tile]:
    """Tiles of a grid from north-west to south-east, with their coverage and wet fraction.

    Args:
        counting: (y, x), in how many frames of the event each pixel counts.
        wet: (y, x), in how many of those it has at least the wet rain rate.
        number_of_frames: frames of the event.
        size: pixels along each side of a tile.
        stride: pixels from one tile to the next; None puts them side by side.

    Raises:
        InputError: no tile fits, or the stride makes no sense.
    """
    height, width = counting.shape
    stride = size if stride is None else stride
    for row in tile_origins(height, size, stride):
        for column in tile_origins(width, size, stride):
            here = np.s_[row : row + size, column : column + size]
            counted = int(counting[here].sum())
            yield Tile(
                row,
                column,
                coverage=counted / (number_of_frames * size * size),
                wet_fraction=int(wet[here].sum()) / counted if counted else 0.0,
            )
