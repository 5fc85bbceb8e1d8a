"""The files of an HKO-7 archive: one frame, one mask, static masks, a day list; read and checked.

Which files there are is not here but in `archive_search`, where their bytes come from in
`archive_places`. Whatever a file holds, `InputError` is all that comes out: sizes are bounded
before anything is decoded, and nothing is unpickled.
"""

import codecs
import io
import re
import struct
import zlib
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.archive_places import ArchiveFile, read_path
from nowcast.radar.zip_members import members, read_member

NOISE_BELOW = round(0.28 * 255)
"""Echoes weaker than this stored value, but not 0, are taken for noise; the value itself is not."""

MOST_DAY_LIST_BYTES = 1_000_000
"""A day list of HKO-7 has 12 kB; a century of days would have 600."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DAY_LINE = re.compile(r"([0-9]{8}), *([0-9]+(?:\.[0-9]+)?)")


def read_frame(path: Path | ArchiveFile, size: int) -> NDArray[np.uint8]:
    """Stored pixel values (size, size) of a PNG.

    Raises:
        InputError: the file is damaged or no 8-bit grey PNG of that size.
    """
    limit = 2 * size * size + 65_536
    content = _read_bytes(path, limit)
    # Judged before it is decoded: a few bytes can announce an image of any size, and with the
    # chunks of an animation OpenCV gives one of its other frames.
    image = _image_chunks(path, content, size)
    frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    if frame is None or frame.shape != (size, size):
        raise InputError(
            f"{path}: cannot be decoded, expected an 8-bit grey PNG of {size} × {size}"
        )
    return np.asarray(frame, dtype=np.uint8)


def read_mask(path: Path | ArchiveFile, size: int) -> NDArray[np.bool_]:
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


def read_exclude_mask(path: Path | ArchiveFile, size: int) -> NDArray[np.bool_]:
    """Pixels (size, size) that never count, from mask_dat.npz; True = leave out.

    Raises:
        InputError: the file is damaged or its exclude_mask has another size.
    """
    # Three masks of at most eight bytes a pixel are published in one file.
    most = 8 * size * size + 65_536
    file = io.BytesIO(_read_bytes(path, 3 * most))
    name = "exclude_mask.npy"
    found = next(
        members(file, "", str(path), lambda folder, own: (folder, own) == ("", name)), None
    )
    if found is None:
        raise InputError(f"{path}: no exclude_mask, expected static masks (mask_dat.npz)")
    content = io.BytesIO(read_member(file, found[1], name, most, f"{path}/{name}"))
    try:
        version = np.lib.format.read_magic(content)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, in_columns, dtype = read_header(content)
    # NumPy has the header parsed as Python: a damaged one raises whatever comes.
    except Exception as error:
        raise InputError(f"{path}: no readable exclude_mask ({error})") from error
    if shape != (size, size) or dtype.kind not in "bui":
        raise InputError(
            f"{path}: found exclude_mask {dtype} {shape}, expected whole numbers ({size}, {size})"
        )
    values = content.read()
    if len(values) != size * size * dtype.itemsize:
        raise InputError(f"{path}: found exclude_mask of {len(values)} bytes, expected its {shape}")
    exclude = np.frombuffer(values, dtype).reshape(shape, order="F" if in_columns else "C")
    return exclude != 0


def read_day_list(path: Path | ArchiveFile) -> tuple[str, ...]:
    """Days of a list, YYYY-MM-DD in order of time.

    Raises:
        InputError: a line is not "YYYYMMDD, daily rainfall in mm", or names a day again.
    """
    # Lines are told apart as bytes: text has further signs that part lines.
    content = _read_bytes(path, MOST_DAY_LIST_BYTES).removeprefix(codecs.BOM_UTF8)
    raw = content.rstrip().splitlines()
    try:
        lines = [line.strip().decode("ascii") for line in raw]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a day list ({error})") from error
    days: set[str] = set()
    for number, line in enumerate(lines, start=1):
        match = _DAY_LINE.fullmatch(line)
        where = f"{path}: line {number}: found {line[:80]!r}"
        if not match:
            raise InputError(f"{where}, expected 'YYYYMMDD, daily rainfall in mm'")
        try:
            day = date(int(match[1][:4]), int(match[1][4:6]), int(match[1][6:])).isoformat()
        except ValueError:
            raise InputError(f"{where}, expected a day of the calendar") from None
        if day in days:
            raise InputError(f"{where}, expected each day once")
        days.add(day)
    return tuple(sorted(days))


def noise_rule(frame: NDArray[np.uint8], exclude: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Mask by the rule that made the archive's own; True = counts.

    Left out are echoes in (0, round(0.28 · 255)), both ends open, and the excluded pixels.
    """
    mask = (frame == 0) | (frame >= NOISE_BELOW)
    return mask if exclude is None else mask & ~exclude


def _read_bytes(file: Path | ArchiveFile, limit: int) -> bytes:
    return read_path(file, limit) if isinstance(file, Path) else file.read(limit)


def _image_chunks(path: Path | ArchiveFile, content: bytes, size: int) -> bytes:
    """The PNG with no other chunks than those that make the image (PNG specification, chapter 5).

    Refused is what is not a whole 8-bit grey PNG of size × size.
    """
    if not content.startswith(_PNG_SIGNATURE):
        raise InputError(f"{path}: found no PNG, expected an 8-bit grey one of {size} × {size}")
    position, kind = len(_PNG_SIGNATURE), b""
    kept = [_PNG_SIGNATURE]
    image_seen = False
    while kind != b"IEND":
        if position + 12 > len(content):
            raise InputError(f"{path}: found a truncated PNG")
        (length,) = struct.unpack_from(">I", content, position)
        before, kind = kind, content[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(content):
            raise InputError(f"{path}: found a truncated PNG")
        body = content[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(content[end - 4 : end], "big"):
            raise InputError(f"{path}: found a damaged PNG (checksum of {kind!r} differs)")
        if (kind == b"IHDR" and length == 13) != (before == b""):
            raise InputError(f"{path}: found a PNG without header, expected one at its beginning")
        if before == b"":
            width, height, depth, colour = struct.unpack_from(">IIBB", body, 4)
            if (width, height, depth, colour) != (size, size, 8, 0):
                what = {0: "grey", 2: "RGB", 3: "palette", 4: "grey-alpha", 6: "RGBA"}.get(colour)
                raise InputError(
                    f"{path}: found {width} × {height} pixels of {depth}-bit {what}, "
                    f"expected {size} × {size} of 8-bit grey"
                )
        if kind == b"IDAT" and image_seen and before != b"IDAT":
            raise InputError(f"{path}: found the chunks of a PNG in a wrong order")
        image_seen |= kind == b"IDAT"
        # A capital first letter marks a chunk without which the image cannot be understood.
        if kind[:1].isupper() and kind != b"PLTE":
            kept.append(content[position:end])
        position = end
    return b"".join(kept)
