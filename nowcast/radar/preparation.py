"""From radar archives to a frame store: one function per kind of source, each with its report.

What the files hold is read in `archive` and `events`, grids are changed in `regrid` and cut in
`event_tiles`, and the store is written by `store_writing`; here it is decided which frames become
which sequences.
"""

import logging
import os
import time
from collections.abc import Sequence as Several
from dataclasses import asdict, replace
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.archive import SPLITS, ArchiveReader, HKO7Archive
from nowcast.radar.event_splits import check_given, check_same_steps, spans_of, tiles_report
from nowcast.radar.event_tiles import (
    Selection,
    TileReader,
    check_tiles_fit,
    choose_tiles,
    coarse_parts,
    event_stamp,
    factor_for,
    tile_frames,
)
from nowcast.radar.events import open_event
from nowcast.radar.parts import content_hash, discard_other_parts, make_parts, parts_folder
from nowcast.radar.preparation_report import (
    PreparationReport,
    SplitReport,
    description,
    report_of,
)
from nowcast.radar.store import VERSION, FrameStore, Sequence
from nowcast.radar.store_writing import already_prepared, write_store

log = logging.getLogger("nowcast")

HKO7_EXTENT_KM = 512.0
"""Side of the area that HKO-7's frames show."""


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name}: found {share}, expected a share from 0 to 1")


def prepare_hko7(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 480,
    downsample_to: int | None = 120,
    crop_to: int | None = None,
    step_minutes: float = 6,
    splits: Several[str] = SPLITS,
    workers: int | None = None,
    overwrite: bool = False,
) -> PreparationReport:
    """Prepare a frame store from an HKO-7 archive, or another in the same layout.

    Each split becomes one sequence. Frames whose `.mask` file is absent get their mask by the
    benchmark's noise rule. An archive without any day list becomes one split, `all`.

    Args:
        root: the folder that holds radarPNG, or the folder around it.
        out: the store to write; if the very same one is there already, nothing is done.
        size: pixels along each side of the archive's frames.
        downsample_to: side of the frames after averaging pixel values over the pixels of each
            cell that count, `average_pixels`; None keeps every pixel.
        crop_to: side of a central crop made before that; None keeps the whole frame.
        step_minutes: time between two frames.
        splits: which to take; those without a day list are passed over with a warning.
        workers: processes that work side by side; None takes as many as there are CPU cores.
        overwrite: whether another file at `out` may be replaced.

    Raises:
        InputError: a wrong input, before `out` is touched; parts already made stay beside it for
            the next attempt.
    """
    started, out = time.monotonic(), Path(out)
    crop = size if crop_to is None else crop_to
    side = crop if downsample_to is None else downsample_to
    if not 1 <= crop <= size:
        raise InputError(f"crop_to: found {crop}, expected 1 to the frame size {size}")
    if not 1 <= side <= crop or crop % side:
        raise InputError(f"downsample_to: found {side}, expected a divisor of {crop}")
    archive = HKO7Archive(root, size, step_minutes)
    chosen = [
        split for split in archive.splits.values() if split.name in splits or split.name == "all"
    ]
    if absent := [name for name in splits if name not in archive.splits]:
        log.warning("%s: no day list for %s", archive.root, ", ".join(absent))
    chosen = [split for split in chosen if split.frames]
    if not chosen:
        raise InputError(f"{archive.root}: found no frame of {', '.join(splits)}")
    static = archive.exclude_mask_path
    reader = ArchiveReader(
        root=archive.root,
        size=size,
        crop_to=crop,
        factor=crop // side,
        exclude_mask_path=static,
        exclude_mask_stamp=(static.stat().st_size, static.stat().st_mtime_ns) if static else None,
    )
    frames = [frame for split in chosen for frame in split.frames]
    layout = [(split.name, len(split.frames)) for split in chosen]
    fingerprint = content_hash(VERSION, reader, side, step_minutes, layout, frames)
    if there := already_prepared(out, fingerprint, overwrite):
        return report_of(there, started, already_there=True)
    metadata = {
        "source": "archive in the HKO-7 layout",
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
        )
        for split in chosen
    }
    if static is None and any(report.masks_by_noise_rule for report in reports.values()):
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
        ),
        fingerprint=fingerprint,
        workers=workers,
    )
    return report_of(FrameStore(out), started, already_there=False)


