"""The frame store: radar frames, their masks and times in one HDF5 file, and how to read it.

Writing it is `store_writing`; what goes into it is decided in `archive_preparation` and
`event_preparation`. Any HDF5 library reads it:

    /frames     uint8 (n, y, x)               pixel value × 255; row 0 is north
    /masks      uint8 (n, y, ceil(x / 8))     bits along x, first pixel in the highest bit
                                              (`numpy.packbits(mask, axis=-1)`); 1 = counts
    /times      int64 (n,)                    valid time, seconds since 1970-01-01 UTC
    /sequences  name, split, first, count, metadata: one entry per sequence each
    attributes  format, version, step_minutes, frame_shape (y, x), frames_per_chunk, dbz_per_pixel,
                dbz_at_zero, zr_a, zr_b, preparation (JSON: how it was made), fingerprint

A sequence is one place: an archive's split, one tile of an event. Its frames are the `count`
frames from index `first` on, at strictly increasing times; missing frames are not stored. Its
`metadata` is a JSON object (source, licence, grid spacing and the like). A frame's dBZ is
`dbz_per_pixel × value / 255 + dbz_at_zero`; its rain rate R in mm/h follows from Z = zr_a R^zr_b.
Chunks hold `frames_per_chunk` whole frames, so that a clip of 25 frames decodes at most 30, with
HDF5's own deflate filter. With h5py alone:

    with h5py.File("rain.h5") as store:
        names = store["sequences/name"].asstr()[:]
        first, count = store["sequences/first"][0], store["sequences/count"][0]
        pixel_values = store["frames"][first : first + count] / 255
        packed, width = store["masks"][first : first + count], store.attrs["frame_shape"][1]
        masks = numpy.unpackbits(packed, axis=-1, count=width).astype(bool)
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import Times, as_seconds, step_in_seconds

FORMAT = "nowcast frame store"
VERSION = 1
FRAMES_PER_CHUNK = 5


@dataclass(frozen=True, eq=False)
class Sequence:
    """The frames of one place, in time order.

    Attributes:
        name: unique within a store.
        split: what the frames are for: train, valid, test.
        times: datetime64[s] (n,), strictly increasing; missing frames are simply not among them.
        metadata: source, licence, grid spacing and the like.
        first: index of the first frame in the store.
    """

    name: str
    split: str
    times: Times
    metadata: Mapping[str, Any]
    first: int = 0


class Clip(NamedTuple):
    """Frames at a fixed step. A missing frame is all zero with an all-False mask.

    Attributes:
        frames: uint8 (time, y, x), pixel value × 255.
        mask: bool (time, y, x), True = counts.
        times: datetime64[s] (time,).
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    times: Times


