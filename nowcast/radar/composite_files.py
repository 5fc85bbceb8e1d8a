"""Files of one composite each: ODIM HDF5, KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2.

A format is recognised by what a file holds. pysteps' importers read values and georeference, and
rasterio those of GeoTIFF; what they take for granted is checked here before, and the valid time,
which they do not tell, is read here. Nothing but the file itself is read, and sizes are bounded
before anything is decoded.
"""

import gzip
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import h5py
import numpy as np

from nowcast.errors import InputError
from nowcast.radar.composites import Composite, Grid
from nowcast.radar.event_quantities import Quantity
from nowcast.radar.events import MOST_PIXELS
from nowcast.radar.units import ZRRelation

MOST_HEADER_BYTES = 2**16
"""Of a PGM file."""

MOST_MEMBERS = 10_000
"""Groups and arrays of an HDF5 file."""

_GZIP, _HDF5, _GRIB = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"GRIB"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class _Format(NamedTuple):
    """How a kind of file is called, told and read; the functions take its path."""

    name: str
    second: Callable[[Path], int]
    read: Callable[[Path], Composite]


def is_composite(path: Path) -> bool:
    """Whether a file is there and of one of these formats, damaged or not."""
    try:
        return _format_of(path) is not None
    except (InputError, OSError):  # Gone since it was listed, or not to be read.
        return False


def second_of(path: Path) -> int:
    """Valid time of a file, in seconds since 1970-01-01 UTC, without reading its field.

    Raises:
        InputError: if it is none of these formats, or damaged.
    """
    with _explained(path) as known:
        return known.second(path)


def read_composite(path: Path) -> Composite:
    """Read a file.

    Raises:
        InputError: if it is none of these formats, is damaged, holds no rain or reflectivity, or
            holds it in a way that would be misread; or the package that reads it is missing.
    """
    with _explained(path) as known:
        return known.read(path)


@contextmanager
def _explained(path: Path) -> Iterator[_Format]:
    """The file's format; whatever goes wrong is said in one line that names the file."""
    known = _format_of(path)
    if known is None:
        raise InputError(
            f"{path}: found no radar composite, expected ODIM or KNMI HDF5, FMI PGM, GeoTIFF, "
            "MRMS GRIB2"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield known
    except InputError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    # A damaged file makes the libraries raise whatever comes; to the reader it is all the same.
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as {known.name} ({reason})") from error


def _format_of(path: Path) -> _Format | None:
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a radar composite")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_HDF5):
        return _hdf5_format(path)
    if start.startswith(_TIFF):
        return _Format("GeoTIFF", _tiff_second, _read_tiff)
    if start.startswith(_GRIB):
        return _Format("MRMS GRIB2", _grib_second, _read_grib)
    if start.startswith((_GZIP, b"P5")) and _pgm_start(path).startswith(b"P5"):
        return _Format("FMI PGM", _pgm_second, _read_pgm)
    return None


def _needs(package: str) -> ModuleType:
    """A package of the extra `radar`."""
    try:
        with redirect_stdout(io.StringIO()):  # pysteps says where its configuration lies.
            return import_module(package)
    except ImportError:
        raise InputError(
            f"found a file that {package.partition('.')[0]} reads, which is not installed: "
            "pip install 'nowcast[radar]'"
        ) from None


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MOST_PIXELS:
        found = " × ".join(map(str, shape)) or "no"
        raise InputError(
            f"found {found} pixels, expected rows and columns, at most {MOST_PIXELS:,}"
        )


def _grid(metadata: dict[str, Any], shape: tuple[int, int]) -> Grid:
    """The grid of what pysteps says of corners, which are those of the outer pixels' outer ends."""
    projection, units = str(metadata["projection"]), str(metadata["cartesian_unit"])
    west, east, south, north = (float(metadata[key]) for key in ("x1", "x2", "y1", "y2"))
    if units == "km":
        # KNMI states its ellipsoid in kilometres, and so has coordinates in them.
        projection = re.sub(
            r"\+(a|b)=([0-9.]+)", lambda m: f"+{m[1]}={float(m[2]) * 1000:.10g}", projection
        )
        west, east, south, north = (1000 * corner for corner in (west, east, south, north))
        units = "m"
    rows, columns = shape
    width, height = (east - west) / columns, (north - south) / rows
    if not (width > 0 and height > 0 and np.isfinite([west, north, width, height]).all()):
        raise InputError(
            f"found corners {west:g}, {south:g} and {east:g}, {north:g}, expected a grid"
        )
    return Grid(projection, units, west + width / 2, north - height / 2, width, height, shape)


# HDF5: ODIM (OPERA and national services) and KNMI


def _hdf5_format(path: Path) -> _Format | None:
    try:
        with h5py.File(path, "r") as file:
            if "ODIM" in _text(file.attrs.get("Conventions", "")) or "what" in file:
                return _Format("ODIM HDF5", _odim_second, _read_odim)
            if "overview" in file and "image1" in file:
                return _Format("KNMI HDF5", _knmi_second, _read_knmi)
            return None
    except OSError:  # Damaged: reading it says how.
        return _Format("HDF5", _odim_second, _read_odim)


def _text(value: Any) -> str:
    value = np.asarray(value).ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)


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
    first, last = (_second(_text(date) + _text(time), "%Y%m%d%H%M%S") for date, time in pairs)
    return first, last


