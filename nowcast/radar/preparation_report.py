"""What a preparation tells: frames found and missing, days without any, tiles kept and dropped.

The store keeps the report, so that it can be told again.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nowcast.radar.store import FrameStore


@dataclass(frozen=True)
class SplitReport:
    """What became of one split.

    Attributes:
        frames: frames in the store, over all sequences.
        frames_missing: timestamps of the listed days, or of the events, without a frame; those
            whose frame could not be read are among them.
        days: listed days.
        days_without_frames: those of them without any frame.
        masks_by_noise_rule: frames without a mask file of their own.
        frames_unreadable: frames left out because they or their masks could not be read.
        tiles: sequences cut from composites.
        tiles_without_coverage: tiles left out because too little of them is observed.
        tiles_without_rain: tiles left out because too little of them is wet.
    """

    frames: int
    frames_missing: int
    days: int = 0
    days_without_frames: tuple[str, ...] = ()
    masks_by_noise_rule: int = 0
    frames_unreadable: int = 0
    tiles: int = 0
    tiles_without_coverage: int = 0
    tiles_without_rain: int = 0


@dataclass(frozen=True)
class PreparationReport:
    """What was prepared.

    Attributes:
        out: the store.
        frame_shape: (y, x).
        step_minutes: time between frames.
        splits: what became of each.
        bytes_written: size of the store.
        seconds: how long it took.
        already_there: the store stood there, made from the same frames in the same way.
    """

    out: Path
    frame_shape: tuple[int, int]
    step_minutes: float
    splits: Mapping[str, SplitReport]
    bytes_written: int
    seconds: float
    already_there: bool

    def __str__(self) -> str:
        height, width = self.frame_shape
        lines = [
            f"{self.out}: {'already there, ' if self.already_there else ''}"
            f"{self.bytes_written / 1e6:,.1f} MB, {height} × {width} pixels, "
            f"every {self.step_minutes:g} minutes ({self.seconds:.1f} s)"
        ]
        for name, split in self.splits.items():
            parts = [f"{split.frames:,} frames", f"{split.frames_missing:,} missing"]
            if split.frames_unreadable:
                parts.append(f"{split.frames_unreadable:,} unreadable among them")
            if split.days:
                parts.append(f"{len(split.days_without_frames)} of {split.days} days without any")
            if split.masks_by_noise_rule:
                parts.append(f"{split.masks_by_noise_rule:,} masks by the noise rule")
            if split.tiles:
                parts.append(
                    f"{split.tiles} tiles ({split.tiles_without_coverage} more too little "
                    f"observed, {split.tiles_without_rain} too dry)"
                )
            lines.append(f"  {name}: {', '.join(parts)}")
        return "\n".join(lines)


def report_of(store: FrameStore, started: float, already_there: bool) -> PreparationReport:
    """The report that a store keeps of its own preparation.

    Args:
        store: the store.
        started: `time.monotonic()` when the preparation began.
        already_there: whether it found the store complete.
    """
    splits = {
        name: SplitReport(**{**split, "days_without_frames": tuple(split["days_without_frames"])})
        for name, split in store.preparation["splits"].items()
    }
    return PreparationReport(
        out=store.path,
        frame_shape=store.shape,
        step_minutes=store.step_minutes,
        splits=splits,
        bytes_written=store.path.stat().st_size,
        seconds=time.monotonic() - started,
        already_there=already_there,
    )


def description(splits: Mapping[str, SplitReport], **settings: Any) -> dict[str, Any]:
    """How a store is made, as it is kept in it.

    Args:
        splits: what became of each split.
        settings: source and settings, plain values.
    """
    return {**settings, "splits": {name: asdict(split) for name, split in splits.items()}}
