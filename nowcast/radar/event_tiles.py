"""From events to tiles: coarsening events in restartable parts, and choosing and reading tiles.

A part is a small HDF5 file with some coarsened frames of one event, stored values and mask. Parts
are read window by window, so that memory is bounded however long an event is. Which events belong
to which split is decided in `event_splits`.
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.events import Event, FrameReader, to_pixels
from nowcast.radar.parts import content_hash
from nowcast.radar.regrid import Tile, average_rain_rate, coarsening_factor, tile_origins, tiles
from nowcast.radar.units import rain_rate_to_pixel

FRAMES_PER_PART = 20
"""At least; a part holds whole chunks of the event's file, so that each is decoded once."""

MOST_PART_BYTES = 2**25
"""Size of a part's frames, unless FRAMES_PER_PART take more."""

WET_RAIN_RATE_MM_H = 0.5
"""From this rate on a pixel is wet: the benchmark's lowest threshold."""


@dataclass(frozen=True)
class Selection:
    """Which tiles are taken.

    Attributes:
        size: pixels along each side of a tile.
        stride: pixels from one tile to the next.
        minimum_coverage: share of a tile's pixels and frames that must be observed.
        minimum_wet_fraction: share of those that must be wet, averaged over the event.
    """

    size: int
    stride: int
    minimum_coverage: float
    minimum_wet_fraction: float


@dataclass(frozen=True)
class Chosen:
    """The tiles of one event.

    Attributes:
        tiles: those taken.
        without_coverage: how many are left out because too little of them is observed.
        without_rain: how many others because too little of them is wet.
    """

    tiles: tuple[Tile, ...]
    without_coverage: int
    without_rain: int


class TileFrame(NamedTuple):
    """One frame of one tile: where it lies in the parts."""

    part: str
    frame: int
    row: int
    column: int


