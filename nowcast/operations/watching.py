"""A nowcast whenever a frame arrives in a folder, for as long as it is let."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import xarray as xr

from nowcast.errors import InputError
from nowcast.operations.latest import LatestFrames
from nowcast.radar.latest_frames import Stamp, stamp_of

log = logging.getLogger("nowcast")

MOST_AHEAD_SECONDS = 600.0
"""What a radar's clock may be ahead; frames of later times are passed over until then."""


def new_files(folder: Path, every_seconds: float) -> Iterator[list[Path]]:
    """The files of a folder, at any depth, each time that some have come, changed or gone.

    The folder is looked at again and again, which works on any file system. A file counts once it
    has not changed from one look to the next, or for as long: before, it is being written. Hidden
    files do not count.

    Args:
        folder: may come later, and go.
        every_seconds: from one look to the next.
    """
    before: dict[Path, Stamp] = {}
    told: dict[Path, Stamp] | None = None
    while True:
        now = {path: stamp_of(path) for path in _files_in(folder)}
        old = (time.time() - every_seconds) * 1e9
        settled: dict[Path, Stamp] = {
            path: stamp
            for path, stamp in now.items()
            if stamp is not None and (before.get(path) == stamp or stamp[1] < old)
        }
        before = now
        if settled != told:
            told = settled
            yield list(settled)
        time.sleep(every_seconds)


def _files_in(folder: Path) -> list[Path]:
    try:
        return [
            path
            for path in sorted(folder.rglob("*"))
            if not path.name.startswith(".") and path.is_file() and not path.is_symlink()
        ]
    except OSError:  # A folder that is removed while it is looked through: next time.
        return []


def watch(
    folder: Path,
    latest: LatestFrames,
    nowcasting: Callable[[xr.DataArray], object],
    every_seconds: float = 10.0,
) -> None:
    """Make a nowcast from the frames that a folder has, and again whenever they are others.

    Nothing that is wrong with a file, with the frames or with writing ends it: it is said in the
    log, and the next file is waited for. What was made before stays.

    Args:
        folder: where a service's files arrive: composites, or NetCDF-4 files.
        latest: reads frames.
        nowcasting: makes a nowcast from them.
        every_seconds: from one look into the folder to the next.

    Raises:
        InputError: the folder is none, or the settings make no sense.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: found no folder, expected one to watch")
    if every_seconds <= 0:
        raise InputError(f"every_seconds: found {every_seconds:g}, expected more than 0")
    log.info("watching %s", folder)
    for paths in new_files(folder, every_seconds):
        try:
            soon = time.time() + MOST_AHEAD_SECONDS
            frames = latest.read_if_new(paths, soon) if paths else None
            if frames is not None:
                nowcasting(frames)
        except InputError as error:
            log.warning("no nowcast: %s", error)
        # A full disk, a library's own error: the next frame comes all the same.
        except Exception as error:
            log.error("no nowcast: %s: %s", type(error).__name__, " ".join(str(error).split()))
