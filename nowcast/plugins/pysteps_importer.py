"""An importer of pysteps for all files of radar that this package reads.

It is called as pysteps' own are, by `pysteps.io.get_method("radar_composite", "importer")` and
`read_timeseries`. What is read and refused is decided in `nowcast.radar`; here the field gets the
metadata of `pysteps.io.importers`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from nowcast.radar.composites import Composite
    from nowcast.radar.units import ZRRelation

Imported = tuple[NDArray[np.floating[Any]], None, dict[str, Any]]


def import_radar_composite(
    filename: str | os.PathLike[str],
    time: Any = None,
    zr_a: float | None = None,
    zr_b: float | None = None,
    accutime: float | None = None,
    dtype: str = "double",
    fillna: float = np.nan,
) -> Imported:
    """Import a field from any file of radar that the package nowcast reads.

    Composites, a file each: ODIM and KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2, known by what they
    hold. CF NetCDF-4 files and Zarr stores of one frame or, with `time`, of many. Files that would
    be misread are refused.

    Args:
        filename: of the file.
        time: valid time in UTC of the frame to take from a file that holds several: a datetime, a
            numpy.datetime64, or text.
        zr_a: Z–R relation of reflectivity whose file does not tell it.
        zr_b: its exponent.
        accutime: minutes that the field stands for, where the file does not tell it. A file of
            amounts does, as does one of several frames, by its time step.
        dtype: of the field that pysteps hands out: "float32", "float64", "single" or "double".
        fillna: what pysteps puts for missing data.

    Returns:
        The field as it is stored, row 0 north, NaN where there are no data: reflectivity in dBZ,
        rain rate in mm/h or an amount in mm, and rain rate in mm/h from CF files and Zarr stores.
        None: there is no field of quality. And the metadata, in which `accutime` is None where
        nobody says it, `zr_a` and `zr_b` are there where the relation is known, and `timestamp` is
        the valid time, a datetime in UTC.

    Raises:
        InputError: (a ValueError) the file cannot be read, or would be misread.
    """
    from nowcast.radar.composite_files import is_composite, read_composite
    from nowcast.radar.units import ZRRelation

    path = Path(filename)
    if (zr_a is None) != (zr_b is None):
        raise InputError(f"{path}: found zr_a={zr_a!r} and zr_b={zr_b!r}, expected both or none")
    relation = None if zr_a is None or zr_b is None else ZRRelation(zr_a, zr_b)
    if path.is_file() and is_composite(path):
        found = read_composite(path)
        if time is not None and np.datetime64(found.second, "s") != np.datetime64(time, "s"):
            raise InputError(
                f"{path}: found the time {np.datetime64(found.second, 's')}, expected {time}"
            )
        return _of_composite(found, relation, accutime)
    return _of_event(path, time, relation, accutime)


def _of_composite(
    found: "Composite", relation: "ZRRelation | None", accutime: float | None
) -> Imported:
    units = {"reflectivity": "dBZ", "rain rate": "mm/h", "rain amount": "mm"}
    grid, values = found.grid, found.values
    west, north = grid.west - grid.width / 2, grid.north + grid.height / 2
    metadata = {
        "projection": _proj4(grid.projection),
        "x1": west,
        "x2": west + grid.width * grid.shape[1],
        "y1": north - grid.height * grid.shape[0],
        "y2": north,
        "xpixelsize": grid.width,
        "ypixelsize": grid.height,
        "cartesian_unit": grid.units,
        "institution": found.institution,
        "accutime": accutime if found.minutes is None else found.minutes,
        **_meaning(values, units[found.quantity], relation or found.relation, found.second),
    }
    return values, None, metadata


def _of_event(
    path: Path, time: Any, relation: "ZRRelation | None", accutime: float | None
) -> Imported:
    from nowcast.radar.event_sources import open_event
    from nowcast.radar.events import rain_rates

    event = open_event(path, relation=relation, accumulation_minutes=accutime)
    number = _number_of(event.times, time, path)
    values = next(iter(rain_rates(event, number, 1)))
    metadata = {
        **_place(event.coordinates, path),
        "institution": str(event.metadata.get("institution", "")),
        "accutime": event.step_minutes if accutime is None else accutime,
        **_meaning(values, "mm/h", relation, int(event.times[number].astype(np.int64))),
    }
    return values, None, metadata


def _number_of(times: NDArray[np.datetime64], time: Any, path: Path) -> int:
    """Place of a time among those of a file."""
    if time is None:
        if len(times) > 1:
            raise InputError(
                f"{path}: found {len(times)} frames from {times[0]} on, expected the time of one"
            )
        return 0
    places = np.flatnonzero(times == np.datetime64(time, "s"))
    if not places.size:
        raise InputError(f"{path}: found frames from {times[0]} to {times[-1]}, expected {time}")
    return int(places[0])


def _place(coordinates: "Mapping[str, xr.Variable]", path: Path) -> dict[str, Any]:
    """Corners, pixels and projection by CF coordinates y and x and their grid mapping, if any."""
    axes = [variable for variable in coordinates.values() if variable.ndim]
    mappings = [variable for variable in coordinates.values() if not variable.ndim]
    place: dict[str, Any] = {}
    for name, axis in zip("yx", axes, strict=True):
        values = axis.to_numpy().astype(np.float64)
        size = abs(values[-1] - values[0]) / (len(values) - 1)
        place[f"{name}1"], place[f"{name}2"] = values.min() - size / 2, values.max() + size / 2
        place[f"{name}pixelsize"] = size
    degrees = str(axes[1].attrs.get("units", "")).startswith("degree")
    if mappings:
        import pyproj

        place["projection"] = _proj4(pyproj.CRS.from_cf(mappings[0].attrs).to_wkt())
    elif degrees:
        place["projection"] = "+proj=longlat +datum=WGS84 +no_defs"
    else:
        raise InputError(f"{path}: found no projection of its coordinates, expected a grid mapping")
    return {**place, "cartesian_unit": "degrees" if degrees else "m"}


def _proj4(projection: str) -> str:
    """What pysteps takes for a projection: a PROJ string."""
    if projection.lstrip().startswith("+"):
        return projection
    import warnings

    import pyproj

    with warnings.catch_warnings():  # It says what PROJ strings leave out: names and codes.
        warnings.simplefilter("ignore")
        return str(pyproj.CRS.from_user_input(projection).to_proj4())


def _meaning(
    values: NDArray[np.floating[Any]], unit: str, relation: "ZRRelation | None", second: int
) -> dict[str, Any]:
    """Unit, transform, threshold and zero as pysteps' importers find them, relation and time."""
    there = np.unique(values[np.isfinite(values)])
    return {
        "unit": unit,
        "transform": "dB" if unit == "dBZ" else None,
        "yorigin": "upper",
        "zerovalue": float(there[0]) if there.size else np.nan,
        "threshold": float(there[min(1, there.size - 1)]) if there.size else np.nan,
        **({} if relation is None else {"zr_a": relation.a, "zr_b": relation.b}),
        "timestamp": np.datetime64(second, "s").item(),
    }
