"""One door to all sources of radar events, which are recognised by what they hold."""

import os
from pathlib import Path

import h5py

from nowcast.errors import InputError
from nowcast.radar.composite_files import is_composite
from nowcast.radar.composite_series import composites_in, files_in, open_composites
from nowcast.radar.event_fields import open_field
from nowcast.radar.event_files import is_zarr
from nowcast.radar.events import Event, EventFrames, at_step, frames_of
from nowcast.radar.image_frames import ImageSeries, open_images
from nowcast.radar.units import ZRRelation


def open_event(
    path: str | os.PathLike[str],
    step_minutes: float | None = None,
    subsample: bool = False,
    *,
    variable: str | None = None,
    relation: ZRRelation | None = None,
    accumulation_minutes: float | None = None,
    images: ImageSeries | None = None,
) -> Event:
    """Read what an event of even time steps says of itself, without its frames.

    Args:
        path: as in `open_source`.
        step_minutes: the time step wanted; None takes the event's own.
        subsample: whether a step that is a multiple of the event's is accepted; then frames are
            taken at that step from the first one on.
        variable: as in `open_source`.
        relation: as there.
        accumulation_minutes: as there.
        images: as there.

    Raises:
        InputError: as in `open_source`, and if the event has no time step, or another one.
    """
    event = open_source(
        path,
        variable=variable,
        relation=relation,
        accumulation_minutes=accumulation_minutes,
        images=images,
    )
    return at_step(event, event.step_minutes if step_minutes is None else step_minutes, subsample)


def open_source(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    relation: ZRRelation | None = None,
    accumulation_minutes: float | None = None,
    images: ImageSeries | None = None,
) -> Event:
    """Read what a file or folder of frames at any times says of itself, without its frames.

    Args:
        path: a NetCDF-4 file, a Zarr store (a folder, or a zip of one), or a folder of files with
            a frame each: composites as services issue them (`composite_files`), or images.
        variable: as in `event_fields.open_field`.
        relation: as there, and for images and composites of reflectivity.
        accumulation_minutes: as there.
        images: how a folder of images is read.

    Raises:
        InputError: it is damaged, has no field of rain, or leaves open what it means.
    """
    if "://" in os.fspath(path):
        raise InputError(f"{os.fspath(path)}: found an address, expected a file or folder here")
    path = Path(path)
    if not path.is_dir() or is_zarr(path):
        return open_field(path, variable, relation, accumulation_minutes)
    if images is not None and images.pattern is not None:
        return open_images(path, images, relation)
    if files := composites_in(path):
        return open_composites(path, files, relation)
    raise InputError(
        f"{path}: found a folder that is no Zarr store and holds no composites, expected one, or a "
        "folder of images with the pattern of their names"
    )


def files_of_frames(folder: Path) -> list[Path]:
    """Composites and NetCDF-4 files of a folder, at any depth; others are counted in the log.

    Raises:
        InputError: there are none.
    """
    found = files_in(folder, _holds_frames)
    if not found:
        raise InputError(f"{folder}: found no composites and no NetCDF-4 files, expected some")
    return found


def _holds_frames(path: Path) -> bool:
    # Hidden ones are still being written; a folder may hold what was forecast from it, too.
    if path.name.startswith("."):
        return False
    return is_composite(path) or (h5py.is_hdf5(path) and not _is_forecast(path))


def _is_forecast(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "forecast_reference_time" in file
    except Exception:  # Damaged: reading it says how.
        return False


def read_event(
    path: str | os.PathLike[str], step_minutes: float | None = None, subsample: bool = False
) -> EventFrames:
    """Read an event at its own grid spacing; arguments and errors as in `open_event`."""
    return frames_of(open_event(path, step_minutes, subsample))
