"""Finding an archive's files wherever they lie below a folder: loose, or in zip files.

A frame is known by its name, RADyymmddHHMMSS.png, a mask by RADyymmddHHMMSS.mask; which folder they
lie in does not matter, nor do capital letters. Passed over are hidden folders and files,
`__MACOSX`, folders ending in `.partial`, and every other name. Symbolic links are followed, but no
folder is entered twice, so that links in a circle end; a frame that links to nothing is found, and
cannot be read. Zip files within zip files are not read.
"""

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from nowcast.errors import InputError
from nowcast.progress import progress
from nowcast.radar.archive_places import ArchiveFile, LooseFile, Place, same_content
from nowcast.radar.zip_members import PART_OF_SEVERAL, members

log = logging.getLogger("nowcast")

DAY_LISTS = {name: f"hko7_rainy_{name}_days.txt" for name in ("train", "valid", "test")}
"""File name of each split's day list."""

STATIC_MASKS = "mask_dat.npz"

FRAMES_FOLDER = "radarPNG"
"""Folder of the published layout that holds the frames; other names of the layout begin so."""

_FRAME_OR_MASK = re.compile(r"RAD([0-9]{12})\.(png|mask)", re.IGNORECASE)
_ZIP = re.compile(r".*\.zip", re.IGNORECASE)
_ZIP_PART = re.compile(r".*(\.z[0-9]{2,3}|\.zip\.[0-9]{3})", re.IGNORECASE)
_OTHER_ARCHIVE = re.compile(r".*\.(tar|tgz|tar\.(gz|bz2|xz|zst)|7z|rar)", re.IGNORECASE)
_DAY_FOLDERS = re.compile(r"(?:.*/)?([0-9]{4})/([0-9]{2})/([0-9]{2})")


class Found:
    """What lies below a folder.

    Attributes:
        root: the folder that places are relative to.
        frames: place of each frame, by seconds since 1970-01-01 UTC.
        masks: place of each mask, by the same.
        named: place of day lists and static masks, by file name.
        copies: how many files were passed over because the same is found elsewhere.
        not_read: archives other than zip files, and zip files within zip files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.frames: dict[int, Place] = {}
        self.masks: dict[int, Place] = {}
        self.named: dict[str, Place] = {}
        self.copies = 0
        self.not_read: list[str] = []

    def file(self, name: str) -> ArchiveFile | None:
        """A day list or the static masks, if found."""
        place = self.named.get(name)
        return None if place is None else ArchiveFile(self.root, place, name)


def is_list(name: str) -> bool:
    """Whether a file of this name is a day list or holds the static masks."""
    return name.lower() in (STATIC_MASKS, *DAY_LISTS.values())


def is_frame_or_list(name: str) -> bool:
    """Whether a file of this name is a frame or a mask, or `is_list`."""
    return _FRAME_OR_MASK.fullmatch(name) is not None or is_list(name)


def search(given: Path, wanted: Callable[[str], bool] = is_frame_or_list) -> Found:
    """Everything wanted that lies below a folder.

    If the folder is `radarPNG` itself, what lies beside it under the dataset's own names is found,
    too: masks, further parts, day lists.

    Args:
        given: the folder.
        wanted: by a file's name, whether it matters.

    Raises:
        InputError: no such folder, or one that cannot be read; a zip file that cannot be read; a
            name without a time, a frame in the folders of another day, or files of one name in two
            places that differ.
    """
    root, beside = _whole_dataset(given)
    if not root.is_dir():
        raise InputError(f"{given}: no such folder, expected one that holds {FRAMES_FOLDER}")
    found = Found(root)
    copies: list[tuple[str, Place, Place]] = []
    files = _files(found, beside, wanted)
    for name, place in progress(files, f"Searching {root}", unit="files"):
        match = _FRAME_OR_MASK.fullmatch(name)
        published = f"RAD{match[1]}.{match[2].lower()}" if match else name.lower()
        if name != published:
            place = place._replace(name=name)
        if match is None:
            there = found.named.setdefault(published, place)
        else:
            table = found.masks if published.endswith("mask") else found.frames
            there = table.setdefault(_second(match[1], ArchiveFile(root, place, name)), place)
        if there is not place:
            copies.append((published, there, place))
    if copies:
        _compare(root, copies)
    found.copies = len(copies)
    return found


def _compare(root: Path, copies: list[tuple[str, Place, Place]]) -> None:
    for name, first, second in progress(copies, "Comparing copies", unit="files"):
        taken, other = ArchiveFile(root, first, name), ArchiveFile(root, second, name)
        if not same_content(taken, other):
            raise InputError(f"{other}: found other content than in {taken}, expected one of them")


def _whole_dataset(given: Path) -> tuple[Path, bool]:
    """The folder to search, and whether only for the dataset's own names at its top."""
    folder = Path(os.path.abspath(given))
    if folder.name != FRAMES_FOLDER or not folder.is_dir():
        return given, False
    while folder.name == FRAMES_FOLDER:
        folder = folder.parent
    return folder, True


