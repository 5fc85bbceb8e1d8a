"""Checking a whole frame store: is every frame still the one that was written?

Opening a store checks all but frames and masks; reading notices only chunks that cannot be decoded.
Here every chunk is decoded and compared with the checksum that the store keeps of it.
"""

import os
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.saturated_rain import mean_saturated_rain
from nowcast.radar.store_chunks import Chunks, in_batches, open_unchanged
from nowcast.radar.store_contents import Contents, read_contents, unpack_masks

RAIN_TOLERANCE = 1e-6
"""Rain is a mean, in [0, 1], rounded to float32: machines may round it differently."""


@dataclass(frozen=True)
class DamagedBlock:
    """Something in a store that is not what was written.

    Attributes:
        what: "frames" or "masks", one chunk of them; "rain" of the frames of one chunk; "contents",
            for times, rain, sequences, checksums and attributes together.
        sequences: names of the sequences that it belongs to; all for the contents.
        first_time: valid time of its first frame, datetime64[s].
        last_time: of its last frame.
        reason: what was found and what was expected.
    """

    what: str
    sequences: tuple[str, ...]
    first_time: np.datetime64
    last_time: np.datetime64
    reason: str

    def __str__(self) -> str:
        names = ", ".join(self.sequences) or "no sequence"
        if len(self.sequences) > 2:
            names = f"{self.sequences[0]} to {self.sequences[-1]}"
        return f"{self.what} of {names}, {self.first_time} to {self.last_time}: {self.reason}"


@dataclass(frozen=True)
class Verification:
    """What checking a store has found; as text, a report.

    Attributes:
        path: the store's file.
        blocks: chunks of frames and of masks that were checked.
        bytes: of the file.
        seconds: how long it took.
        damaged: what is not as it was written.
    """

    path: Path
    blocks: int
    bytes: int
    seconds: float
    damaged: tuple[DamagedBlock, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {len(self.damaged) or 'nothing'} damaged, {self.blocks:,} blocks of "
            f"frames and masks checked, {self.bytes / 1e6:,.1f} MB ({self.seconds:.1f} s)"
        ]
        return "\n".join([*lines, *(f"  {block}" for block in self.damaged)])


def verify_store(path: str | os.PathLike[str], workers: int | None = None) -> Verification:
    """Check every byte of a frame store that means something.

    Args:
        path: the store's file.
        workers: threads that work side by side; None takes as many as there are CPU cores.

    Returns:
        What was found. Damage is listed there and raises nothing.

    Raises:
        InputError: the file is not there, no frame store, or damaged so that HDF5 cannot open it.
    """
    started, path = time.monotonic(), Path(path)
    if workers is not None and workers < 1:
        raise InputError(f"workers: found {workers}, expected at least 1")
    contents = read_contents(path)
    damaged = []
    try:
        contents.check()
    except InputError as error:
        damaged.append(_damaged(contents, "contents", slice(None), str(error)))
    descriptor = open_unchanged(path, contents.stamp)
    try:
        check = partial(_check_chunks, contents, descriptor)
        for found in in_batches(contents.frames, check, f"Verifying {path.name}", workers):
            damaged += found
    finally:
        os.close(descriptor)
    return Verification(
        path=path,
        blocks=len(contents.frames) + len(contents.masks),
        bytes=contents.stamp[0],
        seconds=time.monotonic() - started,
        damaged=tuple(damaged),
    )


def _damaged(contents: Contents, what: str, rows: slice, reason: str) -> DamagedBlock:
    times = contents.columns["times"][rows].astype("datetime64[s]")
    first, last, _ = rows.indices(len(contents.columns["times"]))
    begins = contents.columns["sequences/first"]
    ends = begins + contents.columns["sequences/count"]
    names = contents.columns["sequences/name"][(begins < last) & (first < ends)]
    return DamagedBlock(
        what,
        tuple(name.decode("utf-8", "replace") for name in names),
        times[0],
        times[-1],
        reason,
    )


def _check_chunks(contents: Contents, descriptor: int, numbers: range) -> list[DamagedBlock]:
    damaged = []
    for number in numbers:
        rows = contents.frames.rows_of(number)
        checked = {}
        for what, chunks in (("frames", contents.frames), ("masks", contents.masks)):
            try:
                kept = int(contents.columns[f"checksums/{what}"][number])
                checked[what] = _check_chunk(chunks, descriptor, number, kept)
            except InputError as error:
                damaged.append(_damaged(contents, what, rows, str(error)))
        if len(checked) == 2:
            masks = unpack_masks(checked["masks"], contents.frames.shape[2])
            expected = mean_saturated_rain(checked["frames"], masks)
            found = contents.columns["rain"][rows]
            if not np.allclose(found, expected, rtol=0, atol=RAIN_TOLERANCE):
                reason = f"found {found.tolist()}, expected {expected.tolist()}"
                damaged.append(_damaged(contents, "rain", rows, reason))
    return damaged


def _check_chunk(
    chunks: Chunks, descriptor: int, number: int, checksum_kept: int
) -> NDArray[np.uint8]:
    """The rows of one chunk, decoded.

    Raises:
        InputError: they are not those that were written.
    """
    decoded, place = chunks.read(descriptor, number), chunks.rows_of(number)
    rows = decoded[: place.stop - place.start]
    checksum = zlib.crc32(rows.data)
    if checksum != checksum_kept:
        raise InputError(f"found CRC-32 {checksum:08x}, expected {checksum_kept:08x}")
    if decoded[len(rows) :].any():
        raise InputError("found padding that is not zero, expected zero after the last frame")
    return rows
