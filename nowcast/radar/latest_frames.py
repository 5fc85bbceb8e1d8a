"""The latest of frames that lie in files of any kind, each with one time or many.

Made for forecasting, where files of a service come late, twice, or broken: of several files for one
time the one written last counts, gaps are left, and what cannot be used is refused or passed over.
Composites are read in `composite_series`, NetCDF and Zarr in `event_fields`.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.composite_files import is_composite, second_of
from nowcast.radar.composite_series import open_composites
from nowcast.radar.events import Event
from nowcast.radar.units import ZRRelation

log = logging.getLogger("nowcast")


@dataclass(frozen=True, eq=False)
class FrameFile:
    """A file of frames, of which nothing but their times need be known.

    Attributes:
        path: of the file.
        seconds: valid times of its frames, seconds since 1970-01-01 UTC.
        modified: when it was last written, in ns; what decides between two frames of one time.
        open: reads what the file says of itself.
    """

    path: Path
    seconds: tuple[int, ...]
    modified: int
    open: Callable[[], Event]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame as it was read.

    Attributes:
        file: in which it lies.
        rain_rate_mm_h: float32 (y, x), row 0 north; NaN = not observed.
        coordinates: of its axes, and its grid mapping, as in `Event`.
        metadata: what its file says of itself.
    """

    file: FrameFile
    rain_rate_mm_h: NDArray[np.float32]
    coordinates: Mapping[str, xr.Variable]
    metadata: Mapping[str, Any]

    def why_elsewhere(self, other: "Frame") -> str | None:
        """In what way its grid is not that of another frame; None where it is."""
        found, expected = self.rain_rate_mm_h.shape, other.rain_rate_mm_h.shape
        if found != expected:
            return (
                f"found {found[0]} × {found[1]} pixels, expected {expected[0]} × {expected[1]} "
                f"as in {other.file.path.name}"
            )
        if self.coordinates.keys() != other.coordinates.keys() or not all(
            _alike(variable, other.coordinates[name]) for name, variable in self.coordinates.items()
        ):
            return f"found another grid than in {other.file.path.name}"
        return None


def _alike(one: xr.Variable, other: xr.Variable) -> bool:
    """Whether two coordinates say the same: axes to a tenth of a pixel, grid mappings exactly."""
    if one.ndim == 0:
        return one.attrs.keys() == other.attrs.keys() and all(
            np.array_equal(value, other.attrs[name]) for name, value in one.attrs.items()
        )
    values = np.asarray(one.values, np.float64)
    pixel = abs(values[1] - values[0]) if len(values) > 1 else 1.0
    return np.allclose(values, other.values, rtol=0, atol=0.1 * pixel)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the libraries raise, as an error that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read ({reason})") from error


class FrameFiles:
    """Files of frames that are looked into once, until they change.

    Args:
        open_field: reads what a file says of itself that is no composite.
        relation: the Z–R relation of reflectivity whose file does not tell it.
    """

    def __init__(self, open_field: Callable[[Path], Event], relation: ZRRelation | None) -> None:
        self.open_field, self.relation = open_field, relation
        self._known: dict[Path, tuple[Stamp, FrameFile | None]] = {}

    def among(
        self, paths: Iterable[Path], unusable: Callable[[InputError], None]
    ) -> list[FrameFile]:
        """Those of the files that have frames.

        Args:
            paths: composites, or whatever `open_field` reads.
            unusable: told once of a file that is damaged or holds no frames; returns to pass over
                it.
        """
        known: dict[Path, tuple[Stamp, FrameFile | None]] = {}
        for path in paths:
            stamp = stamp_of(path)
            if path in self._known and self._known[path][0] == stamp:
                known[path] = self._known[path]
                continue
            try:
                with _named(path):
                    known[path] = stamp, self._look_into(path)
            except InputError as error:
                unusable(error)
                known[path] = stamp, None
        self._known = known
        return [file for _, file in known.values() if file is not None]

    def _look_into(self, path: Path) -> FrameFile:
        stamp = stamp_of(path)
        modified = 0 if stamp is None else stamp[1]
        if path.is_file() and is_composite(path):
            seconds: tuple[int, ...] = (second_of(path),)
            return FrameFile(path, seconds, modified, lambda: self._open_composite(path))
        event = self.open_field(path)
        seconds = tuple(event.times.astype("datetime64[s]").astype(np.int64).tolist())
        return FrameFile(path, seconds, modified, lambda: event)

    def _open_composite(self, path: Path) -> Event:
        return open_composites(path.parent, [path], self.relation)


