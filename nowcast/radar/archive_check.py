"""Checking an archive before it is converted: every frame and mask decoded, all counts at once.

The counts are set beside those published. What the archive holds is found in `archive`, the table
is made in `archive_check_report`, and nothing is written anywhere.
"""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nowcast.errors import InputError
from nowcast.progress import progress
from nowcast.radar.archive import HKO7Archive, Split
from nowcast.radar.archive_check_report import ArchiveCheck, SplitCheck
from nowcast.radar.archive_files import read_frame, read_mask
from nowcast.radar.archive_places import ArchiveFile, FrameFile, mask_name, png_name
from nowcast.radar.parts import side_by_side

FRAMES_PER_CALL = 200
"""Frames that a worker decodes before it reports: half a second's work at 480 × 480."""


class Unreadable(NamedTuple):
    """A file that cannot be read.

    Attributes:
        second: valid time, seconds since 1970-01-01 UTC.
        is_mask: whether it is a mask's file, not a frame's.
        reason: which file, what was found and what was expected.
    """

    second: int
    is_mask: bool
    reason: str


def check_archive(
    root: str | os.PathLike[str],
    size: int = 480,
    step_minutes: float = 6,
    day_lists: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> ArchiveCheck:
    """Read all frames and masks of the listed days, and report what is missing or unreadable.

    Args:
        root: the folder that holds radarPNG, any folder around it, or radarPNG itself; zip files
            in it are read in place.
        size: pixels along each side of the archive's frames.
        step_minutes: time between two frames.
        day_lists: a folder with the day lists, and with mask_dat.npz if there is none below `root`;
            None takes those below `root`.
        workers: processes that work side by side; None takes as many as there are CPU cores.

    Raises:
        InputError: the archive as a whole is wrong, as in `HKO7Archive`.
        ChildProcessError: a worker was killed.
    """
    started = time.monotonic()
    archive = HKO7Archive(root, size, step_minutes, day_lists)
    splits = list(archive.splits.values())
    unreadable = find_unreadable(archive, splits, workers)
    frames = {file.second for file in unreadable if not file.is_mask}
    masks = {file.second for file in unreadable if file.is_mask}
    return ArchiveCheck(
        root=archive.root,
        size=size,
        step_minutes=step_minutes,
        splits={
            split.name: SplitCheck(
                days=len(split.days),
                days_without_frames=split.days_without_frames,
                frames=len(split.frames),
                frames_missing=split.frames_missing,
                frames_unreadable=sum(frame.second in frames for frame in split.frames),
                masks_missing=sum(frame.mask is None for frame in split.frames),
                masks_unreadable=sum(frame.second in masks for frame in split.frames),
            )
            for split in splits
        },
        unreadable=tuple(file.reason for file in unreadable),
        places=archive.places,
        frames_in_no_list=archive.frames_in_no_list,
        copies=archive.copies,
        static_masks=None if archive.exclude_mask is None else str(archive.exclude_mask),
        seconds=time.monotonic() - started,
    )


def find_unreadable(
    archive: HKO7Archive, splits: Sequence[Split], workers: int | None = None
) -> list[Unreadable]:
    """Files of some splits that cannot be read, in order of time; each file is read once.

    Args:
        archive: where the splits come from.
        splits: whose frames and masks to read.
        workers: as in `check_archive`.

    Raises:
        ChildProcessError: a worker was killed.
    """
    frames = sorted({frame.second: frame for split in splits for frame in split.frames}.values())
    calls = [
        partial(_decode, archive.root, archive.size, frames[first : first + FRAMES_PER_CALL])
        for first in range(0, len(frames), FRAMES_PER_CALL)
    ]
    found = []
    with closing(_one_by_one(calls, workers)) as decoded:
        for files in progress(
            decoded, f"Checking {archive.root}", total=len(frames), unit="frames"
        ):
            found.extend(files)
    return sorted(found)


def _one_by_one(
    calls: Sequence[partial[list[list[Unreadable]]]], workers: int | None
) -> Generator[list[Unreadable], None, None]:
    """What is found of each frame, so that progress counts frames."""
    with closing(side_by_side(calls, workers)) as results:
        for result in results:
            yield from result


def _decode(root: Path, size: int, frames: Sequence[FrameFile]) -> list[list[Unreadable]]:
    """For each frame, which of its files cannot be read."""
    found: list[list[Unreadable]] = []
    for frame in frames:
        own: list[Unreadable] = []
        try:
            read_frame(ArchiveFile(root, frame.png, png_name(frame.second)), size)
        except InputError as error:
            own.append(Unreadable(frame.second, False, str(error)))
        if frame.mask is not None:
            try:
                read_mask(ArchiveFile(root, frame.mask, mask_name(frame.second)), size)
            except InputError as error:
                own.append(Unreadable(frame.second, True, str(error)))
        found.append(own)
    return found
