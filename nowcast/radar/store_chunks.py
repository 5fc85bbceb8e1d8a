"""The chunks of a frame store: whole frames, or masks, compressed together.

HDF5 says once where in the file each chunk lies; from then on chunks are read and decoded without
it. That is faster, needs no lock between threads, survives a fork, and a damaged chunk meets
nothing but the codec. What else a store holds is `store_contents`'s business.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.progress import progress
from nowcast.radar.codecs import CODECS, Compression

MOST_CHUNK_BYTES = 2**30
"""A larger chunk, decoded, is refused: five frames of 14,000 × 14,000 pixels."""


BYTES_OF_A_BATCH = 2**24
"""Decoded bytes that a thread works on before it reports progress."""

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Chunks:
    """Where the rows (frames, or packed masks) of one dataset lie in a store's file.

    Attributes:
        rows: how many there are.
        shape: (rows of one chunk, y, bytes along x).
        compression: name of their codec.
        offsets: int64, first byte of each chunk in the file; −1 for one that was never written.
        sizes: int64, bytes of each chunk in the file.
        bytes: of a chunk, decoded.
    """

    rows: int
    shape: tuple[int, int, int]
    compression: Compression
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", int(np.prod(self.shape)))

    def __len__(self) -> int:
        return len(self.offsets)

    def rows_of(self, number: int) -> slice:
        """The rows that chunk `number` holds; the last chunk may have fewer than the others."""
        first = number * self.shape[0]
        return slice(first, min(first + self.shape[0], self.rows))

    def read(self, descriptor: int, number: int) -> NDArray[np.uint8]:
        """One chunk, decoded; after the last row of the store come rows of padding.

        Args:
            descriptor: the store's file, open for reading.
            number: which chunk.

        Returns:
            uint8 of the chunk's shape, read-only.

        Raises:
            InputError: the chunk cannot be read or decoded; the message does not name the file.
        """
        offset, size = int(self.offsets[number]), int(self.sizes[number])
        if offset < 0:
            raise InputError("found no such chunk in the file")
        # What no codec makes of so many bytes is not even read.
        if size > self.bytes + self.bytes // 100 + 1024:
            raise InputError(f"found a chunk of {size} bytes, expected at most {self.bytes}")
        try:
            encoded = os.pread(descriptor, size, offset)
            content = CODECS[self.compression].decode(encoded, self.bytes)
        except OSError as error:
            raise InputError(f"found no way to read its bytes ({error})") from error
        except MemoryError as error:
            raise InputError(f"found no memory for {self.bytes} bytes") from error
        return np.frombuffer(content, np.uint8).reshape(self.shape)

    def runs(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
        """For each chunk that holds some of `rows`, its number and where in `rows` those are.

        Args:
            rows: increasing, at least one.
        """
        numbers = rows // self.shape[0]
        breaks = (np.flatnonzero(np.diff(numbers)) + 1).tolist()
        for begin, end in pairwise((0, *breaks, len(rows))):
            yield int(numbers[begin]), slice(begin, end)


def in_batches(
    chunks: Chunks,
    work: Callable[[range], Result],
    description: str,
    workers: int | None = None,
) -> Iterator[Result]:
    """Do `work` for all chunks, a batch of them at a time, in threads, with a progress bar.

    Args:
        chunks: what is worked through.
        work: is given the numbers of the chunks of a batch.
        description: the work, in a few words.
        workers: threads; None takes as many as there are CPU cores.

    Yields:
        What `work` returns, in the order of the chunks.
    """
    per_batch = max(1, BYTES_OF_A_BATCH // chunks.bytes)
    batches = [
        range(first, min(first + per_batch, len(chunks)))
        for first in range(0, len(chunks), per_batch)
    ]
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        try:
            yield from progress(
                pool.map(work, batches), description, total=len(batches), unit="batches"
            )
        finally:
            pool.shutdown(cancel_futures=True)


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from another that has taken its name: size and time of change."""
    return status.st_size, status.st_mtime_ns


def open_unchanged(path: Path, stamp: tuple[int, int]) -> int:
    """Open a store's file again, for `Chunks.read`; the caller closes the descriptor.

    Args:
        path: the file.
        stamp: `stamp_of` the file in which the chunks were located.

    Raises:
        InputError: another file stands there now, or none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{path}: cannot be read any more ({error.strerror})") from error
    if stamp_of(os.fstat(descriptor)) != stamp:
        os.close(descriptor)
        raise InputError(f"{path}: found a changed file, expected the store that was opened first")
    return descriptor


def slice_or_index(increasing: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The same indices as a slice where none is left out, because slices need no copy."""
    first, last = int(increasing[0]), int(increasing[-1])
    return slice(first, last + 1) if last - first == len(increasing) - 1 else increasing


def create_chunked(
    file: h5py.File, name: str, rows: int, shape: tuple[int, int, int], compression: Compression
) -> h5py.Dataset:
    """An empty dataset of chunks.

    Args:
        file: where it is created.
        name: what it is called.
        rows: as in `Chunks`.
        shape: of a chunk.
        compression: name of the codec.
    """
    return file.create_dataset(
        name,
        shape=(rows, *shape[1:]),
        # Else HDF5 refuses a chunk of more rows than there are.
        maxshape=(None, *shape[1:]),
        dtype=np.uint8,
        chunks=shape,
        fillvalue=0,
        **CODECS[compression].dataset_settings,
    )


def write_chunk(
    dataset: h5py.Dataset, number: int, rows: NDArray[np.uint8], compression: Compression
) -> None:
    """Write one chunk, filled up with zeros where the last one has too few rows.

    Args:
        dataset: from `create_chunked`.
        number: which chunk.
        rows: uint8, of the dataset's shape along y and x.
        compression: the dataset's.
    """
    per_chunk = dataset.chunks[0]
    padding = bytes((per_chunk - len(rows)) * rows[0].nbytes)
    encoded = CODECS[compression].encode(rows.tobytes() + padding)
    dataset.id.write_direct_chunk((number * per_chunk, 0, 0), encoded)


def locate_chunks(
    dataset: h5py.Dataset, shape: tuple[int, int, int], compression: Compression
) -> Chunks:
    """Where the chunks of `dataset` lie.

    Args:
        dataset: uint8 (rows, y, bytes along x), in the file itself.
        shape: of a chunk, as the store's attributes give it.
        compression: name of the codec, as they give it.

    Raises:
        InputError: the dataset has other chunks or another filter.
    """
    settings = dataset.id.get_create_plist()
    filters = tuple(settings.get_filter(n)[0] for n in range(settings.get_nfilters()))
    if dataset.chunks != shape or filters != CODECS[compression].filters:
        raise InputError(
            f"found {dataset.name} in chunks of {dataset.chunks} with filters {filters}, expected "
            f"{shape} with {CODECS[compression].filters}"
        )
    number = -(-dataset.shape[0] // shape[0])
    offsets = np.full(number, -1, dtype=np.int64)
    sizes = np.zeros(number, dtype=np.int64)
    skipped_filters = 0

    def take(chunk: h5py.h5d.StoreInfo) -> None:
        nonlocal skipped_filters
        place = chunk.chunk_offset[0] // shape[0]
        offsets[place], sizes[place] = chunk.byte_offset, chunk.size
        skipped_filters |= chunk.filter_mask

    dataset.id.chunk_iter(take)
    if skipped_filters:
        raise InputError(f"found chunks of {dataset.name} without its filter, expected all with it")
    return Chunks(dataset.shape[0], shape, compression, offsets, sizes)
