"""Frames of files as an xarray DataArray, georeferenced, as forecasts are made from."""

import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from nowcast.errors import InputError
from nowcast.radar.event_files import is_zarr
from nowcast.radar.event_sources import files_of_frames, open_source
from nowcast.radar.image_frames import ImageSeries
from nowcast.radar.latest_frames import FrameFile, frame_file, latest_frames
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
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    open_field = partial(
        open_source,
        variable=variable,
        relation=relation,
        accumulation_minutes=accumulation_minutes,
        images=images,
    )
    unusable = _pass_over if skip_unusable else _refuse
    files: list[FrameFile] = []
    for one in paths:
        folder_of_files = Path(one).is_dir() and not is_zarr(Path(one)) and images is None
        for file in files_of_frames(Path(one)) if folder_of_files else [Path(one)]:
            try:
                files.append(frame_file(file, open_field, relation))
            except InputError as error:
                unusable(error)
    where = paths[0] if len(paths) == 1 else "frames"
    if not files:
        raise InputError(f"{where}: found no files of frames, expected at least 1")
    found = latest_frames(files, last, minutes, unusable)
    wanted = 1 if last is None else last
    if not 1 <= wanted <= len(found):
        raise InputError(f"{where}: found {len(found)} frames, expected at least {wanted}")
    newest = list(found.values())[-1]
    axes = [name for name, variable in newest.coordinates.items() if variable.ndim] or ["y", "x"]
    frames = xr.DataArray(
        np.stack([frame.rain_rate_mm_h for frame in found.values()]),
        dims=("time", *axes),
        coords={
            "time": np.array(list(found), "datetime64[s]").astype("datetime64[ns]"),
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
        frames.encoding["grid_mapping"] = mappings[0]
    return frames


_KEPT = ("institution", "license")


def _refuse(error: InputError) -> None:
    raise error


def _pass_over(error: InputError) -> None:
    log.warning("passed over %s", error)
