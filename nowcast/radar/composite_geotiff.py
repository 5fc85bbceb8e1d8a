"""Composites in GeoTIFF with gain, offset and time in GDAL's metadata, as FMI writes them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nowcast.errors import InputError
from nowcast.radar.composite_parts import CompositeFormat, check_shape, needed, seconds_of_text
from nowcast.radar.composites import Composite, Grid


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    rasterio = needed("rasterio")
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
    return seconds_of_text(tags["observation time"], "%Y%m%d%H%M")


def _read_tiff(path: Path) -> Composite:
    second = _tiff_second(path)
    with _tiff(path) as file:
        tags = _tiff_tags(file)
        check_shape(file.shape)
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


GEOTIFF = CompositeFormat("GeoTIFF", _tiff_second, _read_tiff)