class FrameStore:
    """A frame store, open for reading.

    The file is opened in each process that reads from it: the object can be pickled and survives a
    fork, so that the workers of a data loader may share it.

    Args:
        path: the store's file.
        step_minutes: the time step wanted; None takes the store's own.
        subsample: whether a step that is a multiple of the store's is accepted.

    Attributes:
        path: the store's file.
        step_minutes: time between the frames of a clip.
        shape: (y, x) of a frame.
        sequences: every sequence of the store.
        preparation: how the store was made: source, settings, what was found and left out.

    Raises:
        InputError: the file is not there, damaged or no frame store, or has another time step.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        step_minutes: float | None = None,
        subsample: bool = False,
    ) -> None:
        self.path = Path(path)
        self._handle: tuple[int, h5py.File] | None = None
        try:
            self._read_contents()
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        # A damaged file makes h5py raise whatever comes; to the reader it is all the same.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path}: damaged or no frame store ({reason})") from error
        if step_minutes is not None:
            self._take_step(step_minutes, subsample)

    def _read_contents(self) -> None:
        """Read and check everything but the frames themselves."""
        if not self.path.is_file():
            raise InputError("no such file, expected a frame store")
        store = self._file()
        if store.attrs.get("format") != FORMAT:
            raise InputError(f"found an HDF5 file of another kind, expected a {FORMAT}")
        if store.attrs["version"] != VERSION:
            raise InputError(f"found version {store.attrs['version']}, expected {VERSION}")
        step_minutes = float(store.attrs["step_minutes"])
        step_in_seconds(step_minutes)
        self.step_minutes = int(step_minutes) if step_minutes.is_integer() else step_minutes
        height, width = (int(side) for side in store.attrs["frame_shape"])
        self.shape = (height, width)
        self.preparation: dict[str, Any] = json.loads(store.attrs["preparation"])
        self.fingerprint = str(store.attrs["fingerprint"])
        times = _plain_dataset(store, "times", np.int64, (None,))
        number = times.shape[0]
        _plain_dataset(store, "frames", np.uint8, (number, height, width))
        _plain_dataset(store, "masks", np.uint8, (number, height, -(-width // 8)))
        self.sequences = _read_sequences(store, times[:])

    def _take_step(self, step_minutes: float, subsample: bool) -> None:
        wanted, stored = step_in_seconds(step_minutes), step_in_seconds(self.step_minutes)
        if wanted == stored:
            return
        found = f"{self.path}: found frames every {self.step_minutes:g} minutes"
        if wanted % stored:
            raise InputError(f"{found}, expected {step_minutes:g}, which is not a multiple of them")
        if not subsample:
            raise InputError(
                f"{found}, expected {step_minutes:g}; one of every "
                f"{wanted // stored} frames has to be asked for"
            )
        self.step_minutes = step_minutes

    def _file(self) -> h5py.File:
        """The file as this process has opened it."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), h5py.File(self.path, "r", locking=False))
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def split(self, name: str) -> tuple[Sequence, ...]:
        """The sequences of one split.

        Raises:
            InputError: there is no sequence of that split.
        """
        chosen = tuple(sequence for sequence in self.sequences if sequence.split == name)
        if not chosen:
            there = ", ".join(sorted({sequence.split for sequence in self.sequences}))
            raise InputError(
                f"{self.path}: no split {name!r}, found: {there or 'no frames at all'}"
            )
        return chosen

    def read(self, sequence: Sequence, start: ArrayLike, length: int) -> Clip:
        """Frames of `sequence` at `start`, one step later, and so on.

        Args:
            sequence: one of this store's.
            start: datetime64 of the first frame; it may be one that is missing.
            length: number of frames.

        Raises:
            InputError: the frames cannot be decoded.
        """
        step = step_in_seconds(self.step_minutes)
        first_second = np.asarray(start, dtype="datetime64[s]").astype(np.int64)
        wanted = first_second + step * np.arange(length)
        stored = sequence.times.astype(np.int64)
        index = np.searchsorted(stored, wanted)
        present = stored[np.minimum(index, len(stored) - 1)] == wanted
        frames = np.zeros((length, *self.shape), dtype=np.uint8)
        mask = np.zeros((length, *self.shape), dtype=bool)
        positions, rows = np.flatnonzero(present), index[present] + sequence.first
        # Rows within one chunk of each other are decoded together anyway: one slice spans them.
        breaks = np.flatnonzero(np.diff(rows) > FRAMES_PER_CHUNK) + 1
        for place, run in zip(np.split(positions, breaks), np.split(rows, breaks), strict=True):
            if not run.size:
                continue
            try:
                self._read_run(run, place, frames, mask)
            except (OSError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{self.path}: damaged, frames from {sequence.times[run[0] - sequence.first]} "
                    f"of {sequence.name} cannot be read ({reason})"
                ) from error
        return Clip(frames, mask, wanted.astype("datetime64[s]"))

    def _read_run(
        self,
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        frames: NDArray[np.uint8],
        mask: NDArray[np.bool_],
    ) -> None:
        """Read frames that lie close together in the file to their positions in a clip."""
        store, width = self._file(), self.shape[1]
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        if rows[-1] - rows[0] == positions[-1] - positions[0] == len(rows) - 1:
            place = slice(int(positions[0]), int(positions[-1]) + 1)
            store["frames"].read_direct(frames, span, place)
            mask[place] = np.unpackbits(store["masks"][span], axis=-1, count=width).view(bool)
        else:
            inside = rows - rows[0]
            frames[positions] = store["frames"][span][inside]
            packed = store["masks"][span][inside]
            mask[positions] = np.unpackbits(packed, axis=-1, count=width).view(bool)


def _plain_dataset(
    store: h5py.File, name: str, dtype: type, shape: tuple[int | None, ...]
) -> h5py.Dataset:
    """A dataset that lies in this very file, of the dtype and shape it must have."""
    if name not in store:
        raise InputError(f"found no dataset {name}, expected a complete {FORMAT}")
    # A link or external storage would make the file read others that its giver has chosen.
    dataset = store[name] if isinstance(store.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise InputError(f"found {name} as a group or link, expected a dataset in the file itself")
    expected = tuple(
        dataset.shape[axis] if side is None else side for axis, side in enumerate(shape)
    )
    if dataset.dtype != dtype or dataset.shape != expected:
        raise InputError(
            f"found {name} as {dataset.dtype} {dataset.shape}, "
            f"expected {np.dtype(dtype)} {tuple('n' if side is None else side for side in shape)}"
        )
    return dataset


def _read_sequences(store: h5py.File, times: NDArray[np.int64]) -> tuple[Sequence, ...]:
    """The sequences, checked against the times."""
    if not isinstance(store.get("sequences", getlink=True), h5py.HardLink):
        raise InputError(f"found no group sequences, expected a complete {FORMAT}")
    columns = {}
    for column in ("name", "split", "metadata", "first", "count"):
        dataset = store["sequences"].get(column, getlink=True)
        if not isinstance(dataset, h5py.HardLink):
            raise InputError(f"found no dataset sequences/{column}, expected a complete {FORMAT}")
        values = store["sequences"][column]
        columns[column] = (
            values.asstr()[:] if column in ("name", "split", "metadata") else values[:]
        )
    sequences = []
    for name, split, metadata, first, count in zip(*columns.values(), strict=True):
        if not 0 <= first <= first + count <= len(times):
            raise InputError(f"found sequence {name} outside the {len(times)} frames stored")
        own_times = times[first : first + count].astype("datetime64[s]")
        as_seconds(own_times)
        sequences.append(Sequence(name, split, own_times, json.loads(metadata), int(first)))
    return tuple(sequences)
