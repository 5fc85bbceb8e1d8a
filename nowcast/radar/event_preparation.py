"""From radar events to a frame store: coarsened, cut into tiles, each tile a sequence.

What an event's file holds is read in `event_sources`, grids are changed in `regrid` and cut in
`event_tiles`, which part of an event belongs to which split is in `event_splits`, and the store is
written by `store_writing`.
"""

import logging
import os
import time
from collections.abc import Sequence as Several
from dataclasses import asdict, replace
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.archive import SPLITS
from nowcast.radar.codecs import Compression
from nowcast.radar.event_quantities import stated_relation
from nowcast.radar.event_sources import open_event
from nowcast.radar.event_splits import check_given, check_same_steps, spans_of, tiles_report
from nowcast.radar.event_tiles import (
    Selection,
    TileReader,
    check_tiles_fit,
    choose_tiles,
    coarse_parts,
    factor_for,
    oddities_of,
)
from nowcast.radar.events import event_name
from nowcast.radar.image_frames import NO_IMAGES, ImageSeries
from nowcast.radar.parts import claimed, content_hash, discard_other_parts, make_parts
from nowcast.radar.preparation_report import PreparationReport, description, report_of
from nowcast.radar.store import VERSION, FrameStore, Sequence
from nowcast.radar.store_writing import already_prepared, write_store

log = logging.getLogger("nowcast")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name}: found {share}, expected a share from 0 to 1")


def prepare_events(
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
    variable: str | None = None,
    zr_a: float | None = None,
    zr_b: float | None = None,
    accumulation_minutes: float | None = None,
    images: ImageSeries = NO_IMAGES,
    compression: Compression = "lz4",
    workers: int | None = None,
    overwrite: bool = False,
) -> PreparationReport:
    """Prepare a frame store from radar events: CF NetCDF-4 files, Zarr stores, folders of images.

    Events are local files and folders, recognised by what they hold. A field (time, y, x) with CF
    names and units is expected: reflectivity, rain rate, or amounts of rain over a known time.
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
        variable: name of the field in NetCDF files and Zarr stores; None finds it by its name or
            CF standard name, and refuses a file with several.
        zr_a: a of the Z–R relation Z = a R^b of events of reflectivity that do not state their
            own as attributes zr_a and zr_b; without either they are refused.
        zr_b: b of that relation.
        accumulation_minutes: over how many minutes amounts of rain (mm, kg m-2) have fallen, for
            files that say it neither by bounds of time nor by an attribute of this name.
        images: how events that are folders of images are read.
        compression: of the store: lz4 reads fast and is small, gzip is smaller and slower, none is
            the fastest and by far the largest.
        workers: processes that work side by side; None takes as many as there are CPU cores.
        overwrite: whether what stands at `out` is replaced, be it the very same store.

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
    relation = stated_relation(zr_a, zr_b)
    given = {"train": train, "valid": valid, "test": test}
    check_given(out, [Path(path) for split in given.values() for path in split])
    spans = [
        span
        for split, events in given.items()
        for path in events
        for span in spans_of(
            open_event(
                path,
                step_minutes,
                subsample,
                variable=variable,
                relation=relation,
                accumulation_minutes=accumulation_minutes,
                images=images,
            ),
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
        [(s.event.reader, factors[s.event], s.split, s.first, s.count) for s in spans],
        selections,
        step,
    )
    if not overwrite and (there := already_prepared(out, fingerprint, compression)):
        return report_of(there, started, already_there=True)

    with claimed(out) as folder:
        parts = {event: coarse_parts(event, factor) for event, factor in factors.items()}
        wanted = {name: write for own in parts.values() for name, write in own.writers.items()}
        discard_other_parts(folder, "event-*.h5", wanted)
        make_parts(folder, wanted, "Coarsening", workers)
        for event, own in parts.items():
            for what, count in oddities_of(folder, list(own.writers)).items():
                log.info("%s: %s %s", event.path, f"{count:,}", what)
        chosen = {
            span: choose_tiles(folder, list(parts[span.event].writers), selections[span.split])
            for span in spans
        }
        sequences, references = [], []
        for span in spans:
            for tile in chosen[span].tiles:
                name = f"{event_name(span.event.path)}:{tile.row},{tile.column}"
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
                references += parts[span.event].tile_frames(tile, span.first, span.count)
        reports = {
            split: tiles_report(
                {span: own for span, own in chosen.items() if span.split == split},
                selections[split],
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
                source="radar events",
                grid_spacing_km=grid_spacing_km,
                valid_fraction=valid_fraction,
                clip_length=clip_length,
                subsample=subsample,
                variable=variable,
                zr_a=zr_a,
                zr_b=zr_b,
                accumulation_minutes=accumulation_minutes,
                images=images.as_json(),
                **asdict(selections["train"]),
            ),
            fingerprint=fingerprint,
            compression=compression,
            workers=workers,
        )
    return report_of(FrameStore(out), started, already_there=False)
