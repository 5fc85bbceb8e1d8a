"""Where a file of an archive lies, on its own or in a zip file, and its bytes from there.

Which files there are is found in `archive_search`; what they hold is read in `archive_files`.
"""

import filecmp
import os
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from nowcast.errors import InputError
from nowcast.radar.zip_members import ZipMember, read_member


class LooseFile(NamedTuple):
    """A file of its own; its name is known from elsewhere, up to capital letters.

    Its size and modification time tell whether it has changed; they are all that the `repr` says.

    Attributes:
        folder: its folder, relative to the archive's root, parts joined by slashes.
        size: bytes.
        modified_ns: modification time, ns since 1970-01-01 UTC.
        name: its name, where that is not the published one to the letter.
    """

    folder: str
    size: int
    modified_ns: int
    name: str = ""

    def __repr__(self) -> str:
        return f"{self.size} bytes of {self.modified_ns} ns"


Place = LooseFile | ZipMember


class FrameFile(NamedTuple):
    """A frame that the archive holds: where, and what tells whether it has changed.

    Its `repr` says the time and what identifies the content, but not where that lies: an archive
    that was moved gives the same frames.

    Attributes:
        second: valid time, seconds since 1970-01-01 UTC.
        png: place of the frame's file.
        mask: place of its `.mask` file; None if there is none.
    """

    second: int
    png: Place
    mask: Place | None


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, to be read or named.

    Attributes:
        root: what the place is relative to.
        place: where the file lies.
        name: its published name without folders.
    """

    root: Path = field(repr=False)
    place: Place
    name: str

    def __str__(self) -> str:
        zip_path = self.place.zip_path if isinstance(self.place, ZipMember) else ""
        return str(self.root / zip_path / self.place.folder / (self.place.name or self.name))

    def read(self, limit: int) -> bytes:
        """The file's bytes.

        Args:
            limit: most bytes that it may hold.

        Raises:
            InputError: it cannot be read, has changed since it was found, is damaged within its zip
                file, or larger than the limit.
        """
        place = self.place
        if isinstance(place, LooseFile):
            return read_path(Path(str(self)), limit, place)
        path = self.root / place.zip_path
        try:
            with path.open("rb") as file:
                return read_member(file, place, place.name or self.name, limit, str(self))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_path(path: Path, limit: int, found: LooseFile | None = None) -> bytes:
    """A file's bytes.

    Args:
        path: the file.
        limit: most bytes that it may hold.
        found: its size and time when it was found; None where that does not matter.

    Raises:
        InputError: it cannot be read, is larger than the limit, or has changed.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(min(limit, status.st_size) + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if found and (status.st_size, status.st_mtime_ns) != (found.size, found.modified_ns):
        raise InputError(f"{path}: found it changed since the archive was searched; start again")
    if len(content) > limit:
        raise InputError(f"{path}: found more than {limit} bytes, expected fewer")
    return content


def same_content(one: ArchiveFile, other: ArchiveFile) -> bool:
    """Whether two files hold the same: by their bytes, or by size and CRC if one is zipped.

    Raises:
        InputError: one of them cannot be read.
    """
    if one.place.size != other.place.size:
        return False
    try:
        if isinstance(one.place, LooseFile) and isinstance(other.place, LooseFile):
            return filecmp.cmp(str(one), str(other), shallow=False)
        return _crc(one) == _crc(other)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _crc(file: ArchiveFile) -> int:
    if isinstance(file.place, ZipMember):
        return file.place.crc
    crc = 0
    with Path(str(file)).open("rb") as opened:
        while piece := opened.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc


def png_name(second: int) -> str:
    """Name of the frame of a time; seconds since 1970-01-01 UTC."""
    return f"{datetime.fromtimestamp(second, UTC):RAD%y%m%d%H%M%S.png}"


def mask_name(second: int) -> str:
    """Name of the mask of a time; seconds since 1970-01-01 UTC."""
    return f"{datetime.fromtimestamp(second, UTC):RAD%y%m%d%H%M%S.mask}"
