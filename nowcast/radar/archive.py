"""The HKO-7 archive as people have it: which frames there are, by split and day.

Layout as its authors hand it out (Shi et al., NeurIPS 2017, and the files that they publish):

    radarPNG/2015/05/23/RAD150523063000.png         8-bit grey, named by time as yymmddHHMMSS
    radarPNG_mask/2015/05/23/RAD150523063000.mask   zlib stream of size × size bool bytes, row-major
    hko7_rainy_{train,valid,test}_days.txt          lines "YYYYMMDD, daily rainfall in mm"
    mask_dat.npz                                    exclude_mask (1 = leave out) and others

Where these files lie is found in `archive_search`, what they hold is read in `archive_files`, the
whole archive is checked in `archive_check` and prepared in `archive_preparation`.
"""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.archive_files import read_day_list, read_exclude_mask
from nowcast.radar.archive_places import ArchiveFile, FrameFile, png_name
from nowcast.radar.archive_search import (
    DAY_LISTS,
    STATIC_MASKS,
    Found,
    is_list,
    search,
    top_folders,
)
from nowcast.radar.clips import Times, step_in_seconds

log = logging.getLogger("nowcast")

SPLITS = tuple(DAY_LISTS)

MOST_OFF_STEP = 0.25
"""Share of frames that may lie between the time steps. HKO-7 has 31 such frames among 192,168, 22
of them on one day (9 %); a step that is not the archive's leaves at least half of the frames out.
"""

MOST_PIXELS_ALONG_A_SIDE = 16_384

SECONDS_PER_DAY = 86_400


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

    def without(self, seconds: Collection[int], step_minutes: float) -> "Split":
        """The split as if the frames of some times were missing.

        Args:
            seconds: those times, seconds since 1970-01-01 UTC.
            step_minutes: time between two frames.
        """
        kept = (frame for frame in self.frames if frame.second not in seconds)
        return split_of(self.name, self.days, kept, step_minutes)


