"""Writing a frame store in parallel, so that an interrupted preparation continues where it stopped.

The frames are made in blocks, each a part file (`parts`) in a folder beside the store
(`<store>.parts`). At the end the compressed chunks are copied, as they are, into one file, which is
renamed to the store's name; then the folder is removed. The number of workers changes nothing in
the store. What the frames are is the caller's business (`archive_preparation`,
`event_preparation`); the layout is described in `docs/frame_store.md`.
"""

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.files import move, one_line_failures, replacing
from nowcast.progress import progress
from nowcast.radar.clips import as_seconds, step_in_seconds
from nowcast.radar.codecs import Compression, compression_named
from nowcast.radar.parts import (
    ASSEMBLED,
    claimed,
    content_hash,
    discard_other_parts,
    is_whole,
    make_part,
    make_parts,
    parts_folder,
    remove_parts,
)
from nowcast.radar.saturated_rain import mean_saturated_rain
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_chunks import MOST_CHUNK_BYTES, create_chunked, write_chunk
from nowcast.radar.store_contents import (
    ATTRIBUTES,
    COLUMNS,
    FORMAT,
    VERSION,
    as_stored,
    contents_checksum,
    pack_masks,
)
from nowcast.radar.units import DBZ_AT_ZERO, DBZ_PER_PIXEL, HKO7

log = logging.getLogger("nowcast")

FRAMES_PER_CHUNK = 5
"""Frames of one chunk. With one, a clip of 25 frames decodes no frame in vain, but takes longer to
read at 120 × 120 pixels; with ten it takes longer at 480 × 480."""

HDF5_VERSIONS = ("v110", "v110")
"""Oldest and newest HDF5 whose file format may be used: 1.10 keeps checksums of its own."""

MOST_FRAMES_PER_BLOCK = 50
"""Frames of one part file, if they are small: 50 frames of 480 × 480 take 12 MB."""

MOST_BLOCK_BYTES = 2**24
"""Bytes of the frames of one part file, unless one chunk takes more."""

COLUMNS_OF_BLOCKS = ("rain", "checksums/frames", "checksums/masks")
"""What a part file holds besides its chunks."""

Reference = TypeVar("Reference")
ReadFrames = Callable[[Several[Reference]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


def already_prepared(out: Path, fingerprint: str, compression: Compression) -> FrameStore | None:
    """The store that stands at `out`, if it was made from the same frames in the same way.

    Parts that lie beside it are removed then.

    Args:
        out: the file to be written.
        fingerprint: the content hash of the store to be written there.
        compression: its codec, which the hash leaves out: it makes no other frames.

    Raises:
        InputError: something else stands there.
    """
    if not out.exists():
        return None
    try:
        store = FrameStore(out)
        if (store.fingerprint, store.compression) == (fingerprint, compression):
            # Left over by a preparation that was interrupted while it replaced this store.
            if parts_folder(out).is_dir():
                with suppress(InputError, OSError), claimed(out) as folder:
                    remove_parts(folder)
            log.info("%s is already there, made from the same frames in the same way", out)
            return store
        found = "a frame store made from other frames or with other settings"
    except InputError:
        found = "a file that is no frame store of this version"
    raise InputError(f"{out}: found {found}, expected a new name (or overwrite)")


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
    frames_per_block: int | None = None,
    compression: Compression = "lz4",
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
        frames_per_block: frames of one part file, a multiple of FRAMES_PER_CHUNK; None takes as
            many as fit into MOST_BLOCK_BYTES.
        compression: name of the codec of the chunks: "lz4" is read fastest for its size, "gzip" by
            every HDF5 tool without a plugin, "none" fastest of all.

    Raises:
        InputError: an input is wrong, or another process is writing the same store.
        OSError: the system refuses, as when the disk is full.
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
    compression = compression_named(compression)
    if FRAMES_PER_CHUNK * frame_shape[0] * frame_shape[1] > MOST_CHUNK_BYTES:
        raise InputError(
            f"{out}: found frames of {frame_shape[0]} × {frame_shape[1]} pixels, expected at most "
            f"{MOST_CHUNK_BYTES // FRAMES_PER_CHUNK:,} pixels"
        )
    if frames_per_block is None:
        frames_per_block = _frames_per_block(frame_shape)
    write_block = partial(_write_block, read, frame_shape, compression)
    blocks = [
        references[first : first + frames_per_block]
        for first in range(0, len(references), frames_per_block)
    ]
    made_by = (VERSION, compression, FRAMES_PER_CHUNK, read, frame_shape)
    block_names = [f"block-{content_hash(*made_by, block)}.h5" for block in blocks]
    parts = {
        name: partial(write_block, block) for name, block in zip(block_names, blocks, strict=True)
    }
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "compression": compression,
        "frames_per_chunk": FRAMES_PER_CHUNK,
        "frame_shape": frame_shape,
        "step_minutes": step_minutes,
        "dbz_per_pixel": DBZ_PER_PIXEL,
        "dbz_at_zero": DBZ_AT_ZERO,
        "zr_a": HKO7.a,
        "zr_b": HKO7.b,
        "preparation": json.dumps(preparation, ensure_ascii=False),
        "fingerprint": fingerprint,
    }
    attributes: dict[str, NDArray[Any]] = {
        name: as_stored(values[name]) if dtype is np.bytes_ else np.array(values[name], dtype)
        for name, (dtype, _) in ATTRIBUTES.items()
    }
    with claimed(out) as folder:
        discard_other_parts(folder, "block-*.h5", parts)
        make_parts(folder, parts, f"Preparing {out.name}", workers)
        # Assembled among the parts, so that not even SIGKILL leaves a stray file beside `out`.
        assembled = folder / ASSEMBLED
        with (
            one_line_failures(assembled),
            replacing(assembled) as temporary,
            h5py.File(temporary, "w", libver=HDF5_VERSIONS) as store,
        ):
            columns = _describe(sequences, times)
            _create_chunked(store, len(references), frame_shape, compression)
            of_blocks: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS_OF_BLOCKS}
            for number, name in enumerate(progress(block_names, f"Assembling {out.name}")):
                if not is_whole(folder / name):
                    make_part(folder / name, parts[name])
                with h5py.File(folder / name, "r") as part:
                    _copy_chunks(part, store, number * frames_per_block)
                    for column in COLUMNS_OF_BLOCKS:
                        of_blocks[column].append(part[column][:])
            columns |= {column: np.concatenate(blocks) for column, blocks in of_blocks.items()}
            # A group that h5py makes by itself would keep the time at which it was made.
            store.create_group("checksums")
            store.create_group("sequences")
            for column in COLUMNS:
                store[column] = columns[column]
            store.attrs.update(attributes)
            checksum = contents_checksum(columns, {name: store.attrs[name] for name in ATTRIBUTES})
            store.attrs["checksum"] = np.uint32(checksum)
        move(assembled, out)
        remove_parts(folder)


