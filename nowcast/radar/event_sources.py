"""One door to all sources of radar events, which are recognised by what they hold."""

import os
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.composite_series import composites_in, open_composites
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
    """Read what an event says of itself, without its frames.

    Args:
        path: a NetCDF-4 file, a Zarr store (a folder, or a zip of one), or a folder of files with
            a frame each: composites as services issue them (`composite_files`), or images.
        step_minutes: the time step wanted; None takes the event's own.
        subsample: whether a step that is a multiple of the event's is accepted; then frames are
            taken at that step from the first one on.
        variable: as in `event_fields.open_field`.
        relation: as there, and for images and composites of reflectivity.
        accumulation_minutes: as there.
        images: how a folder of images is read.

    Raises:
        InputError: the event is damaged, has no field of rain, leaves open what it means, or has
            another time step.
    """
    if "://" in os.fspath(path):
        raise InputError(f"{os.fspath(path)}: found an address, expected a file or folder here")
    path = Path(path)
    if path.is_dir() and not is_zarr(path):
        if images is not None and images.pattern is not None:
            event = open_images(path, images, relation)
        elif files := composites_in(path):
            event = open_composites(path, files, relation)
        else:
            raise InputError(
                f"{path}: found a folder that is no Zarr store and holds no composites, expected "
                "one, or a folder of images with the pattern of their names"
            )
    else:
        event = open_field(path, variable, relation, accumulation_minutes)
    return event if step_minutes is None else at_step(event, step_minutes, subsample)


def read_event(
    path: str | os.PathLike[str], step_minutes: float | None = None, subsample: bool = False
) -> EventFrames:
    """Read an event at its own grid spacing; arguments and errors as in `open_event`."""
    return frames_of(open_event(path, step_minutes, subsample))
