"""The HKO-7 archive as its authors hand it out: which frames there are, and reading them.

Layout (Shi et al., NeurIPS 2017, and the files that its authors publish):

    radarPNG/2015/05/23/RAD150523063000.png         8-bit grey, named by time as yymmddHHMMSS
    radarPNG_mask/2015/05/23/RAD150523063000.mask   zlib stream of size × size bool bytes, row-major
    hko7_rainy_{train,valid,test}_days.txt          lines "YYYYMMDD, daily rainfall in mm"
    mask_dat.npz                                    exclude_mask (1 = leave out) and others

What its files hold is read in `archive_files`; how grids are made
coarser is in `regrid`, what becomes of the frames in `archive_preparation`.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.archive_files import noise_rule, read_exclude_mask, read_frame, read_mask
from nowcast.radar.clips import Times, step_in_seconds
from nowcast.radar.regrid import average_pixels, central_crop

log = logging.getLogger("nowcast")

SPLITS = ("train", "valid", "test")

MOST_OFF_STEP = 0.25
"""Share of frames that may lie between the time steps. HKO-7 has 31 such frames among 192,168, 22
of them on one day (9 %); a step that is not the archive's leaves at least half of the frames out.
"""

_DAY_LINE = re.compile(r"(\d{8}), *(\d+(?:\.\d+)?)")
_FRAME_NAME = re.compile(r"RAD(\d{12})\.png")


class FrameFile(NamedTuple):
    """A frame that the archive holds, with what tells whether its files have changed.

    Attributes:
        second: valid time, seconds since 1970-01-01 UTC.
        png: size and modification time (ns) of the frame's file.
        mask: the same of its `.mask` file; None if there is none.
    """

    second: int
    png: tuple[int, int]
    mask: tuple[int, int] | None


@dataclass(frozen=True)
class Split:
    """The frames of one day list.

    Attributes:
        name: train, valid, test; or all, where there is no day list.
        days: YYYY-MM-DD of every listed day, in order.
        days_without_frames: those of them that the archive has no frame of.
        frames: the frames found, in order of time.
        frames_missing: how many timestamps of the listed days have no frame.
    """

    name: str
    days: tuple[str, ...]
    days_without_frames: tuple[str, ...]
    frames: tuple[FrameFile, ...]
    frames_missing: int

    @property
    def times(self) -> Times:
        """datetime64[s] of the frames."""
        return np.array([frame.second for frame in self.frames], "int64").astype("datetime64[s]")


class HKO7Archive:
    """An HKO-7 archive on disk, or another in the same layout.

    A split holds every frame of the days that its list names. A list that is not there makes no
    split; without any list, every frame found forms the one split `all`. A listed day without
    frames is reported (in the split and as a logged warning), not refused; files that are not
    named like frames are passed over.

    Args:
        root: the folder that holds radarPNG, or the folder around it.
        size: pixels along each side of every frame.
        step_minutes: time between two frames.

    Attributes:
        root: the folder that holds radarPNG.
        splits: by name.
        exclude_mask_path: mask_dat.npz; None if there is none.

    Raises:
        InputError: no such folder, a malformed day list or static mask, a frame in a folder of
            another day, frames at another step than `step_minutes`.
    """

    def __init__(
        self, root: str | os.PathLike[str], size: int = 480, step_minutes: float = 6
    ) -> None:
        self.root = _find_root(Path(root))
        self.size = size
        self.step_minutes = step_minutes
        static = self.root / "mask_dat.npz"
        self.exclude_mask_path = static if static.is_file() else None
        if self.exclude_mask_path:
            read_exclude_mask(self.exclude_mask_path, size)
        lists = {name: self.root / f"hko7_rainy_{name}_days.txt" for name in SPLITS}
        listed = {name: read_day_list(path) for name, path in lists.items() if path.is_file()}
        self.splits = {
            name: self._split(name, days)
            for name, days in (listed or {"all": self._days_found()}).items()
        }
        self._check_step()

    def _days_found(self) -> tuple[str, ...]:
        day = "[0-9][0-9]"
        folders = (self.root / "radarPNG").glob(f"{day}{day}/{day}/{day}")
        return tuple(sorted("-".join(folder.parts[-3:]) for folder in folders))

    def _split(self, name: str, days: tuple[str, ...]) -> Split:
        frames: list[FrameFile] = []
        empty = []
        for day in days:
            found = self._frames_of(day)
            frames.extend(found)
            if not found:
                empty.append(day)
        step = step_in_seconds(self.step_minutes)
        on_step = sum(frame.second % step == 0 for frame in frames)
        if empty:
            log.warning(
                "%s: %d of %d %s days have no frame: %s",
                *(self.root, len(empty), len(days), name, ", ".join(empty)),
            )
        missing = len(days) * (86_400 // step) - on_step
        return Split(name, days, tuple(empty), tuple(frames), missing)

    def _check_step(self) -> None:
        """Refuse an archive whose frames lie at another step than the one stated."""
        step = step_in_seconds(self.step_minutes)
        splits = [[frame.second for frame in split.frames] for split in self.splits.values()]
        gaps = Counter(
            later - earlier
            for seconds in splits
            for earlier, later in pairwise(seconds)
            if earlier // 86_400 == later // 86_400
        )
        off = [second for seconds in splits for second in seconds if second % step]
        if len(off) > MOST_OFF_STEP * sum(map(len, splits)):
            usual = gaps.most_common(1)[0][0] if gaps else None
            apart = f" among frames mostly {usual / 60:g} minutes apart" if usual else ""
            hint = (
                "; prepare every frame, a store can be subsampled when it is read"
                if usual and step % usual == 0
                else ""
            )
            raise InputError(
                f"{frame_path(self.root, off[0])}: found this time{apart}, expected multiples of "
                f"{self.step_minutes:g} minutes{hint}"
            )
        if gaps and min(gaps) > step:
            raise InputError(
                f"{self.root}: found no frames closer than {min(gaps) / 60:g} minutes, expected "
                f"one every {self.step_minutes:g}"
            )

    def _frames_of(self, day: str) -> list[FrameFile]:
        """The frames of a day, in order of time."""
        stamps = _files_of(self.root / "radarPNG" / day.replace("-", "/"))
        masks = _files_of(self.root / "radarPNG_mask" / day.replace("-", "/"))
        frames = []
        for name, png in sorted(stamps.items()):
            if not (match := _FRAME_NAME.fullmatch(name)):
                continue
            path = self.root / "radarPNG" / day.replace("-", "/") / name
            try:
                time = datetime.strptime("20" + match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            except ValueError:
                raise InputError(
                    f"{path}: found no time in the name, expected RADyymmddHHMMSS.png"
                ) from None
            if f"{time:%Y-%m-%d}" != day:
                raise InputError(f"{path}: found a frame of {time:%Y-%m-%d}, expected one of {day}")
            frames.append(FrameFile(int(time.timestamp()), png, masks.get(f"RAD{match[1]}.mask")))
        return frames


def _files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of the files in a folder; nothing if it is not there."""
    try:
        with os.scandir(folder) as entries:
            stats = {entry.name: entry.stat() for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def _find_root(given: Path) -> Path:
    """The folder that holds radarPNG: the one given, or the only one in it that does."""
    if (given / "radarPNG").is_dir():
        return given
    if not given.is_dir():
        raise InputError(f"{given}: no such folder, expected one that holds radarPNG")
    deeper = sorted(folder.parent for folder in given.glob("*/radarPNG") if folder.is_dir())
    if len(deeper) != 1:
        raise InputError(f"{given}: found {len(deeper)} folders radarPNG in it, expected one")
    return deeper[0]


def read_day_list(path: Path) -> tuple[str, ...]:
    """Days of a list, YYYY-MM-DD in order of time.

    Raises:
        InputError: a line is not "YYYYMMDD, daily rainfall in mm", or names a day again.
    """
    try:
        lines = path.read_text(encoding="ascii").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a day list ({error})") from error
    days: set[str] = set()
    for number, line in enumerate(lines, start=1):
        match = _DAY_LINE.fullmatch(line.strip())
        where = f"{path}: line {number}: found {line[:80]!r}"
        if not match:
            raise InputError(f"{where}, expected 'YYYYMMDD, daily rainfall in mm'")
        try:
            day = f"{datetime.strptime(match[1], '%Y%m%d'):%Y-%m-%d}"
        except ValueError:
            raise InputError(f"{where}, expected a day of the calendar") from None
        if day in days:
            raise InputError(f"{where}, expected each day once")
        days.add(day)
    return tuple(sorted(days))


def frame_path(root: Path, second: int) -> Path:
    """Where the frame of a time lies; seconds since 1970-01-01 UTC."""
    return root / f"{datetime.fromtimestamp(second, UTC):radarPNG/%Y/%m/%d/RAD%y%m%d%H%M%S.png}"


def mask_path(root: Path, second: int) -> Path:
    """Where the mask of a time lies; seconds since 1970-01-01 UTC."""
    return (
        root / f"{datetime.fromtimestamp(second, UTC):radarPNG_mask/%Y/%m/%d/RAD%y%m%d%H%M%S.mask}"
    )


@dataclass(frozen=True)
class ArchiveReader:
    """Frames of an HKO-7 archive, cropped and averaged.

    A frame without a mask file gets its mask by the noise rule. Where the files lie is left out of
    the `repr`, so that it says what the reader does with them and nothing else.

    Attributes:
        root: the folder that holds radarPNG.
        size: pixels along each side of a frame in the archive.
        crop_to: side of the central crop.
        factor: pixels along each side of a cell that is averaged.
        exclude_mask_path: mask_dat.npz; None if there is none.
        exclude_mask_stamp: its size and modification time (ns).
    """

    root: Path = field(repr=False)
    size: int
    crop_to: int
    factor: int
    exclude_mask_path: Path | None = field(repr=False)
    exclude_mask_stamp: tuple[int, int] | None

    def __call__(
        self, references: Sequence[FrameFile]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stored values (n, y, x) and masks of n frames."""
        frames = np.empty((len(references), self.crop_to, self.crop_to), dtype=np.uint8)
        masks = np.empty(frames.shape, dtype=bool)
        path = self.exclude_mask_path
        # Read once a call and never kept: the file may change between two preparations.
        by_rule = any(reference.mask is None for reference in references)
        exclude = read_exclude_mask(path, self.size) if path and by_rule else None
        for number, reference in enumerate(references):
            frame = read_frame(frame_path(self.root, reference.second), self.size)
            if reference.mask is None:
                mask = noise_rule(frame, exclude)
            else:
                mask = read_mask(mask_path(self.root, reference.second), self.size)
            frames[number] = central_crop(frame, self.crop_to)
            masks[number] = central_crop(mask, self.crop_to)
        return average_pixels(frames, masks, self.factor)