Stamp = tuple[int, int] | None
"""Size of a file and when it was last written, in ns; None where there is none."""


def stamp_of(path: Path) -> Stamp:
    """What tells whether a file has changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def latest_frames(
    files: Sequence[FrameFile],
    last: int | None,
    minutes: float | None,
    unusable: Callable[[InputError], None],
) -> dict[int, Frame]:
    """The latest frames, by their seconds, oldest first, all of one grid.

    The grid is that of most of the frames; where two are as frequent, that of the latest.

    Args:
        files: in which frames lie.
        last: so many at most; None for all.
        minutes: none that is so much older than the latest; None for all. A single frame that is
            so much later than all others counts as astray.
        unusable: told of a file that is damaged, of another grid or astray; returns to pass over
            it.
    """
    left = list(files)
    read: _Read = {}
    while chosen := _chosen(left, last, minutes):
        problem = _astray(left, minutes) or _problem(chosen, read)
        if problem is None:
            _log_doubled(left, chosen)
            return {second: read[file, second] for second, file in chosen.items()}
        file, error = problem
        unusable(error)
        left.remove(file)
    return {}


_Read = dict[tuple[FrameFile, int], Frame]
"""What has been read, by file and second."""


def _chosen(
    files: Sequence[FrameFile], last: int | None, minutes: float | None
) -> dict[int, FrameFile]:
    """The file of each frame, by its second, oldest first."""
    by_second: dict[int, FrameFile] = {}
    for file in sorted(files, key=lambda file: (file.modified, str(file.path))):
        by_second |= dict.fromkeys(file.seconds, file)
    seconds = sorted(by_second)
    if minutes is not None:
        seconds = [second for second in seconds if second >= seconds[-1] - 60 * minutes]
    return {second: by_second[second] for second in seconds[-last if last else 0 :]}


def _astray(
    files: Sequence[FrameFile], minutes: float | None
) -> tuple[FrameFile, InputError] | None:
    """A file whose single frame is long after all others: another day's, or of a wrong clock."""
    by_second = _chosen(files, None, None)
    seconds = list(by_second)
    if minutes is None or len(seconds) < 3 or seconds[-1] - seconds[-2] <= 60 * minutes:
        return None
    file = by_second[seconds[-1]]
    found, before = (str(np.datetime64(second, "s")) for second in (seconds[-1], seconds[-2]))
    return file, InputError(
        f"{file.path}: found a frame of {found}, long after all others, the last of {before}"
    )


def _log_doubled(files: Sequence[FrameFile], chosen: Mapping[int, FrameFile]) -> None:
    doubled = [
        (other.path.name, chosen[second].path.name)
        for other in files
        for second in chosen.keys() & set(other.seconds)
        if chosen[second] is not other
    ]
    if doubled:
        log.info(
            "%d frames are there twice; the file written last counts: not %s, but %s",
            *(len(doubled), *doubled[0]),
        )


def _problem(chosen: Mapping[int, FrameFile], read: _Read) -> tuple[FrameFile, InputError] | None:
    """The first file that cannot be used, and why; what could be read is added to `read`."""
    by_file = defaultdict(list)
    for second, file in chosen.items():
        by_file[file].append(second)
    for file, seconds in by_file.items():
        missing = [second for second in seconds if (file, second) not in read]
        try:
            with _named(file.path):
                read |= {(file, second): frame for second, frame in _frames(file, missing)}
        except InputError as error:
            return file, error
    grids: list[list[int]] = []
    for second in sorted(chosen, reverse=True):
        frame = read[chosen[second], second]
        for grid in grids:
            if frame.why_elsewhere(read[chosen[grid[0]], grid[0]]) is None:
                grid.append(second)
                break
        else:
            grids.append([second])
    usual = max(grids, key=len)
    for second in (one for grid in grids if grid is not usual for one in grid):
        file = chosen[second]
        why = read[file, second].why_elsewhere(read[chosen[usual[0]], usual[0]])
        return file, InputError(f"{file.path}: {why}")
    return None


def _frames(file: FrameFile, seconds: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    """Frames of a file, by their seconds, ascending."""
    if not seconds:
        return
    event = file.open()
    numbers = np.searchsorted(event.times.astype("datetime64[s]").astype(np.int64), seconds)
    rates = event.reader.taken(numbers.tolist()).rain_rates(Counter())
    for second, rate in zip(seconds, rates, strict=True):
        yield second, Frame(file, rate.astype(np.float32), event.coordinates, event.metadata)
