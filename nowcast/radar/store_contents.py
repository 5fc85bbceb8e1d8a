"""What a frame store's file holds besides the frames, read and checked: `docs/frame_store.md`.

Nothing in the file is believed: what its datasets claim to hold is compared with the size of the
file before it is read. The chunks of frames are `store_chunks`'s business.
"""

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import step_in_seconds
from nowcast.radar.codecs import compression_named
from nowcast.radar.store_chunks import MOST_CHUNK_BYTES, Chunks, locate_chunks, stamp_of

FORMAT = "nowcast frame store"
VERSION = 2

TEXT_COLUMNS = ("sequences/name", "sequences/split", "sequences/metadata")
COLUMNS: Mapping[str, type[np.generic]] = {
    "times": np.int64,
    "rain": np.float32,
    "checksums/frames": np.uint32,
    "checksums/masks": np.uint32,
    "sequences/first": np.int64,
    "sequences/count": np.int64,
    **dict.fromkeys(TEXT_COLUMNS, np.bytes_),
}
"""The datasets other than frames and masks, in the order of the checksum of the contents."""

ATTRIBUTES: Mapping[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "compression": (np.bytes_, ()),
    "dbz_at_zero": (np.float64, ()),
    "dbz_per_pixel": (np.float64, ()),
    "fingerprint": (np.bytes_, ()),
    "format": (np.bytes_, ()),
    "frame_shape": (np.int64, (2,)),
    "frames_per_chunk": (np.int64, ()),
    "preparation": (np.bytes_, ()),
    "step_minutes": (np.float64, ()),
    "version": (np.int64, ()),
    "zr_a": (np.float64, ()),
    "zr_b": (np.float64, ()),
}
"""Type and shape of the attributes, in the order of the checksum of the contents."""


@dataclass(frozen=True, eq=False)
class Contents:
    """A store without its frames.

    Attributes:
        columns: the datasets named by COLUMNS, whole.
        attributes: those named by ATTRIBUTES.
        frames: where the frames are.
        masks: where the masks are, packed along x.
        stamp: tells the file from another that takes its name later.
        checksum_found: CRC-32 of columns and attributes as they are.
        checksum_kept: the one that the store keeps of them.
    """

    columns: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]
    frames: Chunks
    masks: Chunks
    stamp: tuple[int, int]
    checksum_found: int
    checksum_kept: int

    def texts(self, column: str) -> list[str]:
        """One of TEXT_COLUMNS, decoded."""
        return [as_text(stored) for stored in self.columns[column]]

    def check(self) -> None:
        """Refuse contents that are not those that were written.

        Raises:
            InputError: their checksum is another than the one that the store keeps.
        """
        if self.checksum_found != self.checksum_kept:
            raise InputError(
                "damaged, found times, rain, sequences, checksums or attributes with CRC-32 "
                f"{self.checksum_found:08x}, expected {self.checksum_kept:08x}"
            )


def pack_masks(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Masks as the store keeps them: a bit per pixel, each row of pixels in bytes of its own."""
    return np.packbits(masks, axis=-1)


def unpack_masks(packed: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Masks bool (…, y, x) from packed ones (…, y, bytes along x).

    Args:
        packed: what `pack_masks` gives.
        width: pixels of a row.
    """
    # Unpacking all bytes as one run is twice as fast as `axis=-1` with its `count`.
    bits = np.unpackbits(packed).reshape(*packed.shape[:-1], -1)
    return np.ascontiguousarray(bits[..., :width]).view(bool)


def as_text(stored: bytes) -> str:
    """A text as it was before `as_stored`."""
    return stored.decode("utf-8", "surrogateescape")


def as_stored(texts: str | list[str]) -> NDArray[np.bytes_]:
    """Texts as the store keeps them: UTF-8, all of one length, filled up with zero bytes.

    HDF5's texts of any length lie in a heap without checksums; damage to it can stop HDF5 forever.
    """
    encoded = np.array(np.char.encode(texts, "utf-8", "surrogateescape"))
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.itemsize)))