def prepare_netcdf(
    out: str | os.PathLike[str],
    *,
    train: Several[str | os.PathLike[str]] = (),
    valid: Several[str | os.PathLike[str]] = (),
    test: Several[str | os.PathLike[str]] = (),
    valid_fraction: float = 0.0,
    clip_length: int = 25,
    tile_size: int = 120,
    tile_stride: int | None = None,
    grid_spacing_km: float | None = 4.0,
    minimum_coverage: float = 0.5,
    minimum_wet_fraction: float = 0.02,
    step_minutes: float | None = None,
    subsample: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
) -> PreparationReport:
    """Prepare a frame store from events in CF NetCDF files.

    Composites are coarsened by averaging rain rate and cut into tiles; each tile becomes a sequence
    of its own, `<file>:<row>,<column>`. A tile is kept for an event's whole time or not at all.

    Args:
        out: the store to write; if the very same one is there already, nothing is done.
        train: events to train on.
        valid: events to validate on.
        test: events to test on.
        valid_fraction: share of each training event's time, at its end, that becomes validation
            instead, but at least one clip. An event that would not keep a clip for training stays
            whole. No time step is in both.
        clip_length: frames of a clip; an event that spans fewer timestamps is refused.
        tile_size: pixels along each side of a tile, after coarsening.
        tile_stride: pixels from one training tile to the next; None puts them side by side, as
            those for validation and testing always are, so that no pixel is scored twice.
        grid_spacing_km: side of a pixel after coarsening, a whole multiple of each event's; None
            keeps the events' own.
        minimum_coverage: share of a tile's pixels and frames that must be observed.
        minimum_wet_fraction: share of those that must have at least 0.5 mm/h, averaged over the
            event.
        step_minutes: time between two frames; None takes the events' own.
        subsample: whether an event's step may be a divisor of `step_minutes`.
        workers: processes that work side by side; None takes as many as there are CPU cores.
        overwrite: whether another file at `out` may be replaced.

    Raises:
        InputError: a wrong input, events of different time steps, or no tile left in a split;
            before `out` is touched. Parts already made stay beside it for the next attempt.
    """
    started, out = time.monotonic(), Path(out)
    scored = Selection(tile_size, tile_size, minimum_coverage, minimum_wet_fraction)
    selections = {
        "train": replace(scored, stride=tile_size if tile_stride is None else tile_stride),
        "valid": scored,
        "test": scored,
    }
    _check_shares(
        valid_fraction=valid_fraction,
        minimum_coverage=minimum_coverage,
        minimum_wet_fraction=minimum_wet_fraction,
    )
    given = {"train": train, "valid": valid, "test": test}
    check_given(out, [Path(path) for split in given.values() for path in split])
    spans = [
        span
        for split, events in given.items()
        for path in events
        for span in spans_of(
            open_event(path, step_minutes, subsample),
            split,
            valid_fraction if split == "train" else 0.0,
            clip_length,
        )
    ]
    check_same_steps(span.event for span in spans)
    factors = {span.event: factor_for(span.event, grid_spacing_km) for span in spans}
    for span in spans:
        check_tiles_fit(span.event, factors[span.event], selections[span.split])
    step = spans[0].event.step_minutes
    fingerprint = content_hash(
        VERSION,
        [(event_stamp(s.event), factors[s.event], s.split, s.first, s.count) for s in spans],
        selections,
        step,
    )
    if there := already_prepared(out, fingerprint, overwrite):
        return report_of(there, started, already_there=True)

    folder = parts_folder(out)
    parts = {event: coarse_parts(event, factor) for event, factor in factors.items()}
    wanted = {name: write for own in parts.values() for name, write in own.items()}
    discard_other_parts(folder, "event-*.h5", wanted)
    make_parts(folder, wanted, "Coarsening", workers)
    chosen = {
        span: choose_tiles(folder, list(parts[span.event]), selections[span.split])
        for span in spans
    }
    sequences, references = [], []
    for span in spans:
        for tile in chosen[span].tiles:
            name = f"{span.event.path.stem}:{tile.row},{tile.column}"
            sequences.append(
                Sequence(
                    f"{name}:{span.split}" if valid_fraction else name,
                    span.split,
                    span.event.times[span.first : span.first + span.count],
                    {
                        **span.event.metadata,
                        **asdict(tile),
                        "grid_spacing_km": grid_spacing_km or span.event.grid_spacing_km,
                    },
                )
            )
            references += tile_frames(parts[span.event], tile, span.first, span.count)
    reports = {
        split: tiles_report(
            {span: own for span, own in chosen.items() if span.split == split}, selections[split]
        )
        for split in SPLITS
        if any(span.split == split for span in spans)
    }
    write_store(
        out,
        sequences,
        references,
        TileReader(folder, tile_size),
        frame_shape=(tile_size, tile_size),
        step_minutes=step,
        preparation=description(
            reports,
            source="CF NetCDF events",
            grid_spacing_km=grid_spacing_km,
            valid_fraction=valid_fraction,
            clip_length=clip_length,
            subsample=subsample,
            **asdict(selections["train"]),
        ),
        fingerprint=fingerprint,
        workers=workers,
    )
    return report_of(FrameStore(out), started, already_there=False)
