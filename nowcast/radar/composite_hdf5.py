"""Composites in HDF5: ODIM (OPERA and national services) and KNMI, through pysteps' importers."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nowcast.errors import InputError
from nowcast.radar.composite_parts import (
    CompositeFormat,
    check_shape,
    grid_of_corners,
    needed,
    seconds_of_text,
)
from nowcast.radar.composites import Composite
from nowcast.radar.event_quantities import Quantity
from nowcast.radar.events import MOST_PIXELS
from nowcast.radar.units import ZRRelation

MOST_MEMBERS = 10_000
"""Groups and arrays of a file."""


def hdf5_format(path: Path) -> CompositeFormat | None:
    """ODIM or KNMI by what a file holds; None for other HDF5, NetCDF-4 among it."""
    try:
        with h5py.File(path, "r") as file:
            if "ODIM" in _text(file.attrs.get("Conventions", "")) or "what" in file:
                return CompositeFormat("ODIM HDF5", _odim_second, _read_odim)
            if "overview" in file and "image1" in file:
                return CompositeFormat("KNMI HDF5", _knmi_second, _read_knmi)
            return None
    except Exception:  # Damaged, which h5py says in many ways: reading it says how.
        return CompositeFormat("HDF5", _odim_second, _read_odim)


def _text(value: Any) -> str:
    value = np.asarray(value).ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def _accumulation_minutes(first: int, last: int) -> float:
    """Between start and end of an amount of rain, in seconds."""
    if last <= first:
        raise InputError("found an amount of rain over no time, expected start and end")
    return (last - first) / 60


def _check_hdf5(file: h5py.File) -> None:
    """Refuse what would make the file read others, and absurd sizes."""
    groups, members = [file], 0
    while groups:
        group = groups.pop()
        for name in group:
            members += 1
            if members > MOST_MEMBERS:
                raise InputError(f"found more than {MOST_MEMBERS:,} groups and arrays")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"found {name} as a link, expected it in the file itself")
            member = group[name]
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif member.external or member.is_virtual:
                raise InputError(f"found {name} in another file, expected it in the file itself")
            elif member.size is not None and member.size > MOST_PIXELS:
                raise InputError(
                    f"found {name} of {member.size:,} values, expected at most {MOST_PIXELS:,}"
                )


_ODIM_QUANTITIES: dict[str, Quantity] = {
    "RATE": "rain rate", "ACRR": "rain amount", "DBZH": "reflectivity",
}  # fmt: skip
"""ODIM's names; a file that has several is read in this order (ODIM_H5 2.4, table 16)."""


def _odim_field(file: h5py.File) -> tuple[str, h5py.Group, h5py.Group]:
    """The quantity that is read, its dataset and its data group."""
    _check_hdf5(file)
    found: dict[str, list[tuple[h5py.Group, h5py.Group]]] = {}
    for number in sorted(name for name in file if name.startswith("dataset")):
        dataset = file[number]
        for name in sorted(name for name in dataset if re.fullmatch(r"data\d*", name)):
            said = [g["what"].attrs for g in (dataset[name], dataset) if "what" in g]
            quantity = next((_text(what["quantity"]) for what in said if "quantity" in what), "")
            found.setdefault(quantity, []).append((dataset, dataset[name]))
    for quantity in _ODIM_QUANTITIES:
        if quantity in found:
            if len(found[quantity]) > 1:
                raise InputError(f"found {quantity} {len(found[quantity])} times, expected once")
            return quantity, *found[quantity][0]
    there = ", ".join(sorted(found)) or "nothing"
    raise InputError(f"found {there}, expected one of {', '.join(_ODIM_QUANTITIES)}")


def _odim_times(file: h5py.File) -> tuple[int, int]:
    """Seconds of start and end of what the field stands for."""
    _, dataset, _ = _odim_field(file)
    said = dataset["what"].attrs if "what" in dataset else {}
    if {"startdate", "starttime", "enddate", "endtime"} <= said.keys():
        pairs = [(said[f"{end}date"], said[f"{end}time"]) for end in ("start", "end")]
    else:
        pairs = [(file["what"].attrs["date"], file["what"].attrs["time"])] * 2
    first, last = (
        seconds_of_text(_text(date) + _text(time), "%Y%m%d%H%M%S") for date, time in pairs
    )
    return first, last


