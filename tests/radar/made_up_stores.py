"""Made-up frame stores, and changes to them, for the tests of this folder."""

import zlib

import h5py
import numpy as np
from made_up import HEIGHT, NUMBERS, SEQUENCES, WIDTH, MadeUpFrames

from nowcast.radar.store_writing import write_store


def write_compressed(path, compression, read=None, frame_shape=(HEIGHT, WIDTH)):
    write_store(
        path,
        SEQUENCES,
        NUMBERS,
        MadeUpFrames() if read is None else read,
        frame_shape=frame_shape,
        step_minutes=6,
        preparation={"source": "made up"},
        fingerprint="abc",
        workers=1,
        frames_per_block=10,
        compression=compression,
    )
    return path


def set_text(store, name, text):
    store.attrs[name] = np.array(text.encode(), dtype=h5py.string_dtype("utf-8", len(text)))


def sign(store):
    """Give an open store the checksum of what it holds, as its documentation describes it."""
    checksum = 0
    for name in ("times", "rain", "checksums/frames", "checksums/masks"):
        checksum = zlib.crc32(store[name][()].tobytes(), checksum)
    for name in ("first", "count", "name", "split", "metadata"):
        checksum = zlib.crc32(store[f"sequences/{name}"][()].tobytes(), checksum)
    for name in sorted(store.attrs):
        if name != "checksum":
            value = store.attrs[name]
            value = value.encode() if isinstance(value, str) else value
            stored = value if isinstance(value, bytes) else np.asarray(value).tobytes()
            checksum = zlib.crc32(name.encode() + stored, checksum)
    store.attrs["checksum"] = np.uint32(checksum)


def chunk_places(path):
    """(dataset, number of the chunk, its first byte in the file, its bytes) of every chunk."""
    with h5py.File(path) as store:
        return [
            (name, info.chunk_offset[0] // store[name].chunks[0], info.byte_offset, info.size)
            for name in ("frames", "masks")
            for info in map(store[name].id.get_chunk_info, range(store[name].id.get_num_chunks()))
        ]