def _frames_per_block(frame_shape: tuple[int, int]) -> int:
    most = min(MOST_FRAMES_PER_BLOCK, MOST_BLOCK_BYTES // (frame_shape[0] * frame_shape[1]))
    return FRAMES_PER_CHUNK * max(1, most // FRAMES_PER_CHUNK)


def _create_chunked(
    file: h5py.File, number: int, frame_shape: tuple[int, int], compression: Compression
) -> None:
    height, width = frame_shape
    for name, along_x in (("frames", width), ("masks", -(-width // 8))):
        create_chunked(file, name, number, (FRAMES_PER_CHUNK, height, along_x), compression)


def _write_block(
    read: ReadFrames[Reference],
    frame_shape: tuple[int, int],
    compression: Compression,
    references: Several[Reference],
    path: Path,
) -> None:
    """Write the part file of one block: chunks of the store to be, and what it says of them."""
    frames, masks = read(references)
    expected = (len(references), *frame_shape)
    if frames.shape != expected or masks.shape != expected or frames.dtype != np.uint8:
        raise ValueError(f"found {frames.dtype} {frames.shape} {masks.shape}, expected {expected}")
    frames = np.ascontiguousarray(frames)
    masks = np.ascontiguousarray(masks, dtype=bool)
    with h5py.File(path, "w", libver=HDF5_VERSIONS) as part:
        _create_chunked(part, len(references), frame_shape, compression)
        for name, rows in (("frames", frames), ("masks", pack_masks(masks))):
            chunks = [
                rows[first : first + FRAMES_PER_CHUNK]
                for first in range(0, len(rows), FRAMES_PER_CHUNK)
            ]
            for number, chunk in enumerate(chunks):
                write_chunk(part[name], number, chunk, compression)
            part[f"checksums/{name}"] = np.array(
                [zlib.crc32(chunk.data) for chunk in chunks], dtype=np.uint32
            )
        part["rain"] = mean_saturated_rain(frames, masks)


def _copy_chunks(part: h5py.File, store: h5py.File, first: int) -> None:
    """Copy a block's chunks, compressed as they are, to where its first frame belongs."""
    for name in ("frames", "masks"):
        for row in range(0, part[name].shape[0], FRAMES_PER_CHUNK):
            filters, chunk = part[name].id.read_direct_chunk((row, 0, 0))
            store[name].id.write_direct_chunk((first + row, 0, 0), chunk, filters)


def _describe(
    sequences: Several[Sequence], times: Several[NDArray[np.int64]]
) -> dict[str, NDArray[Any]]:
    counts = np.array([len(own) for own in times], dtype=np.int64)
    metadata = [json.dumps(s.metadata, ensure_ascii=False) for s in sequences]
    return {
        "times": np.concatenate(times),
        "sequences/first": np.cumsum(counts) - counts,
        "sequences/count": counts,
        "sequences/name": as_stored([s.name for s in sequences]),
        "sequences/split": as_stored([s.split for s in sequences]),
        "sequences/metadata": as_stored(metadata),
    }