def _odim_second(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return _odim_times(file)[1]


def _read_odim(path: Path) -> Composite:
    importers = needed("pysteps.io.importers")
    with h5py.File(path, "r") as file:
        quantity, _, data = _odim_field(file)
        product = _text(file["what"].attrs.get("object", "")) if "what" in file else ""
        if product not in ("COMP", "IMAGE"):
            raise InputError(f"found the object {product!r}, expected COMP, a composite")
        check_shape(data["data"].shape)
        first, last = _odim_times(file)
        how = data["how"].attrs if "how" in data else {}
        own = ZRRelation(float(how["zr_a"]), float(how["zr_b"])) if "zr_a" in how else None
        source = _text(file["what"].attrs.get("source", ""))
    values, _, metadata = importers.import_odim_hdf5(str(path), qty=quantity)
    minutes = _accumulation_minutes(first, last) if quantity == "ACRR" else None
    return Composite(
        path, last, np.asarray(values), _ODIM_QUANTITIES[quantity], minutes, own,
        grid_of_corners(metadata, values.shape), source,
    )  # fmt: skip


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_KNMI: dict[str, tuple[str, Quantity, tuple[float, float], int]] = {
    "ACCUMULATED_PRECIPITATION_[MM]": ("ACRR", "rain amount", (0.01, 0.0), 65535),
    "REFLECTIVITY_[DBZ]": ("DBZH", "reflectivity", (0.5, -32.0), 255),
}
"""By what is in the image: pysteps' name, the quantity, and scale, offset and missing value that
pysteps takes for granted."""


def _knmi_times(file: h5py.File) -> tuple[int, int]:
    _check_hdf5(file)
    ends = []
    for name in ("product_datetime_start", "product_datetime_end"):
        said = _text(file["overview"].attrs[name])
        match = re.fullmatch(r"(\d\d)-([A-Z]{3})-(\d{4});(\d\d:\d\d:\d\d)(\.\d+)?", said)
        if match is None or match[2] not in _MONTHS:
            raise InputError(f"found {name} {said!r}, expected as 26-AUG-2010;03:50:00.000")
        month = _MONTHS.index(match[2]) + 1
        ends.append(
            seconds_of_text(f"{match[3]}-{month:02}-{match[1]} {match[4]}", "%Y-%m-%d %H:%M:%S")
        )
    return ends[0], ends[1]


def _knmi_second(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return _knmi_times(file)[1]


def _read_knmi(path: Path) -> Composite:
    importers = needed("pysteps.io.importers")
    with h5py.File(path, "r") as file:
        first, last = _knmi_times(file)
        image = file["image1"]
        check_shape(image["image_data"].shape)
        held = _text(image.attrs["image_geo_parameter"])
        if held not in _KNMI:
            raise InputError(f"found {held}, expected one of {', '.join(_KNMI)}")
        name, quantity, calibration, missing = _KNMI[held]
        said = image["calibration"].attrs
        formula = _text(said["calibration_formulas"])
        match = re.fullmatch(r"GEO=([-+0-9.eE]+)\*PV\+([-+0-9.eE]+)", formula)
        if match is None or (float(match[1]), float(match[2])) != calibration:
            raise InputError(
                f"found the calibration {formula}, expected GEO={calibration[0]}*PV+"
                f"{calibration[1]}"
            )
        if int(np.ravel(said["calibration_missing_data"])[0]) != missing:
            raise InputError(
                f"found missing data as {np.ravel(said['calibration_missing_data'])[0]}, expected "
                f"{missing}"
            )
    minutes = _accumulation_minutes(first, last) if quantity == "rain amount" else None
    values, _, metadata = importers.import_knmi_hdf5(str(path), qty=name)
    relation = ZRRelation(metadata["zr_a"], metadata["zr_b"])
    return Composite(
        path, last, values, quantity, minutes,
        relation if quantity == "reflectivity" else None, grid_of_corners(metadata, values.shape),
        "KNMI",
    )  # fmt: skip
