"""An event's frames as an xarray DataArray, georeferenced, as forecasts are made from."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from nowcast.errors import InputError
from nowcast.radar.composite_series import open_composites
from nowcast.radar.event_sources import open_event
from nowcast.radar.events import rain_rates
from nowcast.radar.image_frames import ImageSeries
from nowcast.radar.units import ZRRelation


def read_frames(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    last: int | None = None,
    *,
    variable: str | None = None,
    relation: ZRRelation | None = None,
    accumulation_minutes: float | None = None,
    images: ImageSeries | None = None,
) -> xr.DataArray:
    """Read rain rates from files of radar.

    Args:
        path: a NetCDF-4 file, a Zarr store, or a folder of images or of composites as services
            issue them, a file per frame: ODIM HDF5, KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2; or
            such composites themselves, in any order.
        last: read only so many frames, the latest; None reads all.
        variable: name of the field in a file or store; None finds it by name or CF standard name.
        relation: Z–R relation of reflectivity whose files do not tell it.
        accumulation_minutes: over how long amounts of rain have fallen whose file does not tell it.
        images: how a folder of images is read.

    Returns:
        Rain rate (time, y, x) in mm/h, float32, oldest first, row 0 north, NaN = not observed; with
        times, coordinates and the grid mapping that its files tell.

    Raises:
        InputError: files are damaged, hold no rain or reflectivity, or leave open what they mean,
            or there are fewer frames than asked for.
    """
    if isinstance(path, str | os.PathLike):
        event = open_event(
            path,
            variable=variable,
            relation=relation,
            accumulation_minutes=accumulation_minutes,
            images=images,
        )
    else:
        files = [Path(os.path.abspath(one)) for one in path]
        if not files:
            raise InputError("frames: found no files, expected at least 1")
        folder = Path(os.path.commonpath([file.parent for file in files]))
        event = open_composites(folder, files, relation)
    there = len(event.times)
    wanted = there if last is None else last
    if not 1 <= wanted <= there:
        raise InputError(f"{event.path}: found {there} frames, expected at least {wanted}")
    values = [rate.astype(np.float32) for rate in rain_rates(event, there - wanted, wanted)]
    axes = [name for name, variable in event.coordinates.items() if variable.ndim] or ["y", "x"]
    frames = xr.DataArray(
        np.stack(values),
        dims=("time", *axes),
        coords={"time": event.times[-wanted:].astype("datetime64[ns]"), **event.coordinates},
        name="rain_rate",
        attrs={"standard_name": "rainfall_rate", "units": "mm h-1"},
    )
    mappings = [name for name, variable in event.coordinates.items() if not variable.ndim]
    if mappings:
        frames.encoding["grid_mapping"] = mappings[0]
    return frames