def _odim_second(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return _odim_times(file)[1]


def _read_odim(path: Path) -> Composite:
    importers = _needs("pysteps.io.importers")
    with h5py.File(path, "r") as file:
        quantity, _, data = _odim_field(file)
        product = _text(file["what"].attrs.get("object", "")) if "what" in file else ""
        if product not in ("COMP", "IMAGE"):
            raise InputError(f"found the object {product!r}, expected COMP, a composite")
        _check_shape(data["data"].shape)
        first, last = _odim_times(file)
        how = data["how"].attrs if "how" in data else {}
        own = ZRRelation(float(how["zr_a"]), float(how["zr_b"])) if "zr_a" in how else None
        source = _text(file["what"].attrs.get("source", ""))
    values, _, metadata = importers.import_odim_hdf5(str(path), qty=quantity)
    minutes = (last - first) / 60 if quantity == "ACRR" else None
    if minutes is not None and minutes <= 0:
        raise InputError("found an amount of rain over no time, expected start and end")
    return Composite(
        path, last, np.asarray(values), _ODIM_QUANTITIES[quantity], minutes, own,
        _grid(metadata, values.shape), source,
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
        ends.append(_second(f"{match[3]}-{month:02}-{match[1]} {match[4]}", "%Y-%m-%d %H:%M:%S"))
    return ends[0], ends[1]


def _knmi_second(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return _knmi_times(file)[1]


def _read_knmi(path: Path) -> Composite:
    importers = _needs("pysteps.io.importers")
    with h5py.File(path, "r") as file:
        first, last = _knmi_times(file)
        image = file["image1"]
        _check_shape(image["image_data"].shape)
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
    minutes = (last - first) / 60
    if quantity == "rain amount" and minutes <= 0:
        raise InputError("found an amount of rain over no time, expected start and end")
    values, _, metadata = importers.import_knmi_hdf5(str(path), qty=name, accutime=minutes)
    relation = ZRRelation(metadata["zr_a"], metadata["zr_b"])
    return Composite(
        path, last, values, quantity, minutes if quantity == "rain amount" else None,
        relation if quantity == "reflectivity" else None, _grid(metadata, values.shape),
        "KNMI",
    )  # fmt: skip


# FMI: PGM with its georeference in comments


def _pgm_start(path: Path) -> bytes:
    """The first bytes, uncompressed; nothing where they cannot be."""
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            return file.read(MOST_HEADER_BYTES)
    try:
        with gzip.open(path) as file:
            return file.read(MOST_HEADER_BYTES)
    except (OSError, EOFError):
        return b""


def _pgm_header(path: Path) -> tuple[dict[str, str], tuple[int, int]]:
    """What its comments say, by their first word, and its (y, x)."""
    lines = _pgm_start(path).split(b"\n", 200)
    comments = [line[1:].decode("ascii").split() for line in lines if line.startswith(b"#")]
    said = {words[0]: " ".join(words[1:]) for words in comments if words}
    sizes = next(line for line in lines[1:] if not line.startswith(b"#"))
    width, height = (int(word) for word in sizes.split())
    _check_shape((height, width))
    return said, (height, width)


def _pgm_second(path: Path) -> int:
    said, _ = _pgm_header(path)
    if "obstime" not in said:
        raise InputError("found no obstime, expected the time in a comment")
    return _second(said["obstime"], "%Y%m%d%H%M")


def _read_pgm(path: Path) -> Composite:
    importers = _needs("pysteps.io.importers")
    said, shape = _pgm_header(path)
    for name, expected in (("param", "CorrectedReflectivity"), ("type", "stereographic")):
        if said.get(name) != expected:
            raise InputError(f"found {name} {said.get(name)!r}, expected {expected!r}")
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    values, _, metadata = importers.import_fmi_pgm(str(path), gzipped=zipped)
    if values.shape != shape:
        raise InputError(f"found {values.shape} pixels, expected {shape} as its header says")
    relation = ZRRelation(metadata["zr_a"], metadata["zr_b"])
    return Composite(
        path, _pgm_second(path), values, "reflectivity", None, relation,
        _grid(metadata, shape), "FMI",
    )  # fmt: skip


# GeoTIFF with gain, offset and time in GDAL's metadata, as FMI writes it


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    rasterio = _needs("rasterio")
    # No other driver: some formats name further files.
    with rasterio.open(path, driver="GTiff", sharing=False) as file:
        yield file


def _tiff_tags(file: Any) -> dict[str, str]:
    """The items of GDAL's metadata that XML in a tag holds; it is searched, not parsed."""
    text = file.tags().get("GDAL_METADATA", "")
    found = re.findall(r'<Item name="([^"<>]+)"([^<>]*)>([^<>]*)</Item>', text)
    tags = {name.lower(): value.strip() for name, _, value in found}
    units = {name.lower(): re.findall(r'unit="([^"]*)"', more) for name, more, _ in found}
    return {**tags, "unit": next(iter(units.get("quantity", [])), "")}


def _tiff_second(path: Path) -> int:
    with _tiff(path) as file:
        tags = _tiff_tags(file)
    if "observation time" not in tags:
        raise InputError("found no observation time, expected it in GDAL's metadata")
    return _second(tags["observation time"], "%Y%m%d%H%M")


def _read_tiff(path: Path) -> Composite:
    second = _tiff_second(path)
    with _tiff(path) as file:
        tags = _tiff_tags(file)
        _check_shape(file.shape)
        if file.count != 1 or file.crs is None:
            raise InputError(f"found {file.count} bands, expected one, with a projection")
        transform = file.transform
        if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
            raise InputError("found a grid that is turned, expected north at the top")
        if tags["unit"] != "dBZ":
            raise InputError(f"found a quantity in {tags['unit']!r}, expected dBZ")
        missing = [name for name in ("gain", "offset", "nodata") if name not in tags]
        if missing:
            raise InputError(f"found no {missing[0]}, expected it in GDAL's metadata")
        levels = file.read(1)
        units = "m" if file.crs.is_projected else "degrees"
        projection = file.crs.to_wkt()
    values = float(tags["gain"]) * levels.astype(np.float32) + np.float32(tags["offset"])
    values[levels == float(tags["nodata"])] = np.nan
    width, height = transform.a, -transform.e
    grid = Grid(
        projection, units, transform.c + width / 2, transform.f - height / 2, width, height,
        values.shape,
    )  # fmt: skip
    return Composite(path, second, values, "reflectivity", None, None, grid, "")


# MRMS: rain rate in GRIB2

_PRECIPITATION_RATE = (209, 6, 1)
"""Discipline, category and number of MRMS's PrecipRate."""


@contextmanager
def _grib(path: Path) -> Iterator[Any]:
    with _needs("pygrib").open(str(path)) as file:
        messages = list(islice(file, 2))
        if len(messages) != 1:
            raise InputError("found several fields or none, expected one")
        message = messages[0]
        names = ("discipline", "parameterCategory", "parameterNumber")
        found = tuple(int(message[name]) for name in names)
        if found != _PRECIPITATION_RATE:
            raise InputError(
                f"found the parameter {found}, expected {_PRECIPITATION_RATE}, PrecipRate of MRMS"
            )
        yield message


def _grib_second(path: Path) -> int:
    with _grib(path) as message:
        return int(message.validDate.replace(tzinfo=UTC).timestamp())


def _read_grib(path: Path) -> Composite:
    importers = _needs("pysteps.io.importers")
    second = _grib_second(path)
    with _grib(path) as message:
        _check_shape((int(message["Nj"]), int(message["Ni"])))
    values, _, metadata = importers.import_mrms_grib(str(path), window_size=1)
    values = np.where(values < 0, np.float32(np.nan), values)
    return Composite(
        path, second, values, "rain rate", None, None, _grid(metadata, values.shape), "NOAA/NSSL"
    )


def _second(text: str, form: str) -> int:
    try:
        time = datetime.strptime(text, form)
    except ValueError:
        raise InputError(f"found the time {text!r}, expected one like {form}") from None
    return int(time.replace(tzinfo=UTC).timestamp())
