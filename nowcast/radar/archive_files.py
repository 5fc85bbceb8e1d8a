"""The files of an HKO-7 archive: one frame, one mask, the static masks; read and checked.

Which files there are is not here but in `archive`. Whatever a file holds, `InputError` is all that
comes out: sizes are bounded before anything is decoded, and nothing is unpickled.
"""

import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError

NOISE_BELOW = round(0.28 * 255)
"""Echoes weaker than this stored value, but not 0, are taken for noise; the value itself is not."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_frame(path: Path, size: int) -> NDArray[np.uint8]:
    """Stored pixel values (size, size) of a PNG.

    Raises:
        InputError: the file is damaged or no 8-bit grey PNG of that size.
    """
    limit = 2 * size * size + 65_536
    content = _read_bytes(path, limit)
    # Judged before it is decoded: a few bytes can announce an image of any size.
    _check_png(path, content, size)
    frame = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if frame is None or frame.shape != (size, size):
        raise InputError(
            f"{path}: cannot be decoded, expected an 8-bit grey PNG of {size} × {size}"
        )
    return np.asarray(frame, dtype=np.uint8)


def read_mask(path: Path, size: int) -> NDArray[np.bool_]:
    """Mask (size, size) of a `.mask` file; True = the pixel counts.

    Raises:
        InputError: the file is no zlib stream of exactly size × size bytes, each 0 or 1.
    """
    expected = size * size
    stream = zlib.decompressobj()
    try:
        # One byte more than expected is enough to tell: a stream can grow a thousandfold.
        content = stream.decompress(_read_bytes(path, 2 * expected + 65_536), expected + 1)
    except zlib.error as error:
        raise InputError(f"{path}: found no zlib stream ({error}), expected a mask") from error
    if len(content) <= expected and not stream.eof:
        raise InputError(f"{path}: found a truncated stream, expected {expected} mask bytes")
    if len(content) != expected or stream.unused_data:
        found = f"more than {expected}" if len(content) >= expected else str(len(content))
        raise InputError(f"{path}: found {found} bytes, expected {expected} ({size} × {size})")
    mask = np.frombuffer(content, np.uint8).reshape(size, size)
    if mask.max(initial=0) > 1:
        raise InputError(f"{path}: found the byte {mask.max()}, expected 0 and 1 only")
    return mask.astype(bool)


def read_exclude_mask(path: Path, size: int) -> NDArray[np.bool_]:
    """Pixels (size, size) that never count, from mask_dat.npz; True = leave out.

    Raises:
        InputError: the file is damaged or its exclude_mask has another size.
    """
    try:
        with np.load(path, allow_pickle=False) as masks:
            exclude = masks["exclude_mask"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: no readable exclude_mask ({error})") from error
    if exclude.shape != (size, size) or exclude.dtype.kind not in "bui":
        raise InputError(
            f"{path}: found exclude_mask {exclude.dtype} {exclude.shape}, "
            f"expected whole numbers ({size}, {size})"
        )
    return exclude != 0


def noise_rule(frame: NDArray[np.uint8], exclude: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Mask by the rule that made the archive's own; True = counts.

    Left out are echoes in (0, round(0.28 · 255)), both ends open, and the excluded pixels.
    """
    mask = (frame == 0) | (frame >= NOISE_BELOW)
    return mask if exclude is None else mask & ~exclude


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise InputError(f"{path}: found more than {limit} bytes, expected fewer for one frame")
    return content


def _check_png(path: Path, content: bytes, size: int) -> None:
    """Refuse what is not a whole 8-bit grey PNG of size × size (PNG specification, chapter 5)."""
    if not content.startswith(_PNG_SIGNATURE):
        raise InputError(f"{path}: found no PNG, expected an 8-bit grey one of {size} × {size}")
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(content):
            raise InputError(f"{path}: found a truncated PNG")
        (length,) = struct.unpack_from(">I", content, position)
        kind = content[position + 4 : position + 8]
        checksum = content[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise InputError(f"{path}: found a truncated PNG")
        body = content[position + 4 : position + 8 + length]
        if zlib.crc32(body) != int.from_bytes(checksum, "big"):
            raise InputError(f"{path}: found a damaged PNG (checksum of {kind!r} differs)")
        if position == len(_PNG_SIGNATURE):
            if kind != b"IHDR" or length != 13:
                raise InputError(f"{path}: found a PNG without header")
            width, height, depth, colour = struct.unpack_from(">IIBB", body, 4)
            if (width, height, depth, colour) != (size, size, 8, 0):
                what = {0: "grey", 2: "RGB", 3: "palette", 4: "grey-alpha", 6: "RGBA"}.get(colour)
                raise InputError(
                    f"{path}: found {width} × {height} pixels of {depth}-bit {what}, "
                    f"expected {size} × {size} of 8-bit grey"
                )
        position += 12 + length