def split_of(
    name: str, days: tuple[str, ...], frames: Iterable[FrameFile], step_minutes: float
) -> Split:
    """A split, with what it lacks.

    Args:
        name: train, valid, test or all.
        days: YYYY-MM-DD of its days, in order.
        frames: the frames of these days, in order of time.
        step_minutes: time between two frames.
    """
    own, step = tuple(frames), step_in_seconds(step_minutes)
    with_frames = {frame.second // SECONDS_PER_DAY for frame in own}
    empty = tuple(day for day in days if _midnight(day) // SECONDS_PER_DAY not in with_frames)
    on_step = sum(frame.second % step == 0 for frame in own)
    return Split(name, days, empty, own, len(days) * (SECONDS_PER_DAY // step) - on_step)


class HKO7Archive:
    """An HKO-7 archive on disk, or another in the same layout, however it was unpacked.

    Frames, masks, day lists and static masks are found wherever they lie below the folder, in zip
    files too (`archive_search`). A split holds every frame of the days that its list names. A list
    that is not there makes no split; without any list, every frame found forms the one split `all`.
    A listed day without frames, and a day in two lists, are reported as logged warnings, not
    refused; frames of days in no list are counted.

    Args:
        root: the folder that holds radarPNG, any folder around it, or radarPNG itself.
        size: pixels along each side of every frame.
        step_minutes: time between two frames.
        day_lists: a folder with the day lists, and with mask_dat.npz if there is none below `root`;
            None takes those below `root`.

    Attributes:
        root: the folder that places are relative to.
        size: as given.
        step_minutes: as given.
        splits: by name.
        exclude_mask: mask_dat.npz; None if there is none.
        places: how many frames lie where: by zip file, or by the folder above YYYY/MM/DD.
        frames_in_no_list: how many frames are of days that no list names.
        copies: how many files were passed over because the same is found elsewhere.

    Raises:
        InputError: no such folder, no frame at all, a malformed day list or static mask, a frame in
            a folder of another day, the same name with different content in two places, a zip file
            that cannot be read, or frames at another step than `step_minutes`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int = 480,
        step_minutes: float = 6,
        day_lists: str | os.PathLike[str] | None = None,
    ) -> None:
        check_size(size)
        self.size = size
        self.step_minutes = step_minutes
        found = search(Path(root))
        self.root = found.root
        _check_found(found, Path(root))
        named = found if day_lists is None else _lists_elsewhere(Path(day_lists))
        static = found.file(STATIC_MASKS) or named.file(STATIC_MASKS)
        if static:
            read_exclude_mask(static, size)
        self.exclude_mask = static
        self.copies = found.copies
        self.places = top_folders(found.frames.values())
        days = _read_day_lists(named) or {"all": _days_of(found.frames)}
        seconds = np.array(sorted(found.frames), dtype=np.int64)
        self.splits = {name: self._split(found, seconds, name, own) for name, own in days.items()}
        listed = {_midnight(day) for own in days.values() for day in own}
        midnights, counts = np.unique(seconds - seconds % SECONDS_PER_DAY, return_counts=True)
        self.frames_in_no_list = int(counts[~np.isin(midnights, list(listed))].sum())
        if self.frames_in_no_list:
            log.info(
                "%s: %s frames are of days in no list", self.root, f"{self.frames_in_no_list:,}"
            )
        self._check_step()

    def _split(
        self, found: Found, seconds: NDArray[np.int64], name: str, days: tuple[str, ...]
    ) -> Split:
        bounds = np.array([_midnight(day) for day in days], dtype=np.int64)
        first = np.searchsorted(seconds, bounds).tolist()
        last = np.searchsorted(seconds, bounds + SECONDS_PER_DAY).tolist()
        split = split_of(
            name,
            days,
            (
                FrameFile(second, found.frames[second], found.masks.get(second))
                for begin, end in zip(first, last, strict=True)
                for second in seconds[begin:end].tolist()
            ),
            self.step_minutes,
        )
        if empty := split.days_without_frames:
            log.warning(
                "%s: %d of %d %s days have no frame: %s",
                *(self.root, len(empty), len(days), name, ", ".join(empty)),
            )
        return split

    def _check_step(self) -> None:
        """Refuse an archive whose frames lie at another step than the one stated."""
        step = step_in_seconds(self.step_minutes)
        splits = [split.frames for split in self.splits.values()]
        gaps = Counter(
            later.second - earlier.second
            for frames in splits
            for earlier, later in pairwise(frames)
            if earlier.second // SECONDS_PER_DAY == later.second // SECONDS_PER_DAY
        )
        off = [frame for frames in splits for frame in frames if frame.second % step]
        if len(off) > MOST_OFF_STEP * sum(map(len, splits)):
            usual = gaps.most_common(1)[0][0] if gaps else None
            apart = f" among frames mostly {usual / 60:g} minutes apart" if usual else ""
            hint = (
                "; prepare every frame, a store can be subsampled when it is read"
                if usual and usual < step and step % usual == 0
                else ""
            )
            file = ArchiveFile(self.root, off[0].png, png_name(off[0].second))
            raise InputError(
                f"{file}: found this time{apart}, expected multiples of "
                f"{self.step_minutes:g} minutes{hint}"
            )
        if gaps and min(gaps) > step:
            raise InputError(
                f"{self.root}: found no frames closer than {min(gaps) / 60:g} minutes, expected "
                f"one every {self.step_minutes:g}"
            )


def check_size(size: int) -> None:
    """Refuse frames of no size, or of one that no radar has.

    Raises:
        InputError: with what was found and expected.
    """
    if not 1 <= size <= MOST_PIXELS_ALONG_A_SIDE:
        raise InputError(
            f"size: found {size}, expected 1 to {MOST_PIXELS_ALONG_A_SIDE:,} pixels along a side"
        )


def _check_found(found: Found, given: Path) -> None:
    """Refuse a folder without frames; say what in it could not be looked into."""
    not_read = found.not_read
    others = f"{', '.join(not_read[:3])}{' and more' if len(not_read) > 3 else ''}"
    if not found.frames:
        raise InputError(
            f"{given}: found no frame in it, expected radarPNG/2015/05/23/RAD150523063000.png and "
            f"the like{f' (not looked into: {others}; unpack it)' if not_read else ''}"
        )
    if not_read:
        log.warning("%s: not looked into: %s; unpack what belongs to the archive", given, others)


def _lists_elsewhere(folder: Path) -> Found:
    """Day lists, and perhaps static masks, of another folder."""
    found = search(folder, wanted=is_list)
    if not found.named.keys() & set(DAY_LISTS.values()):
        raise InputError(f"{folder}: found no day list, expected {', '.join(DAY_LISTS.values())}")
    return found


def _read_day_lists(found: Found) -> Mapping[str, tuple[str, ...]]:
    """Days by split; what is odd about them is logged."""
    files = {name: file for name, own in DAY_LISTS.items() if (file := found.file(own))}
    days = {name: read_day_list(file) for name, file in files.items()}
    if not days:
        log.warning(
            "%s: found no day list, so every frame belongs to one split, `all`; lists are named %s "
            "and lie anywhere below that folder, or in the one given as day_lists",
            *(found.root, ", ".join(DAY_LISTS.values())),
        )
    for one, other in combinations(days, 2):
        if both := sorted(set(days[one]) & set(days[other])):
            log.warning(
                "%s: %d days are both %s and %s days: %s%s",
                *(found.root, len(both), one, other, ", ".join(both[:10])),
                " and more" if len(both) > 10 else "",
            )
    return days


def _days_of(seconds: Iterable[int]) -> tuple[str, ...]:
    """YYYY-MM-DD of the days of some times, in order."""
    days = sorted({second // SECONDS_PER_DAY for second in seconds})
    return tuple(str(np.datetime64(day, "D")) for day in days)


def _midnight(day: str) -> int:
    """Seconds since 1970-01-01 UTC of a day YYYY-MM-DD."""
    return int(np.datetime64(day, "s").astype(np.int64))


def frame_path(root: Path, second: int) -> Path:
    """Where the published layout has the frame of a time; seconds since 1970-01-01 UTC."""
    return root / f"{datetime.fromtimestamp(second, UTC):radarPNG/%Y/%m/%d/RAD%y%m%d%H%M%S.png}"


def mask_path(root: Path, second: int) -> Path:
    """Where the published layout has the mask of a time; seconds since 1970-01-01 UTC."""
    return (
        root / f"{datetime.fromtimestamp(second, UTC):radarPNG_mask/%Y/%m/%d/RAD%y%m%d%H%M%S.mask}"
    )
