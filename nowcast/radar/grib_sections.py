"""What a GRIB2 file says of its own structure, checked before a library in C decodes it.

A damaged length or a damaged picture makes that library end the whole process. After this check
what is left to be wrong is numbers, and those are read as they are. Sections and templates: WMO
Manual on Codes, Volume I.2, FM 92 GRIB edition 2.
"""

import io
import struct

from PIL import Image

from nowcast.errors import InputError
from nowcast.radar.composite_parts import check_shape

SMALLEST = {1: 21, 3: 72, 4: 34, 5: 21, 6: 6, 7: 6}
"""Bytes that the sections of a field on a grid of longitudes and latitudes, as PNG, have."""


def check_field(content: bytes) -> None:
    """Refuse a file that is not one field on a regular grid, packed as PNG, in one piece.

    Args:
        content: of the file.

    Raises:
        InputError: it is anything else, or damaged.
    """
    if len(content) < 20 or content[:4] != b"GRIB" or content[7] != 2:
        raise InputError("found no GRIB of edition 2")
    (length,) = struct.unpack(">Q", content[8:16])
    if length != len(content) or content[-4:] != b"7777":
        raise InputError(
            f"found {len(content):,} bytes, expected one field of the {length:,} that it says"
        )
    sections = dict(_sections(content))
    for number, least in SMALLEST.items():
        if len(sections.get(number, b"")) < least:
            raise InputError(f"found no section {number} of at least {least} bytes")
    columns, rows = struct.unpack(">II", sections[3][30:38])
    check_shape((rows, columns))
    points = [struct.unpack(">I", part)[0] for part in (sections[3][6:10], sections[5][5:9])]
    templates = [struct.unpack(">H", part)[0] for part in (sections[3][12:14], sections[4][7:9])]
    if points != [rows * columns] * 2 or templates != [0, 0] or sections[6][5] != 255:
        raise InputError("found another grid or product than MRMS's, or a damaged one")
    (packing,) = struct.unpack(">H", sections[5][9:11])
    if packing != 41:
        raise InputError(f"found data packed by template {packing}, expected 41, PNG")
    _check_picture(sections[7][5:], (columns, rows), sections[5][19])


def _sections(content: bytes) -> list[tuple[int, bytes]]:
    found, place = [], 16
    while place < len(content) - 4:
        (length,) = struct.unpack(">I", content[place : place + 4])
        if length < 5 or place + length > len(content) - 4:
            raise InputError(f"found a section of {length:,} bytes where there is room for fewer")
        found.append((content[place + 4], content[place : place + length]))
        place += length
    if len(found) != len({number for number, _ in found}):
        raise InputError("found several fields, expected one")
    return found


def _check_picture(picture: bytes, size: tuple[int, int], bits: int) -> None:
    """Refuse a damaged PNG, by its checksums, and one of other pixels than are said."""
    try:
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as image:
            found = image.size
            image.verify()
    except Exception as error:
        raise InputError(f"found a damaged picture ({error})") from error
    depth, colours = picture[24], picture[25]
    if found != size or depth != bits or colours != 0:
        raise InputError(
            f"found a picture of {found[0]} × {found[1]} pixels of {depth} bits, expected "
            f"{size[0]} × {size[1]} of {bits}"
        )
