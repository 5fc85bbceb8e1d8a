"""MRMS's rain rate in GRIB2, compressed or not, through pysteps' importer."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nowcast.errors import InputError
from nowcast.radar.composite_parts import (
    CompositeFormat,
    check_shape,
    grid_of_corners,
    is_gzip,
    needed,
)
from nowcast.radar.composites import Composite
from nowcast.radar.grib_sections import check_field

_PRECIPITATION_RATE = (209, 6, 1)
"""Discipline, category and number of MRMS's PrecipRate."""


MOST_BYTES = 2**28
"""Of a file, uncompressed."""


@contextmanager
def _uncompressed(path: Path) -> Iterator[Path]:
    """The file itself, or a temporary one of what is compressed in it, as MRMS issues them."""
    if not is_gzip(path):
        yield path
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder, "field.grib2")
        with gzip.open(path) as source, plain.open("wb") as target:
            for block in iter(lambda: source.read(2**20), b""):
                target.write(block)
                if target.tell() > MOST_BYTES:
                    raise InputError(f"found more than {MOST_BYTES:,} bytes uncompressed")
        yield plain


@contextmanager
def _grib(path: Path) -> Iterator[Any]:
    pygrib = needed("pygrib")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"found more than {MOST_BYTES:,} bytes")
    check_field(path.read_bytes())
    with pygrib.open(str(path)) as file:
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
    with _uncompressed(path) as plain, _grib(plain) as message:
        return _second(message)


def _second(message: Any) -> int:
    return int(message.validDate.replace(tzinfo=UTC).timestamp())


def _read_grib(path: Path) -> Composite:
    importers = needed("pysteps.io.importers")
    with _uncompressed(path) as plain:
        with _grib(plain) as message:
            second = _second(message)
            check_shape((int(message["Nj"]), int(message["Ni"])))
        values, _, metadata = importers.import_mrms_grib(str(plain), window_size=1)
    values = np.where(values < 0, np.float32(np.nan), values)
    return Composite(
        path,
        second,
        values,
        "rain rate",
        None,
        None,
        grid_of_corners(metadata, values.shape),
        "NOAA/NSSL",
    )


MRMS = CompositeFormat("MRMS GRIB2", _grib_second, _read_grib)
