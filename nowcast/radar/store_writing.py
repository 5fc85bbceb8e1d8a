"""Writing a frame store in parallel, so that an interrupted preparation continues where it stopped.

The frames are made in blocks, each a part file (`parts`) in a folder beside the store
(`<store>.parts`). At the end the compressed chunks are copied, as they are, into one file, which is
renamed to the store's name; then the folder is removed. The number of workers changes nothing in
the store. What the frames are is the caller's business (`archive_preparation`,
`event_preparation`); the layout is `store`'s.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.progress import progress
from nowcast.radar.clips import as_seconds, step_in_seconds
from nowcast.radar.parts import content_hash, discard_other_parts, make_parts, parts_folder
from nowcast.radar.store import FORMAT, FRAMES_PER_CHUNK, VERSION, FrameStore, Sequence
from nowcast.radar.units import DBZ_AT_ZERO, DBZ_PER_PIXEL, HKO7

log = logging.getLogger("nowcast")

FRAMES_PER_BLOCK = 50
"""Frames of one part file, a multiple of FRAMES_PER_CHUNK: 50 frames of 480 × 480 take 12 MB."""

Reference = TypeVar("Reference")
ReadFrames = Callable[[Several[Reference]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


def already_prepared(out: Path, fingerprint: str, overwrite: bool) -> FrameStore | None:
    """The store that stands at `out`, if it was made from the same frames in the same way.

    Parts that lie beside it are removed then.

    Args:
        out: the file to be written.
        fingerprint: the content hash of the store to be written there.
        overwrite: whether any other file there may be replaced.

    Raises:
        InputError: something else stands there and must not be replaced.
    """
    if not out.exists():
        return None
    try:
        store = FrameStore(out)
        if store.fingerprint == fingerprint:
            # Left over by a preparation that was interrupted while it replaced this store.
            shutil.rmtree(parts_folder(out), ignore_errors=True)
            log.info("%s is already there, made from the same frames in the same way", out)
            return store
        found = "a frame store made from other frames or with other settings"
    except InputError:
        found = "a file that is no frame store"
    if overwrite:
        return None
    raise InputError(f"{out}: found {found}, expected a new name (or permission to overwrite)")


def write_store(
    out: Path,
    sequences: Several[Sequence],
    references: Several[Reference],
    read: ReadFrames[Reference],
    *,
    frame_shape: tuple[int, int],
    step_minutes: float,
    preparation: Mapping[str, Any],
    fingerprint: str,
    workers: int | None = None,
    frames_per_block: int = FRAMES_PER_BLOCK,
) -> None:
    """Write a complete frame store.

    Args:
        out: the file; one that is there is replaced once the new one is complete.
        sequences: what lies one after the other in the store; their `first` is set here.
        references: one per frame, all sequences' frames in turn: plain values, with a `repr`
            that changes when the frame does.
        read: picklable; frames uint8 (n, y, x) and masks bool (n, y, x) of n references. Its
            `repr` together with the references' must identify what it gives.
        frame_shape: (y, x) of a frame.
        step_minutes: time between frames.
        preparation: how the store was made, kept in it as JSON.
        fingerprint: the store's content hash, kept in it to recognise it.
        workers: as in `make_parts`.
        frames_per_block: frames of one part file, a multiple of FRAMES_PER_CHUNK.

    Raises:
        InputError: an input is wrong.
    """
    times = [as_seconds(sequence.times) for sequence in sequences]
    if sum(map(len, times)) != len(references) or not references:
        raise InputError(
            f"{out}: found {len(references)} frames, expected one per time, at least 1"
        )
    names = [sequence.name for sequence in sequences]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{out}: found two sequences {twice!r}, expected different names")
    step_in_seconds(step_minutes)
    blocks = [
        references[first : first + frames_per_block]
        for first in range(0, len(references), frames_per_block)
    ]
    block_names = [f"block-{content_hash(read, frame_shape, block)}.h5" for block in blocks]
    parts = {
        name: partial(_write_block, block, read, frame_shape)
        for name, block in zip(block_names, blocks, strict=True)
    }
    folder = parts_folder(out)
    discard_other_parts(folder, "block-*.h5", parts)
    paths = make_parts(folder, parts, f"Preparing {out.name}", workers)
    by_name = dict(zip(parts, paths, strict=True))
    # Assembled among the parts, so that not even SIGKILL leaves a stray file beside `out`.
    assembled = folder / "assembled.h5"
    with replacing(assembled) as temporary, h5py.File(temporary, "w") as store:
        _write_description(store, sequences, times)
        store.attrs.update(
            format=FORMAT,
            version=VERSION,
            step_minutes=float(step_minutes),
            frame_shape=frame_shape,
            frames_per_chunk=FRAMES_PER_CHUNK,
            dbz_per_pixel=DBZ_PER_PIXEL,
            dbz_at_zero=DBZ_AT_ZERO,
            zr_a=HKO7.a,
            zr_b=HKO7.b,
            preparation=json.dumps(preparation, ensure_ascii=False),
            fingerprint=fingerprint,
        )
        _create_datasets(store, len(references), frame_shape)
        for number, name in enumerate(progress(block_names, f"Assembling {out.name}")):
            _copy_chunks(by_name[name], store, number * frames_per_block)
    assembled.replace(out)
    shutil.rmtree(folder)


def _create_datasets(file: h5py.File, number: int, frame_shape: tuple[int, int]) -> None:
    height, width = frame_shape
    for name, columns in (("frames", width), ("masks", -(-width // 8))):
        file.create_dataset(
            name,
            shape=(number, height, columns),
            dtype=np.uint8,
            chunks=(FRAMES_PER_CHUNK, height, columns),
            maxshape=(None, height, columns),
            compression="gzip",
            compression_opts=1,
            fillvalue=0,
        )


def _write_block(
    references: Several[Reference],
    read: ReadFrames[Reference],
    frame_shape: tuple[int, int],
    path: Path,
) -> None:
    """Write the part file of one block: its frames and masks, as chunks of the store to be."""
    frames, masks = read(references)
    expected = (len(references), *frame_shape)
    if frames.shape != expected or masks.shape != expected or frames.dtype != np.uint8:
        raise ValueError(f"found {frames.dtype} {frames.shape} {masks.shape}, expected {expected}")
    with h5py.File(path, "w") as part:
        _create_datasets(part, len(references), frame_shape)
        part["frames"][:] = frames
        part["masks"][:] = np.packbits(masks, axis=-1)


def _copy_chunks(part_path: Path, store: h5py.File, first: int) -> None:
    """Copy a block's chunks, compressed as they are, to where its first frame belongs."""
    with h5py.File(part_path, "r") as part:
        for name in ("frames", "masks"):
            for row in range(0, part[name].shape[0], FRAMES_PER_CHUNK):
                filters, chunk = part[name].id.read_direct_chunk((row, 0, 0))
                store[name].id.write_direct_chunk((first + row, 0, 0), chunk, filters)


def _write_description(
    store: h5py.File, sequences: Several[Sequence], times: Several[NDArray[np.int64]]
) -> None:
    counts = np.array([len(own) for own in times], dtype=np.int64)
    text = h5py.string_dtype()
    group = store.create_group("sequences")
    group.create_dataset("name", data=[s.name for s in sequences], dtype=text)
    group.create_dataset("split", data=[s.split for s in sequences], dtype=text)
    metadata = [json.dumps(s.metadata, ensure_ascii=False) for s in sequences]
    group.create_dataset("metadata", data=metadata, dtype=text)
    group.create_dataset("first", data=np.cumsum(counts) - counts)
    group.create_dataset("count", data=counts)
    store.create_dataset("times", data=np.concatenate(times))
