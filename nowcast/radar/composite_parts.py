"""What readers of all formats of composites share: packages, sizes, grids, times."""

import gzip
import io
import re
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from nowcast.errors import InputError
from nowcast.radar.composites import Composite, Grid
from nowcast.radar.events import MOST_PIXELS

MOST_HEADER_BYTES = 2**16


class CompositeFormat(NamedTuple):
    """How a kind of file is called, told and read; the functions take its path."""

    name: str
    second: Callable[[Path], int]
    read: Callable[[Path], Composite]


def needed(package: str) -> ModuleType:
    """A package of the extra `radar`.

    Raises:
        InputError: it is not installed.
    """
    try:
        with redirect_stdout(io.StringIO()):  # pysteps says where its configuration lies.
            return import_module(package)
    except ImportError:
        raise InputError(
            f"found a file that {package.partition('.')[0]} reads, which is not installed: "
            "pip install 'nowcast[radar]'"
        ) from None


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no field, or a larger one than `MOST_PIXELS`."""
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MOST_PIXELS:
        found = " × ".join(map(str, shape)) or "no"
        raise InputError(
            f"found {found} pixels, expected rows and columns, at most {MOST_PIXELS:,}"
        )


def grid_of_corners(metadata: dict[str, Any], shape: tuple[int, int]) -> Grid:
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


def seconds_of_text(text: str, form: str) -> int:
    """Seconds since 1970-01-01 UTC of a time that is written in a form of `strptime`."""
    try:
        time = datetime.strptime(text, form)
    except ValueError:
        raise InputError(f"found the time {text!r}, expected one like {form}") from None
    return int(time.replace(tzinfo=UTC).timestamp())


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def uncompressed_start(path: Path) -> bytes:
    """The first bytes of a file, uncompressed; nothing where they cannot be."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(MOST_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""
