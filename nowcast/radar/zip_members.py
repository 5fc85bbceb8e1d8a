"""Members of zip files, listed and read in place: nothing is extracted, nothing is trusted.

`zipfile` reads the directory. A member listed is then read without it, so that processes that read
hundreds of thousands of members need not each read a directory as long. Plain zip files are read
(stored and deflated members, zip64); encrypted members, other methods and archives split into
several files are refused. Which members matter is the business of `archive_search`.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from nowcast.errors import InputError

PART_OF_SEVERAL = (
    "found one part of a split archive, expected whole zip files; join the parts or unpack them"
)
"""What is said about a zip file that goes on in another file."""

_HEADER = struct.Struct("<4s2xHH4xIIIHH")
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_IN_ZIP64 = 0xFFFFFFFF


class ZipMember(NamedTuple):
    """Where a member's content lies, so that it is read without the directory.

    The member's own name is not kept: whoever reads it knows it. Its size and CRC identify its
    content, so they are all that the `repr` says.

    Attributes:
        zip_path: the zip file's path, below wherever it was looked for.
        folder: the folders in front of the member's name, without a slash at the end.
        header_offset: bytes before the member's own header.
        compressed_size: bytes that it takes.
        size: bytes that it holds.
        crc: CRC-32 of what it holds.
        method: how it is compressed: 0 not at all, 8 deflate.
        name: its name, where whoever reads it knows another.
    """

    zip_path: str
    folder: str
    header_offset: int
    compressed_size: int
    size: int
    crc: int
    method: int
    name: str = ""

    def __repr__(self) -> str:
        return f"{self.size} bytes with CRC {self.crc:08x}"


def members(
    file: BinaryIO, zip_path: str, shown: str, wanted: Callable[[str, str], bool]
) -> Iterator[tuple[str, ZipMember]]:
    """Name and place of the members wanted, in the order of the zip file's directory.

    Args:
        file: the zip file.
        zip_path: kept in the members.
        shown: the zip file's name in errors.
        wanted: whether a member matters, by its folders and its name; others are passed over,
            whatever they hold.

    Raises:
        InputError: no zip file, a damaged or truncated one, one part of several; or a member that
            is wanted is encrypted or compressed by a method that is not read here.
    """
    entries = _entries(file, shown)
    file_size = file.seek(0, os.SEEK_END)
    folders: dict[str, str] = {}
    entries.reverse()
    while entries:
        entry = entries.pop()  # Its memory is used for the member.
        folder, name = _split_name(entry.orig_filename)
        if not wanted(folder, name):
            continue
        if wrong := _why_refused(entry, file_size):
            where = "/".join(part for part in (shown, folder, name) if part)
            raise InputError(f"{where}: {wrong}")
        folder = folders.setdefault(folder, folder)
        place = (entry.header_offset, entry.compress_size, entry.file_size)
        yield name, ZipMember(zip_path, folder, *place, entry.CRC, entry.compress_type)


def read_member(file: BinaryIO, member: ZipMember, name: str, limit: int, shown: str) -> bytes:
    """Content of a member, checked against its header, its size and its CRC.

    Args:
        file: the zip file.
        member: where it lies.
        name: the member's name without folders.
        limit: most bytes that it may hold or take.
        shown: its name in errors.

    Raises:
        InputError: it is larger than the limit, damaged, or not what the directory promised.
    """
    if max(member.size, member.compressed_size) > limit:
        raise InputError(f"{shown}: found more than {limit} bytes, expected fewer")
    file.seek(member.header_offset)
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:4] != b"PK\3\4":
        raise InputError(
            f"{shown}: found no member where the directory says, expected the whole zip file as it "
            "was listed; if it can be unpacked, do so"
        )
    _, flags, method, *stated, name_length, extra_length = _HEADER.unpack(head)
    raw_name = file.read(name_length + extra_length)[:name_length]
    own_name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", errors="replace")
    promised = (member.crc, member.compressed_size, member.size)
    differs = not flags & _SIZES_FOLLOW and any(
        own not in (its, _IN_ZIP64) for own, its in zip(stated, promised, strict=True)
    )
    same = (method, _split_name(own_name)[1]) == (member.method, name)
    if differs or not same or flags & _ENCRYPTED:
        raise InputError(f"{shown}: found a header that differs from the zip file's directory")
    content = file.read(member.compressed_size)
    if method == ZIP_DEFLATED:
        try:
            # One byte too many tells that the size is wrong; a bomb holds far more.
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        except zlib.error as error:
            raise InputError(f"{shown}: found a damaged member ({error})") from error
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise InputError(f"{shown}: found a damaged member (size or CRC differs)")
    return content


def _entries(file: BinaryIO, shown: str) -> list[ZipInfo]:
    """The directory of a zip file."""
    try:
        return ZipFile(file).infolist()
    except (BadZipFile, ValueError, ArithmeticError, RuntimeError, MemoryError, EOFError,
            struct.error) as error:  # fmt: skip
        why = str(error) or type(error).__name__
    # Raised only here, where the memory of what was listed so far is free again.
    raise InputError(
        f"{shown}: cannot be listed ({why}), expected a whole zip file, not one part of several or "
        "of a download; if it can be unpacked, do so"
    )


def _why_refused(entry: ZipInfo, file_size: int) -> str | None:
    """What is wrong with a member, as far as the directory tells."""
    if entry.volume:
        return PART_OF_SEVERAL
    if entry.flag_bits & _ENCRYPTED:
        return "found an encrypted member, expected a plain zip file"
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return (
            f"found compression method {entry.compress_type}, expected a stored or deflated "
            "member; unpack this zip file"
        )
    if not 0 <= entry.header_offset <= file_size - _HEADER.size - entry.compress_size:
        return "found it outside the zip file, expected a whole one"
    return None


def _split_name(path: str) -> tuple[str, str]:
    """Folders and name of a member; some programs of Windows write backslashes."""
    if not path.isprintable():
        # Names are shown to the user: no line breaks, nothing that steers a terminal.
        path = "".join(letter if letter.isprintable() else "?" for letter in path)
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder, name
