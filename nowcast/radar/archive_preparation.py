"""From an archive in the layout of HKO-7 to a frame store.

What there is in an archive is found in `archive`, what can be read of it in `archive_check`; its
frames are read by `archive_reading`, and the store is written by `store_writing`. Here it is
decided which frames become which sequences.
"""

import logging
import os
import time
from collections.abc import Sequence as Several
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.archive import SPLITS, HKO7Archive, Split, check_size
from nowcast.radar.archive_check import find_unreadable
from nowcast.radar.archive_files import read_exclude_mask
from nowcast.radar.archive_reading import ArchiveReader
from nowcast.radar.codecs import Compression
from nowcast.radar.parts import content_hash
from nowcast.radar.preparation_report import (
    PreparationReport,
    SplitReport,
    description,
    report_of,
)
from nowcast.radar.static_mask import HKO7_SOURCE, coarse_exclude_mask, exclude_mask_as_text
from nowcast.radar.store import VERSION, FrameStore, Sequence
from nowcast.radar.store_writing import already_prepared, write_store

log = logging.getLogger("nowcast")

HKO7_EXTENT_KM = 512.0
"""Side of the area that HKO-7's frames show."""


def prepare_hko7(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 480,
    downsample_to: int | None = 120,
    crop_to: int | None = None,
    step_minutes: float = 6,
    splits: Several[str] = SPLITS,
    day_lists: str | os.PathLike[str] | None = None,
    skip_unreadable: bool = False,
    compression: Compression = "lz4",
    workers: int | None = None,
    overwrite: bool = False,
) -> PreparationReport:
    """Prepare a frame store from an HKO-7 archive, or another in the same layout.

    Each split becomes one sequence. Frames whose `.mask` file is absent get their mask by the
    benchmark's noise rule. An archive without any day list becomes one split, `all`.

    Args:
        root: the folder that holds radarPNG, any folder around it, or radarPNG itself; zip files
            in it are read in place.
        out: the store to write; if the very same one is there already, nothing is done.
        size: pixels along each side of the archive's frames.
        downsample_to: side of the frames after averaging pixel values over the pixels of each
            cell that count, `average_pixels`; None keeps every pixel.
        crop_to: side of a central crop made before that; None keeps the whole frame.
        step_minutes: time between two frames.
        splits: which to take; those without a day list are passed over with a warning.
        day_lists: a folder with the day lists, and with mask_dat.npz if there is none below `root`;
            None takes those below `root`.
        skip_unreadable: read every file before anything is converted, and leave out the frames that
            cannot be read, as if they were missing; a frame whose mask file cannot be read is left
            out, too. Otherwise the first such file ends the preparation.
        compression: of the store: lz4 reads fast and is small, gzip is smaller and slower, none is
            the fastest and by far the largest.
        workers: processes that work side by side; None takes as many as there are CPU cores.
        overwrite: whether what stands at `out` is replaced, be it the very same store.

    Raises:
        InputError: a wrong input, before `out` is touched; parts already made stay beside it for
            the next attempt.
    """
    started, out = time.monotonic(), Path(out)
    check_size(size)
    crop = size if crop_to is None else crop_to
    side = crop if downsample_to is None else downsample_to
    if not 1 <= crop <= size:
        raise InputError(f"crop_to: found {crop}, expected 1 to the frame size {size}")
    if not 1 <= side <= crop or crop % side:
        raise InputError(f"downsample_to: found {side}, expected a divisor of {crop}")
    archive = HKO7Archive(root, size, step_minutes, day_lists)
    chosen = [
        split for split in archive.splits.values() if split.name in splits or split.name == "all"
    ]
    if "all" not in archive.splits and (
        absent := [name for name in splits if name not in archive.splits]
    ):
        log.warning("%s: no day list for %s", archive.root, ", ".join(absent))
    found = {split.name: len(split.frames) for split in chosen}
    if skip_unreadable:
        chosen = _readable(archive, chosen, workers)
    chosen = [split for split in chosen if split.frames]
    if not chosen:
        readable = "readable " if any(found.values()) else ""
        raise InputError(f"{archive.root}: found no {readable}frame of {', '.join(splits)}")
    reader = ArchiveReader(
        root=archive.root,
        size=size,
        crop_to=crop,
        factor=crop // side,
        exclude_mask=archive.exclude_mask,
    )
    frames = [frame for split in chosen for frame in split.frames]
    layout = [(split.name, split.days, len(split.frames)) for split in chosen]
    fingerprint = content_hash(VERSION, reader, side, step_minutes, layout, frames)
    if not overwrite and (there := already_prepared(out, fingerprint, compression)):
        return report_of(there, started, already_there=True)
    metadata = {
        "source": HKO7_SOURCE,
        "native_size": size,
        "grid_spacing_km": HKO7_EXTENT_KM / size * crop / side,
    }
    reports = {
        split.name: SplitReport(
            frames=len(split.frames),
            frames_missing=split.frames_missing,
            days=len(split.days),
            days_without_frames=split.days_without_frames,
            masks_by_noise_rule=sum(frame.mask is None for frame in split.frames),
            frames_unreadable=found[split.name] - len(split.frames),
        )
        for split in chosen
    }
    if archive.exclude_mask is None and any(
        report.masks_by_noise_rule for report in reports.values()
    ):
        log.warning("%s: no mask_dat.npz, so the noise rule excludes no pixels", archive.root)
    write_store(
        out,
        [Sequence(split.name, split.name, split.times, metadata) for split in chosen],
        frames,
        reader,
        frame_shape=(side, side),
        step_minutes=step_minutes,
        preparation=description(
            reports,
            source=metadata["source"],
            size=size,
            crop_to=crop_to,
            downsample_to=downsample_to,
            exclude_mask=_exclude_mask(reader),
        ),
        fingerprint=fingerprint,
        compression=compression,
        workers=workers,
    )
    return report_of(FrameStore(out), started, already_there=False)


def _exclude_mask(reader: ArchiveReader) -> str | None:
    """The archive's static mask on the grid of the store, as the store keeps it; None without."""
    if reader.exclude_mask is None:
        return None
    exclude = read_exclude_mask(reader.exclude_mask, reader.size)
    return exclude_mask_as_text(coarse_exclude_mask(exclude, reader.crop_to, reader.factor))


def _readable(archive: HKO7Archive, splits: Several[Split], workers: int | None) -> list[Split]:
    """The splits without the frames that cannot be read, each of which is named in the log."""
    unreadable = find_unreadable(archive, splits, workers)
    for file in unreadable:
        log.warning("left out: %s", file.reason)
    seconds = {file.second for file in unreadable}
    return [split.without(seconds, archive.step_minutes) for split in splits]
