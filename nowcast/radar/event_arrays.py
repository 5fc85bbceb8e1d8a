"""Frames of files as an xarray DataArray, georeferenced, as forecasts are made from."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from nowcast.errors import InputError
from nowcast.radar.event_files import is_zarr
from nowcast.radar.event_sources import files_of_frames, open_source
from nowcast.radar.image_frames import ImageSeries
from nowcast.radar.latest_frames import Frame, FrameFiles, latest_frames
from nowcast.radar.units import ZRRelation

log = logging.getLogger("nowcast")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def read_frames(
    path: Paths,
    last: int | None = None,
    *,
    minutes: float | None = None,
    variable: str | None = None,
    relation: ZRRelation | None = None,
    accumulation_minutes: float | None = None,
    images: ImageSeries | None = None,
    skip_unusable: bool = False,
) -> xr.DataArray:
    """Read rain rates from files of radar.

    Frames come in any order, at any times. Of several files for one time the one that was written
    last counts. All frames have the grid of most of them.

    Args:
        path: one or several of these, with a frame each or many: composites as services issue them
            (ODIM HDF5, KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2), NetCDF-4 files, Zarr stores; or
            folders of such files, at any depth, in which others are passed over; or a folder of
            images.
        last: read only so many frames, the latest; None reads all.
        minutes: read only frames that are no more than this older than the latest.
        variable: name of the field in a file or store; None finds it by name or CF standard name.
        relation: Z–R relation of reflectivity whose files do not tell it.
        accumulation_minutes: over how long amounts of rain have fallen whose file does not tell it.
        images: how a folder of images is read.
        skip_unusable: pass over files that are damaged or of another grid, and say so in the log,
            instead of refusing them.

    Returns:
        Rain rate (time, y, x) in mm/h, float32, oldest first, row 0 north, NaN = not observed; with
        times, coordinates and the grid mapping that the files tell. `institution` and `license`,
        where they tell those, are attributes.

    Raises:
        InputError: files are damaged, of different grids, hold no rain or reflectivity, or leave
            open what they mean, or there are fewer frames than asked for.
    """
    if last is not None and last < 1:
        raise InputError(f"frames: found last={last}, expected at least 1")
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    open_field = partial(
        open_source,
        variable=variable,
        relation=relation,
        accumulation_minutes=accumulation_minutes,
        images=images,
    )
    unusable = pass_over if skip_unusable else refuse
    files = FrameFiles(open_field, relation)
    found = latest_frames(
        files.among(frame_paths(paths, images), unusable), last, minutes, unusable
    )
    if last is not None and last > len(found):
        where = paths[0] if len(paths) == 1 else "frames"
        raise InputError(f"{where}: found {len(found)} frames, expected at least {last}")
    return as_array(found)


def as_array(frames: Mapping[int, Frame]) -> xr.DataArray:
    """Frames of one grid, by their seconds since 1970-01-01 UTC, as `read_frames` returns them.

    Raises:
        InputError: there are none.
    """
    if not frames:
        raise InputError("frames: found no file with frames, expected at least 1")
    newest = list(frames.values())[-1]
    axes = [name for name, variable in newest.coordinates.items() if variable.ndim] or ["y", "x"]
    found = xr.DataArray(
        np.stack([frame.rain_rate_mm_h for frame in frames.values()]),
        dims=("time", *axes),
        coords={
            "time": np.array(list(frames), "datetime64[s]").astype("datetime64[ns]"),
            **newest.coordinates,
        },
        name="rain_rate",
        attrs={
            "standard_name": "rainfall_rate",
            "units": "mm h-1",
            **{name: newest.metadata[name] for name in _KEPT if newest.metadata.get(name)},
        },
    )
    mappings = [name for name, variable in newest.coordinates.items() if not variable.ndim]
    if mappings:
        found.encoding["grid_mapping"] = mappings[0]
    return found


_KEPT = ("institution", "license")


def frame_paths(
    paths: Iterable[str | os.PathLike[str]], images: ImageSeries | None
) -> Iterator[Path]:
    """The paths, and in place of a folder of files the files.

    Args:
        paths: as of `read_frames`.
        images: how a folder of images is read.

    Raises:
        InputError: a folder has no files of frames.
    """
    paths = list(paths)
    for address in (os.fspath(path) for path in paths if "://" in os.fspath(path)):
        raise InputError(f"{address}: found an address, expected a file or folder here")
    of_images = images is not None and images.pattern is not None
    for path in map(Path, paths):
        if path.is_dir() and not is_zarr(path) and not of_images:
            yield from files_of_frames(path)
        else:
            yield path


def refuse(error: InputError) -> None:
    """Raise what is wrong with a file."""
    raise error


def pass_over(error: InputError) -> None:
    """Say in the log that a file is passed over, and why."""
    log.warning("passed over %s", error)