def contents_checksum(columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> int:
    """CRC-32 of everything in a store but frames and masks.

    Args:
        columns: the datasets named by COLUMNS.
        attributes: those named by ATTRIBUTES.
    """
    checksum = 0
    for name in COLUMNS:
        checksum = zlib.crc32(columns[name].tobytes(), checksum)
    for name in ATTRIBUTES:
        value = attributes[name]
        stored = value if isinstance(value, bytes) else value.tobytes()
        checksum = zlib.crc32(name.encode() + stored, checksum)
    return checksum


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Read a store without its frames.

    The checksum is compared by `Contents.check`.

    Args:
        path: the store's file.

    Raises:
        InputError: the file is not there, or no frame store of this version.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError("no such file, expected a frame store")
        stamp = stamp_of(path.stat())
        with h5py.File(path, "r", locking=False) as store:
            return _read(store, stamp)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    # A damaged file makes h5py raise whatever comes; to the reader it is all the same.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged or no frame store ({reason})") from error


def _read(store: h5py.File, stamp: tuple[int, int]) -> Contents:
    if store.userblock_size or not {"format", "version"} <= set(store.attrs):
        raise InputError(f"found an HDF5 file of another kind, expected a {FORMAT}")
    if (version := _attribute(store, "version", np.int64, ())) != VERSION:
        raise InputError(
            f"found a {FORMAT} of version {version}, expected {VERSION}: prepare it again"
        )
    attributes = {name: _attribute(store, name, *kind) for name, kind in ATTRIBUTES.items()}
    if as_text(attributes["format"]) != FORMAT:
        raise InputError(f"found an HDF5 file of another kind, expected a {FORMAT}")
    height, width = (int(side) for side in attributes["frame_shape"])
    per_chunk = int(attributes["frames_per_chunk"])
    compression = compression_named(as_text(attributes["compression"]))
    if min(height, width, per_chunk) < 1 or per_chunk * height * width > MOST_CHUNK_BYTES:
        raise InputError(
            f"found chunks of {per_chunk} frames of {height} × {width} pixels, expected from 1 to "
            f"{MOST_CHUNK_BYTES} bytes"
        )
    step_in_seconds(float(attributes["step_minutes"]))
    columns = {}
    for name, dtype in COLUMNS.items():
        columns[name] = _column(store, name, dtype, file_bytes=stamp[0])
    number = len(columns["times"])
    counts = {"rain": number, "sequences/first": len(columns["sequences/count"])}
    counts |= dict.fromkeys(TEXT_COLUMNS, len(columns["sequences/count"]))
    counts |= dict.fromkeys(("checksums/frames", "checksums/masks"), -(-number // per_chunk))
    for name, expected in counts.items():
        if len(columns[name]) != expected:
            raise InputError(f"found {len(columns[name])} values of {name}, expected {expected}")
    chunks = {}
    for name, along_x in (("frames", width), ("masks", -(-width // 8))):
        dataset = _own_dataset(store, name)
        if dataset.dtype != np.uint8 or dataset.shape != (number, height, along_x):
            raise InputError(
                f"found {name} as {dataset.dtype} {dataset.shape}, "
                f"expected uint8 {(number, height, along_x)}"
            )
        chunks[name] = locate_chunks(dataset, (per_chunk, height, along_x), compression)
    return Contents(
        columns,
        attributes,
        **chunks,
        stamp=stamp,
        checksum_found=contents_checksum(columns, attributes),
        checksum_kept=int(_attribute(store, "checksum", np.uint32, ())),
    )


def _attribute(store: h5py.File, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
    """An attribute, read once it is found to be of that type and shape."""
    if name not in store.attrs:
        raise InputError(f"found no attribute {name}, expected a complete {FORMAT}")
    there = store.attrs.get_id(name)
    fits = there.dtype.kind == "S" if dtype is np.bytes_ else there.dtype == dtype
    if not fits or there.shape != shape:
        kind = "text of fixed length" if dtype is np.bytes_ else np.dtype(dtype)
        raise InputError(
            f"found attribute {name} as {there.dtype} {there.shape}, expected {kind} {shape}"
        )
    return store.attrs[name]


def _own_dataset(store: h5py.File, name: str) -> h5py.Dataset:
    """A dataset that lies in this very file."""
    steps = name.split("/")
    for part in ("/".join(steps[: depth + 1]) for depth in range(len(steps))):
        link = store.get(part, getlink=True)
        if link is None:
            raise InputError(f"found no dataset {name}, expected a complete {FORMAT}")
        # A link or external storage would make the file read others that its giver has chosen.
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"found {part} as a link, expected it in the file itself")
    dataset = store[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise InputError(f"found {name} as a group or link, expected a dataset in the file itself")
    return dataset


def _column(store: h5py.File, name: str, dtype: type[np.generic], file_bytes: int) -> NDArray[Any]:
    """A one-dimensional dataset, read whole once its size is found to be that of its bytes."""
    dataset = _own_dataset(store, name)
    kind = "text of fixed length" if dtype is np.bytes_ else f"{np.dtype(dtype)}"
    fits = dataset.dtype.kind == "S" if dtype is np.bytes_ else dataset.dtype == dtype
    if not fits or dataset.ndim != 1:
        raise InputError(f"found {name} as {dataset.dtype} {dataset.shape}, expected {kind} (n,)")
    offset, size = dataset.id.get_offset(), dataset.nbytes
    if not size or offset is None or offset + size > file_bytes:
        raise InputError(
            f"found {name} with {size} bytes that are not in the file in one piece, expected them "
            "there"
        )
    return dataset[()]
