"""Files of one composite each: ODIM HDF5, KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2.

A format is recognised by what a file holds. pysteps' importers read values and georeference, and
rasterio those of GeoTIFF; what they take for granted is checked here before, and the valid time,
which they do not tell, is read here. Nothing but the file itself is read, and sizes are bounded
before anything is decoded.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.composite_geotiff import GEOTIFF
from nowcast.radar.composite_grib import MRMS
from nowcast.radar.composite_hdf5 import hdf5_format
from nowcast.radar.composite_parts import CompositeFormat, is_gzip, uncompressed_start
from nowcast.radar.composite_pgm import PGM
from nowcast.radar.composites import Composite

_HDF5, _GRIB = b"\x89HDF\r\n\x1a\n", b"GRIB"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
def _explained(path: Path) -> Iterator[CompositeFormat]:
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


def _format_of(path: Path) -> CompositeFormat | None:
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a radar composite")
    start = uncompressed_start(path)
    if start.startswith((_HDF5, *_TIFF)) and not is_gzip(path):
        return hdf5_format(path) if start.startswith(_HDF5) else GEOTIFF
    if start.startswith(_GRIB):
        return MRMS
    return PGM if start.startswith(b"P5") else None
