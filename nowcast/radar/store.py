"""The frame store: radar frames, their masks and times in one HDF5 file, and how to read it.

The layout is described in `docs/frame_store.md`, well enough to read a store with h5py alone.
Writing one is `store_writing`, checking one whole is `store_verification`; what goes into it is
decided in `archive_preparation` and `event_preparation`.
"""

import json
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import Times, as_seconds, step_in_seconds
from nowcast.radar.static_mask import exclude_mask_from_text
from nowcast.radar.store_chunks import open_unchanged, slice_or_index
from nowcast.radar.store_contents import (
    TEXT_COLUMNS,
    VERSION,
    Contents,
    as_text,
    read_contents,
    unpack_masks,
)
from nowcast.radar.store_in_memory import load

__all__ = ["VERSION", "Clip", "FrameStore", "Sequence"]


MOST_STEP_MINUTES = 365 * 24 * 60
"""The times of a clip with longer steps might not fit into 64 bits."""


def _no_rain() -> NDArray[np.float32]:
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Sequence:
    """The frames of one place, in time order.

    Attributes:
        name: unique within a store.
        split: what the frames are for: train, valid, test.
        times: datetime64[s] (n,), strictly increasing; missing frames are simply not among them.
        metadata: source, licence, grid spacing and the like.
        first: index of the first frame in the store.
        rain: float32 (n,), mean of 1 − exp(−R / (1 mm/h)) over the pixels of each frame that
            count, R the rain rate; empty where the frames are not in a store yet.
    """

    name: str
    split: str
    times: Times
    metadata: Mapping[str, Any]
    first: int = 0
    rain: NDArray[np.float32] = field(default_factory=_no_rain)


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

    Threads may share it. It can be pickled and survives a fork, so that the workers of a data
    loader may share it, too.

    Args:
        path: the store's file.
        step_minutes: the time step wanted; None takes the store's own.
        subsample: whether a step that is a multiple of the store's is accepted.
        in_memory: whether all frames are decoded now and kept in memory. Forked processes share
            them; an unpickled copy decodes them anew when it first reads.

    Attributes:
        path: the store's file.
        step_minutes: time between the frames of a clip.
        shape: (y, x) of a frame.
        sequences: every sequence of the store.
        preparation: how the store was made: source, settings, what was found and left out.
        fingerprint: content hash of what it was made from.
        compression: name of the codec of its chunks.
        in_memory: as given.

    Raises:
        InputError: the file is not there, damaged or no frame store, has another time step, or
            its frames do not fit into memory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        step_minutes: float | None = None,
        subsample: bool = False,
        in_memory: bool = False,
    ) -> None:
        self.path = Path(path)
        contents = read_contents(self.path)
        try:
            contents.check()
            self.sequences = _sequences(contents)
            self.preparation = _json_object(as_text(contents.attributes["preparation"]))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path}: damaged or no frame store ({reason})") from error
        step = float(contents.attributes["step_minutes"])
        self.step_minutes = int(step) if step.is_integer() else step
        self.fingerprint = as_text(contents.attributes["fingerprint"])
        self.shape: tuple[int, int] = contents.frames.shape[1:]
        self.compression = contents.frames.compression
        self.in_memory = in_memory
        self._frames, self._masks, self._stamp = contents.frames, contents.masks, contents.stamp
        if step_minutes is not None:
            self._take_step(step_minutes, subsample)
        if self.step_minutes > MOST_STEP_MINUTES:
            raise InputError(
                f"{self.path}: found frames every {self.step_minutes:g} minutes, expected at most "
                f"{MOST_STEP_MINUTES}, a year"
            )
        self._open()
        if in_memory:
            self._in_memory()

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

    def _open(self) -> None:
        self._descriptor = open_unchanged(self.path, self._stamp)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self._memory: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
        self._loading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        of_this_process = ("_descriptor", "_close", "_memory", "_loading")
        kept = {name: value for name, value in vars(self).items() if name not in of_this_process}
        return kept | {"path": self.path.absolute()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    @property
    def exclude_mask(self) -> NDArray[np.bool_] | None:
        """Pixels bool (y, x) that never count, True = leave out; None where the store has none.

        Stores of events have none, nor have those prepared before it was kept.

        Raises:
            InputError: what the store keeps is no mask of its frames.
        """
        text = self.preparation.get("exclude_mask")
        if text is None:
            return None
        try:
            return exclude_mask_from_text(text, self.shape)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

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
        stored = sequence.times.view(np.int64)
        index = np.searchsorted(stored, wanted)
        present = index < len(stored)
        present[present] = stored[index[present]] == wanted[present]
        frames = np.empty((length, *self.shape), dtype=np.uint8)
        packed = np.empty((length, *self._masks.shape[1:]), dtype=np.uint8)
        frames[~present] = 0
        packed[~present] = 0
        if present.any():
            self._copy(sequence, index[present], np.flatnonzero(present), frames, packed)
        mask = unpack_masks(packed, self.shape[1])
        return Clip(frames, mask, wanted.astype("datetime64[s]"))

    def _copy(
        self,
        sequence: Sequence,
        index: NDArray[np.int64],
        positions: NDArray[np.int64],
        frames: NDArray[np.uint8],
        packed: NDArray[np.uint8],
    ) -> None:
        """Copy the frames and masks at `index` in a sequence to their positions in a clip."""
        rows = index + sequence.first
        if self.in_memory:
            source, place = slice_or_index(rows), slice_or_index(positions)
            for clip, whole in zip((frames, packed), self._in_memory(), strict=True):
                clip[place] = whole[source]
            return
        for number, run in self._frames.runs(rows):
            source = slice_or_index(rows[run] - self._frames.rows_of(number).start)
            place = slice_or_index(positions[run])
            try:
                frames[place] = self._frames.read(self._descriptor, number)[source]
                packed[place] = self._masks.read(self._descriptor, number)[source]
            except InputError as error:
                raise InputError(
                    f"{self.path}: damaged, frames from {sequence.times[index[run][0]]} of "
                    f"{sequence.name} cannot be read ({error})"
                ) from error

    def _in_memory(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """All frames and packed masks, decoded once per process."""
        with self._loading:
            if self._memory is None:
                self._memory = load(self.path, self._descriptor, self._frames, self._masks)
            return self._memory


def _json_object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise InputError(f"found JSON that is no object: {text[:40]!r}, expected one")
    return found


def _sequences(contents: Contents) -> tuple[Sequence, ...]:
    """The sequences, checked against the times."""
    columns = contents.columns
    first, count = columns["sequences/first"], columns["sequences/count"]
    number = len(columns["times"])
    if not ((0 <= count) & (count <= number)).all() or count.sum() != number:
        raise InputError(f"found sequences that are not those of the {number} frames stored")
    if (first != np.cumsum(count) - count).any():
        raise InputError("found sequences that do not lie one after the other, expected them to")
    if not ((columns["rain"] >= 0) & (columns["rain"] <= 1)).all():
        raise InputError("found rain outside of 0 to 1, which its mean cannot be")
    sequences = []
    for place, (name, split, metadata) in enumerate(
        zip(*(contents.texts(column) for column in TEXT_COLUMNS), strict=True)
    ):
        own = slice(first[place], first[place] + count[place])
        times = columns["times"][own].astype("datetime64[s]")
        as_seconds(times)
        sequences.append(
            Sequence(
                name, split, times, _json_object(metadata), int(first[place]), columns["rain"][own]
            )
        )
    return tuple(sequences)
