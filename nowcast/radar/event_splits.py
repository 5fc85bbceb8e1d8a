"""Which part of an event's time belongs to which split, and what became of a split's events."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from nowcast.errors import InputError
from nowcast.radar.clips import step_in_seconds
from nowcast.radar.event_tiles import Chosen, Selection
from nowcast.radar.events import Event, event_name
from nowcast.radar.parts import parts_folder
from nowcast.radar.preparation_report import SplitReport

log = logging.getLogger("nowcast")


@dataclass(frozen=True)
class Span:
    """A part of an event's time that belongs to one split.

    Attributes:
        event: the event.
        split: train, valid or test.
        first: number of its first frame among the event's.
        count: how many frames there are.
    """

    event: Event
    split: str
    first: int
    count: int

    @property
    def slots(self) -> int:
        """Timestamps from its first to its last frame, missing ones among them."""
        times = self.event.times[self.first : self.first + self.count].astype(np.int64)
        return int((times[-1] - times[0]) // step_in_seconds(self.event.step_minutes)) + 1


def check_given(out: Path, paths: Iterable[Path]) -> None:
    """Refuse no event at all, events that the store could not tell apart, or would be written into.

    Args:
        out: the store to write; its parts lie beside it.
        paths: the events' files, of all splits.

    Raises:
        InputError: naming the files.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(event_name(path), path)
        if other.resolve() == path.resolve() and other is not path:
            raise InputError(f"{out}: found {path} given twice, expected different events")
        if other is not path:
            raise InputError(
                f"{out}: found {other} and {path}, expected names that differ before the suffix: "
                "they become names of sequences"
            )
        _check_apart(out, path)
    if not seen:
        raise InputError(f"{out}: found no event, expected one or more")


def _check_apart(out: Path, event: Path) -> None:
    """Refuse an event that the store or its parts would replace, change or remove."""
    at = Path(os.path.realpath(event))
    store, parts = (Path(os.path.realpath(path)) for path in (out, parts_folder(out)))
    if store.is_relative_to(at) or parts.is_relative_to(at):
        raise InputError(f"{out}: found the event {event} there, expected a place outside of it")
    if at.is_relative_to(parts):
        raise InputError(
            f"{out}: found the event {event} where the store's parts are made, "
            "expected it elsewhere"
        )


def check_same_steps(events: Iterable[Event]) -> None:
    """Refuse events whose frames lie at different steps; they would not fit one store.

    Raises:
        InputError: naming the first that differs.
    """
    first, *others = events
    for other in others:
        if step_in_seconds(other.step_minutes) != step_in_seconds(first.step_minutes):
            raise InputError(
                f"{other.path}: found frames every {other.step_minutes:g} minutes, expected "
                f"{first.step_minutes:g} as in {first.path}; a common step_minutes with "
                "subsampling would fit both"
            )


def spans_of(event: Event, split: str, valid_fraction: float, clip_length: int) -> list[Span]:
    """The event's time, its last part cut off for validation if asked for and long enough.

    Args:
        event: the event.
        split: what it is given for.
        valid_fraction: share of its timestamps, at the end, that is for validation instead; at
            least one clip. An event that would not keep a clip besides stays whole.
        clip_length: frames of a clip.

    Raises:
        InputError: the event is shorter than one clip.
    """
    number = len(event.times)
    whole = Span(event, split, 0, number)
    if whole.slots < clip_length:
        raise InputError(
            f"{event.path}: found {whole.slots} time steps, expected at least {clip_length} "
            "for one clip"
        )
    if not valid_fraction:
        return [whole]
    held_out = max(ceil(valid_fraction * whole.slots), clip_length)
    if whole.slots - held_out < clip_length:
        log.warning(
            "%s: %d time steps leave no clip of %d for training beside one for validation; "
            "all are for training",
            *(event.path, whole.slots, clip_length),
        )
        return [whole]
    cut_time = event.times[0] + np.timedelta64(
        (whole.slots - held_out) * step_in_seconds(event.step_minutes), "s"
    )
    cut = int(np.searchsorted(event.times, cut_time))
    return [Span(event, split, 0, cut), Span(event, "valid", cut, number - cut)]


def tiles_report(chosen: Mapping[Span, Chosen], selection: Selection) -> SplitReport:
    """What became of the events of a split.

    Args:
        chosen: the parts of events that belong to the split, and the tiles of each.
        selection: by which they were chosen.

    Raises:
        InputError: no tile is left.
    """
    without_coverage = sum(own.without_coverage for own in chosen.values())
    without_rain = sum(own.without_rain for own in chosen.values())
    for span, own in chosen.items():
        if not own.tiles:
            log.warning(
                "%s: no tile for %s: %d too little observed, %d too dry",
                *(span.event.path, span.split, own.without_coverage, own.without_rain),
            )
    if not any(own.tiles for own in chosen.values()):
        names = ", ".join(str(span.event.path) for span in chosen)
        raise InputError(
            f"{names}: found {without_coverage} tiles too little observed and {without_rain} too "
            f"dry, expected one with minimum_coverage {selection.minimum_coverage} and "
            f"minimum_wet_fraction {selection.minimum_wet_fraction}"
        )
    return SplitReport(
        frames=sum(span.count * len(own.tiles) for span, own in chosen.items()),
        frames_missing=sum(
            (span.slots - span.count) * len(own.tiles) for span, own in chosen.items()
        ),
        tiles=sum(len(own.tiles) for own in chosen.values()),
        tiles_without_coverage=without_coverage,
        tiles_without_rain=without_rain,
    )