def _files(
    found: Found, beside: bool, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Place]]:
    """Name and place of every file wanted, folder by folder in the order of their names."""
    folders, entered = [""], set()
    while folders:
        folder = folders.pop()
        path = str(found.root / folder)
        try:
            own = os.stat(path)
            if (own.st_dev, own.st_ino) in entered:
                continue
            entered.add((own.st_dev, own.st_ino))
            names = sorted(os.listdir(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if beside and not folder:
            names = [name for name in names if name.startswith(FRAMES_FOLDER) or is_list(name)]
        deeper = []
        for name in names:
            if _passed_over(name):
                continue
            below = f"{folder}/{name}" if folder else name
            status = _status(os.path.join(path, name), wanted(name))
            if status is None:
                if _FRAME_OR_MASK.fullmatch(name):  # Reading it will say why it cannot be read.
                    yield name, LooseFile(folder, 0, 0)
                continue
            if stat.S_ISDIR(status.st_mode):
                deeper.append(below)
            elif wanted(name):
                yield name, LooseFile(folder, status.st_size, status.st_mtime_ns)
            elif _ZIP.fullmatch(name) and stat.S_ISREG(status.st_mode):
                yield from _zipped(found, below, wanted)
            elif _ZIP_PART.fullmatch(name):
                raise InputError(f"{os.path.join(path, name)}: {PART_OF_SEVERAL}")
            elif _OTHER_ARCHIVE.fullmatch(name):
                found.not_read.append(os.path.join(path, name))
        folders += reversed(deeper)


def _status(path: str, matters: bool) -> os.stat_result | None:
    """What stands at a path; None for a link to nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if matters and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise InputError(f"{path}: found something else, expected a file")
    return status


def _zipped(
    found: Found, zip_path: str, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Place]]:
    """Name and place of every member wanted of a zip file."""
    path = found.root / zip_path

    def matters(folder: str, name: str) -> bool:
        if any(map(_passed_over, folder.split("/"))):
            return False
        if _ZIP.fullmatch(name) and not _passed_over(name):
            found.not_read.append(str(path / folder / name))
        return wanted(name)

    try:
        with path.open("rb") as file:
            yield from members(file, zip_path, str(path), matters)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _passed_over(name: str) -> bool:
    """Whether a file or folder of this name is none of the archive's."""
    hidden = name.startswith(".") and name not in (".", "..")
    return hidden or name == "__MACOSX" or name.endswith(".partial")


@lru_cache(maxsize=4096)
def _midnight(day: str) -> int | None:
    """Seconds since 1970-01-01 UTC of a day yymmdd; None if the calendar has none such."""
    try:
        return int(datetime.strptime("20" + day, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _day_of_folder(folder: str) -> str | None:
    """YYYYMMDD, if the folders right above a file are named so."""
    match = _DAY_FOLDERS.fullmatch(folder)
    return "".join(match.groups()) if match else None


def _second(stamp: str, file: ArchiveFile) -> int:
    """Seconds since 1970-01-01 UTC of yymmddHHMMSS, which must fit the file's folders."""
    midnight = _midnight(stamp[:6])
    hours, minutes, seconds = int(stamp[6:8]), int(stamp[8:10]), int(stamp[10:])
    if midnight is None or hours > 23 or minutes > 59 or seconds > 59:
        raise InputError(f"{file}: found no time in the name, expected RADyymmddHHMMSS")
    day = _day_of_folder(file.place.folder)
    if day is not None and day != "20" + stamp[:6]:
        own, its = (f"{text[:4]}-{text[4:6]}-{text[6:]}" for text in ("20" + stamp[:6], day))
        raise InputError(f"{file}: found a frame of {own}, expected one of {its}")
    return midnight + 3600 * hours + 60 * minutes + seconds


def top_folders(places: Iterable[Place]) -> Counter[str]:
    """How many files lie where: by zip file, or by the folder above those named YYYY/MM/DD."""
    counts: Counter[str] = Counter()
    for place in places:
        counts[_top(place.folder) if isinstance(place, LooseFile) else place.zip_path] += 1
    return counts


@lru_cache(maxsize=4096)
def _top(folder: str) -> str:
    """The folder above those named YYYY/MM/DD; the folder itself if there are none."""
    return folder[: -len("/YYYY/MM/DD")] if _day_of_folder(folder) else folder
