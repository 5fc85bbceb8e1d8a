"""What a check of an archive found, beside what is published of HKO-7.

The check itself is `archive_check`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LINES_SHOWN = 20
"""How many unreadable files, places or days are named in print; the check itself has them all."""


@dataclass(frozen=True)
class Published:
    """What is published of a split; None where nothing is.

    Attributes:
        days: days in its list.
        days_without_frames: those of them without any frame.
        frames: frames of its days.
    """

    days: int
    days_without_frames: int | None = None
    frames: int | None = None


PUBLISHED = {
    "train": Published(days=812, days_without_frames=4, frames=192_168),
    "valid": Published(days=50, days_without_frames=1, frames=11_736),
    "test": Published(days=131),
}
"""HKO-7: days by Shi et al. (NeurIPS 2017); frames, and days without any, by the indexes of frames
(`pd/*.pkl`) and day lists that the authors publish with their code."""


@dataclass(frozen=True)
class SplitCheck:
    """What was found of one split.

    Attributes:
        days: listed days.
        days_without_frames: YYYY-MM-DD of those without any frame.
        frames: frames found, readable or not.
        frames_missing: timestamps of the listed days without a frame.
        frames_unreadable: frames whose PNG cannot be read.
        masks_missing: frames without a mask file; they get theirs by the noise rule.
        masks_unreadable: frames whose mask file cannot be read.
    """

    days: int
    days_without_frames: tuple[str, ...]
    frames: int
    frames_missing: int
    frames_unreadable: int
    masks_missing: int
    masks_unreadable: int

    def verdict(self, published: Published | None) -> str:
        """How the split differs from what is published, in words.

        Args:
            published: what is published of it; None if nothing is.
        """
        parts = [] if published is None else self._differences(published)
        mask_files = self.frames - self.masks_missing
        if self.frames_unreadable:
            parts.append(f"{self.frames_unreadable:,} of {self.frames:,} frames unreadable")
        if self.masks_unreadable:
            parts.append(f"{self.masks_unreadable:,} of {mask_files:,} mask files unreadable")
        if not parts and published is None:
            parts.append("nothing is published to compare with")
        elif not parts:
            parts.append("as published")
            if published and published.frames is None:
                parts[-1] += f" ({self.days:,} days; the number of frames is not published)"
        if self.masks_missing:
            parts.append(f"the noise rule makes {self.masks_missing:,} of {self.frames:,} masks")
        return ", ".join(parts)

    def _differences(self, published: Published) -> list[str]:
        pairs = (
            (self.days, published.days, "listed days"),
            (len(self.days_without_frames), published.days_without_frames, "days without frames"),
            (self.frames, published.frames, "frames"),
        )
        return [
            f"{own:,} instead of {theirs:,} {what}"
            for own, theirs, what in pairs
            if theirs is not None and own != theirs
        ]


@dataclass(frozen=True)
class ArchiveCheck:
    """What was found in an archive. Its `str` is a table for reading.

    Attributes:
        root: the folder that was searched.
        size: pixels along each side of every frame, as expected.
        step_minutes: time between two frames, as expected.
        splits: what was found, by split.
        unreadable: every file that cannot be read, each in one line with the reason.
        places: how many frames lie where, by folder or zip file relative to `root`.
        frames_in_no_list: frames of days that no list names.
        copies: files passed over because the same is found elsewhere.
        static_masks: the mask_dat.npz that was found; None if there is none.
        seconds: how long the check took.
    """

    root: Path
    size: int
    step_minutes: float
    splits: Mapping[str, SplitCheck]
    unreadable: tuple[str, ...]
    places: Mapping[str, int]
    frames_in_no_list: int
    copies: int
    static_masks: str | None
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"{self.root}: {self.size} × {self.size} pixels, every {self.step_minutes:g} minutes "
            f"({self.seconds:.1f} s)",
            "",
            *self._table(),
            "",
        ]
        for name, split in self.splits.items():
            lines.append(f"{name}: {split.verdict(PUBLISHED.get(name))}")
            if split.days_without_frames:
                lines += _first(split.days_without_frames, "  no frame of ", together=True)
        lines += ["", "frames were found in"]
        lines += _first([f"{count:>9,}  {place or '.'}" for place, count in self.places.items()])
        lines.append(f"  {self.frames_in_no_list:>9,}  of them on days in no list")
        lines.append(f"files found again elsewhere and passed over: {self.copies:,}")
        lines.append(
            f"static masks: {self.static_masks or 'none, the noise rule excludes nothing'}"
        )
        if self.unreadable:
            lines += ["", f"unreadable files: {len(self.unreadable):,}", *_first(self.unreadable)]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """One row per count, two columns per split: found and published."""
        rows = [["", *(text for name in self.splits for text in (name, ""))]]
        rows.append(["", *(text for _ in self.splits for text in ("found", "published"))])
        nothing = Published(days=0)
        for title, count, published in (
            ("days listed", "days", "days"),
            ("days without any frame", "days_without_frames", "days_without_frames"),
            ("frames found", "frames", "frames"),
            ("timestamps missing", "frames_missing", None),
            ("frames unreadable", "frames_unreadable", None),
            ("mask files missing", "masks_missing", None),
            ("mask files unreadable", "masks_unreadable", None),
        ):
            row = [title]
            for name, split in self.splits.items():
                own = getattr(split, count)
                theirs = getattr(PUBLISHED.get(name, nothing), published) if published else None
                row.append(f"{own if isinstance(own, int) else len(own):,}")
                row.append(f"{theirs:,}" if theirs is not None and name in PUBLISHED else "–")
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in rows
        ]


def _first(items: Sequence[str], indent: str = "  ", together: bool = False) -> list[str]:
    """The first items, and how many more there are: a line each, or all in one."""
    shown = list(items[:LINES_SHOWN])
    if len(items) > LINES_SHOWN:
        shown.append(f"and {len(items) - LINES_SHOWN:,} more")
    return [indent + ", ".join(shown)] if together else [indent + line for line in shown]
