"""All frames and masks of a store in memory, if they fit."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.store_chunks import Chunks, in_batches


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def load(
    path: Path, descriptor: int, frames: Chunks, masks: Chunks
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All frames, and all masks packed along x.

    Args:
        path: the store's file, for messages.
        descriptor: the same file, open for reading.
        frames: where the frames are.
        masks: where the masks are.

    Raises:
        InputError: they do not fit into the memory available, or cannot be decoded.
    """
    shapes = [(chunks.rows, *chunks.shape[1:]) for chunks in (frames, masks)]
    needed = sum(int(np.prod(shape)) for shape in shapes)
    available = available_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{path}: found {available:,} bytes of memory available, expected {needed:,} for all "
            "frames and masks; leave them on disk"
        )
    try:
        whole = [np.empty(shape, dtype=np.uint8) for shape in shapes]
    except MemoryError as error:
        raise InputError(
            f"{path}: found no {needed:,} bytes of memory for all frames and masks; leave them on "
            "disk"
        ) from error

    def read(batch: range) -> None:
        for number in batch:
            for chunks, rows in zip((frames, masks), whole, strict=True):
                place = chunks.rows_of(number)
                rows[place] = chunks.read(descriptor, number)[: place.stop - place.start]

    try:
        for _ in in_batches(frames, read, f"Loading {path.name}"):
            pass
    except InputError as error:
        raise InputError(f"{path}: damaged, frames or masks cannot be read ({error})") from error
    return whole[0], whole[1]
