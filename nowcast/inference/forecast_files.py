"""Forecasts as files: CF-1.8 NetCDF-4 and Zarr.

What a file looks like to others: the field `precip_intensity(time, y, x)`, so called for pysteps'
`import_netcdf_pysteps`, in mm/h at valid times that count the seconds from the last frame on; the
lead times beside them, and the time of the last frame as `forecast_reference_time`. The grid
mapping is called what it is (`polar_stereographic`), which pysteps looks for too, and has its WKT,
which GIS programs read.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import nowcast
from nowcast.errors import InputError
from nowcast.files import check_place, one_line_failures, replacing, replacing_folder

log = logging.getLogger("nowcast")

FIELD = "precip_intensity"
CALENDAR = {"calendar": "standard"}
ONE_PER_CHUNK = ("threshold", "time")
COMPRESSION: Mapping[str, Any] = {"zlib": True, "complevel": 4, "shuffle": True}


def write_forecast(
    forecast: xr.Dataset, path: str | os.PathLike[str], *, title: str = "Precipitation nowcast"
) -> None:
    """Write a forecast as a NetCDF-4 file or, where the name ends in `.zarr`, as a Zarr store.

    The file or store is whole or not there; one that stands there before is replaced.

    Args:
        forecast: from `forecast`.
        path: a name that ends in .nc, .nc4, .netcdf or .zarr.
        title: what it says it is.

    Raises:
        InputError: the name has another ending, something else stands there, or zarr is asked for
            and not installed.
        OSError: the system refuses it; nothing is left half-written.
    """
    target = Path(path)
    check_forecast_place(target)
    dataset = as_cf(forecast, title)
    as_zarr = target.suffix == ".zarr"
    for field in dataset.data_vars.values():
        sizes = tuple(1 if dim in ONE_PER_CHUNK else size for dim, size in field.sizes.items())
        field.encoding |= {"chunks": sizes} if as_zarr else {"chunksizes": sizes, **COMPRESSION}
    if as_zarr:
        with replacing_folder(target) as temporary:
            dataset.to_zarr(temporary, mode="w-", consolidated=False)
        return
    with one_line_failures(target), replacing(target) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf", format="NETCDF4")


def check_forecast_place(path: Path) -> None:
    """Refuse a place where no forecast can be written, before one is made.

    Raises:
        InputError: as of `write_forecast`.
    """
    if path.suffix not in (".nc", ".nc4", ".netcdf", ".zarr"):
        raise InputError(
            f"{path}: found {path.suffix or 'nothing'} at its end, expected .nc for NetCDF or "
            ".zarr for Zarr"
        )
    if path.suffix != ".zarr":
        check_place(path)
        return
    try:
        import zarr  # noqa: F401
    except ImportError:
        raise InputError(f"{path}: zarr is not installed: pip install 'nowcast[zarr]'") from None
    check_place(path, folder=True)
    if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").is_file():
        raise InputError(f"{path}: found a folder that is no Zarr store, which is not replaced")


def as_cf(forecast: xr.Dataset, title: str) -> xr.Dataset:
    """The forecast as it stands in a file, by the CF conventions 1.8.

    Args:
        forecast: from `forecast`.
        title: what it says it is.
    """
    reference = forecast["forecast_reference_time"].to_numpy().astype("datetime64[s]")
    since = str(reference).replace("T", " ")
    lead = (forecast["lead_time"].to_numpy() / np.timedelta64(1, "s")).astype(np.int32)
    dataset = forecast.rename({"rain_rate": FIELD}).swap_dims(lead_time="time")
    mapping = forecast["rain_rate"].encoding.get("grid_mapping")
    epoch = "seconds since 1970-01-01 00:00:00"
    times: tuple[tuple[str, tuple[str, ...], Any, dict[str, str]], ...] = (
        ("lead_time", ("time",), lead, {"units": "seconds"}),
        ("time", ("time",), lead, {"units": f"seconds since {since}", **CALENDAR, "axis": "T"}),
        ("forecast_reference_time", (), reference.astype(float), {"units": epoch, **CALENDAR}),
    )
    dataset = dataset.assign_coords(
        {
            name: xr.Variable(dims, values, {**dataset[name].attrs, **attributes})
            for name, dims, values, attributes in times
        }
    )
    for letter, dim in zip("YX", forecast["rain_rate"].dims[1:], strict=True):
        if dim in dataset.coords:
            axis = dataset[dim].variable.to_base_variable()
            dataset = dataset.assign_coords(
                {dim: xr.Variable(dim, axis.values, {**axis.attrs, "axis": letter})}
            )
    if mapping is not None:
        attributes = _grid_mapping(forecast[mapping].attrs)
        called = str(attributes.get("grid_mapping_name", mapping))
        dataset = dataset.drop_vars(mapping)
        dataset = dataset.assign_coords({called: xr.Variable((), np.int32(0), attributes)})
    for field in dataset.data_vars.values():
        # As it was read it is of no matter to how it is written.
        field.encoding = {"dtype": "float32", "_FillValue": np.float32(np.nan)}
        if mapping is not None:
            field.encoding["grid_mapping"] = called
    for variable in dataset.coords.values():
        variable.encoding = {"_FillValue": None}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    dataset.attrs = {
        "Conventions": "CF-1.8",
        "title": title,
        **forecast.attrs,
        "history": f"{now} nowcast {nowcast.__version__}: forecast from {since} UTC",
    }
    return dataset


def _grid_mapping(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """With what CF asks of a polar stereographic projection and not all writers tell."""
    found = dict(attributes)
    if found.get("grid_mapping_name") == "polar_stereographic":
        north = float(np.ravel(found.get("standard_parallel", 90.0))[0]) >= 0
        found.setdefault("latitude_of_projection_origin", 90.0 if north else -90.0)
    return found