@dataclass(frozen=True)
class TileReader:
    """Frames and masks of tiles.

    Attributes:
        folder: where the parts lie.
        size: pixels along each side of a tile.
    """

    folder: Path = field(repr=False)
    size: int

    def __call__(
        self, references: Several[TileFrame]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stored values (n, size, size) and mask of n frames."""
        frames = np.empty((len(references), self.size, self.size), dtype=np.uint8)
        mask = np.empty(frames.shape, dtype=bool)
        done = 0
        for (part, row, column), group in groupby(references, lambda r: (r.part, r.row, r.column)):
            numbers = [reference.frame for reference in group]
            window = np.s_[numbers, row : row + self.size, column : column + self.size]
            with h5py.File(self.folder / part, "r") as file:
                frames[done : done + len(numbers)] = file["frames"][window]
                mask[done : done + len(numbers)] = file["mask"][window]
            done += len(numbers)
        return frames, mask


def factor_for(event: Event, grid_spacing_km: float | None) -> int:
    """Native pixels along each side of a coarse one.

    Args:
        event: the event.
        grid_spacing_km: the spacing wanted; None keeps the event's own.

    Raises:
        InputError: the spacing wanted is not a whole multiple of the event's.
    """
    if grid_spacing_km is None:
        return 1
    if event.grid_spacing_km is None:
        raise InputError(
            f"{event.path}: found pixels that are not squares of a stated length, "
            f"expected those to coarsen to {grid_spacing_km:g} km: coordinates in m or km, or "
            "pixel_km of images; or grid_spacing_km null, which keeps the pixels"
        )
    try:
        return coarsening_factor(grid_spacing_km, event.grid_spacing_km)
    except InputError as error:
        raise InputError(f"{event.path}: {error}") from None


def check_tiles_fit(event: Event, factor: int, selection: Selection) -> None:
    """Refuse an event that is smaller than a tile once it is coarsened.

    Args:
        event: the event.
        factor: native pixels along each side of a coarse one.
        selection: which tiles are to be taken.

    Raises:
        InputError: naming the event.
    """
    try:
        for side in event.shape:
            tile_origins(side // factor, selection.size, selection.stride)
    except InputError as error:
        raise InputError(f"{event.path}: {error}") from None


@dataclass(frozen=True)
class CoarseParts:
    """The parts of one event.

    Attributes:
        firsts: number of each part's first frame, ascending from 0.
        writers: file name → function that writes it, in the same order.
    """

    firsts: tuple[int, ...]
    writers: Mapping[str, "partial[None]"]

    def tile_frames(self, tile: Tile, first: int, count: int) -> list[TileFrame]:
        """References to `count` frames of a tile from the `first` on, in order of time."""
        names, references = list(self.writers), []
        for number in range(first, first + count):
            part = bisect_right(self.firsts, number) - 1
            references.append(
                TileFrame(names[part], number - self.firsts[part], tile.row, tile.column)
            )
        return references


def coarse_parts(event: Event, factor: int) -> CoarseParts:
    """The parts of an event.

    Args:
        event: the event.
        factor: native pixels along each side of a coarse one.
    """
    shape = (event.shape[0] // factor, event.shape[1] // factor)
    most = max(FRAMES_PER_PART, MOST_PART_BYTES // (shape[0] * shape[1]))
    chunks = event.reader.chunks()
    firsts = [0]
    for number in range(1, len(chunks)):
        frames = number - firsts[-1]
        if frames >= most or (frames >= FRAMES_PER_PART and chunks[number] != chunks[number - 1]):
            firsts.append(number)
    writers = {}
    for first, end in pairwise([*firsts, len(chunks)]):
        reader = event.reader.taken(range(first, end))
        writers[f"event-{content_hash(reader, factor)}.h5"] = partial(
            _write_part, reader, (end - first, *shape), factor
        )
    return CoarseParts(tuple(firsts), writers)


def _write_part(reader: FrameReader, shape: tuple[int, int, int], factor: int, path: Path) -> None:
    oddities: Counter[str] = Counter()
    with h5py.File(path, "w") as part:
        part.create_dataset("frames", shape, np.uint8)
        part.create_dataset("mask", shape, bool)
        for number, rate in enumerate(reader.rain_rates(oddities)):
            part["frames"][number], part["mask"][number] = to_pixels(
                average_rain_rate(rate, factor)
            )
        part.attrs["oddities"] = json.dumps(+oddities)


def oddities_of(folder: Path, parts: Several[str]) -> Counter[str]:
    """What was taken for something else than it says in an event's frames, in words.

    Args:
        folder: where the event's parts lie.
        parts: their names.
    """
    total: Counter[str] = Counter()
    for name in parts:
        with h5py.File(folder / name, "r") as part:
            total.update(json.loads(part.attrs["oddities"]))
    return total


def choose_tiles(folder: Path, parts: Several[str], selection: Selection) -> Chosen:
    """The tiles of an event that are observed and wet enough.

    Args:
        folder: where the event's parts lie.
        parts: their names.
        selection: which tiles are taken; they must fit, `check_tiles_fit`.
    """
    wet_from = np.ceil(rain_rate_to_pixel(WET_RAIN_RATE_MM_H) * 255)
    counting: NDArray[np.int64] | None = None
    wet: NDArray[np.int64] | None = None
    number_of_frames = 0
    for name in parts:
        with h5py.File(folder / name, "r") as part:
            frames, mask = part["frames"][:], part["mask"][:]
        part_counting = mask.sum(axis=0, dtype=np.int64)
        part_wet = (mask & (frames >= wet_from)).sum(axis=0, dtype=np.int64)
        counting = part_counting if counting is None else counting + part_counting
        wet = part_wet if wet is None else wet + part_wet
        number_of_frames += len(frames)
    if counting is None or wet is None:
        return Chosen((), 0, 0)
    taken, without_coverage, without_rain = [], 0, 0
    for tile in tiles(counting, wet, number_of_frames, selection.size, selection.stride):
        if tile.coverage < selection.minimum_coverage:
            without_coverage += 1
        elif tile.wet_fraction < selection.minimum_wet_fraction:
            without_rain += 1
        else:
            taken.append(tile)
    return Chosen(tuple(taken), without_coverage, without_rain)
