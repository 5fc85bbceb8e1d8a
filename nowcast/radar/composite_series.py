"""A folder of composites, one file per frame, as a radar event.

What a file holds is read in `composite_files`.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.composite_files import is_composite, read_composite, second_of
from nowcast.radar.composites import Composite, Grid
from nowcast.radar.event_quantities import Quantity
from nowcast.radar.event_values import rain_rate_of
from nowcast.radar.events import Event
from nowcast.radar.units import ZRRelation

log = logging.getLogger("nowcast")


@dataclass(frozen=True)
class DatedComposite:
    """A frame's file.

    Attributes:
        second: valid time, seconds since 1970-01-01 UTC.
        name: of the file, below the folder.
        size: in bytes.
        modified: when, in ns.
    """

    second: int
    name: str
    size: int
    modified: int


@dataclass(frozen=True)
class CompositeReader:
    """Frames of a folder of composites.

    Attributes:
        folder: where they lie.
        quantity: that every file holds.
        grid: that every file has.
        relation: the Z–R relation of reflectivity; None for rain.
        files: the frames' files, in order of time.
    """

    folder: Path = field(repr=False)
    quantity: Quantity
    grid: Grid
    relation: ZRRelation | None
    files: tuple[DatedComposite, ...]

    def taken(self, numbers: Sequence[int]) -> "CompositeReader":
        """A reader of some of its frames alone, given by their places among them."""
        return replace(self, files=tuple(self.files[number] for number in numbers))

    def chunks(self) -> NDArray[np.int64]:
        """(n,): every frame lies in a file of its own."""
        return np.arange(len(self.files))

    def rain_rates(self, oddities: Counter[str]) -> Iterator[NDArray[np.float64]]:
        """Rain rate (y, x) in mm/h of each frame, row 0 north; NaN = not observed.

        Raises:
            InputError: a file is damaged, or of another grid or quantity than the first.
        """
        for file in self.files:
            composite = read_composite(self.folder / file.name)
            check_alike(composite, self.quantity, self.grid)
            to_mm_h = 60 / composite.minutes if composite.minutes else 1.0
            values = composite.values.astype(np.float64)
            yield rain_rate_of(values, self.relation, to_mm_h, oddities)


def check_alike(composite: Composite, quantity: Quantity, grid: Grid) -> None:
    """Refuse a composite that does not hold the quantity, or on another grid.

    Raises:
        InputError: with its path.
    """
    if composite.quantity != quantity:
        raise InputError(f"{composite.path}: found {composite.quantity}, expected {quantity}")
    found = composite.grid
    if found.shape != grid.shape:
        raise InputError(
            f"{composite.path}: found {found.shape[0]} × {found.shape[1]} pixels, expected "
            f"{grid.shape[0]} × {grid.shape[1]} as in the first file"
        )
    fits = np.allclose(found.x, grid.x, rtol=0, atol=0.1 * grid.width)
    fits &= np.allclose(found.y, grid.y, rtol=0, atol=0.1 * grid.height)
    if not fits or found.projection != grid.projection:
        raise InputError(f"{composite.path}: found another grid than in the first file")


def composites_in(folder: Path) -> list[Path]:
    """The composites among the files of a folder, at any depth; others are counted in the log."""
    return files_in(folder, is_composite)


def files_in(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Files of a folder, at any depth, that are wanted; if there are, others are counted."""
    files = list(_files_in(folder))
    found = [path for path in files if wanted(path)]
    others = sorted({*files} - {*found})
    if found and others:
        log.info(
            "%s: passed over %d files that hold no frames, such as %s",
            *(folder, len(others), others[0].relative_to(folder).as_posix()),
        )
    return found


def open_composites(folder: Path, paths: Iterable[Path], relation: ZRRelation | None) -> Event:
    """Put composites in order, and read the first, whose grid all must have.

    Args:
        folder: that the event is called by; the files lie in it, at any depth.
        paths: of the files, in any order.
        relation: the Z–R relation of reflectivity whose files do not tell it.

    Raises:
        InputError: a file is damaged, two are of one time, there is one alone, or the relation is
            not known.
    """
    found: dict[int, DatedComposite] = {}
    for path in paths:
        second, status = second_of(path), path.stat()
        if second in found:
            raise InputError(
                f"{path}: found the same time as in {found[second].name}, expected one file per "
                "time"
            )
        below = path.relative_to(folder).as_posix()
        found[second] = DatedComposite(second, below, status.st_size, status.st_mtime_ns)
    files = tuple(found[second] for second in sorted(found))
    first = read_composite(folder / files[0].name)
    used = None
    if first.quantity == "reflectivity":
        used = first.relation or relation
        if used is None:
            raise InputError(
                f"{first.path}: found reflectivity without its Z–R relation, expected zr_a and "
                "zr_b beside it"
            )
    seconds = np.array([file.second for file in files], dtype=np.int64)
    return Event(
        path=folder,
        times=seconds.astype("datetime64[s]"),
        shape=first.grid.shape,
        grid_spacing_km=first.grid.spacing_km,
        metadata={
            "file": folder.name,
            "institution": first.institution,
            "projection": first.grid.projection,
            **({"zr_a": used.a, "zr_b": used.b} if used else {}),
            **({"accumulation_minutes": first.minutes} if first.minutes else {}),
        },
        reader=CompositeReader(folder, first.quantity, first.grid, used, files),
        coordinates=first.grid.coordinates(),
    )


def _files_in(folder: Path) -> Iterator[Path]:
    """Regular files at any depth, in order of their names; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (
            path
            for path in (Path(parent, name) for name in sorted(names))
            if path.is_file() and not path.is_symlink()
        )
