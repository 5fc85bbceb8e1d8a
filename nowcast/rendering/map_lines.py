"""The map's lines over a panel: meridians and parallels, coastlines, lakes and borders."""

import logging
from dataclasses import dataclass

import numpy as np
import xarray as xr
from PIL import Image

from nowcast.errors import InputError
from nowcast.rendering.canvas import Canvas
from nowcast.rendering.coastlines import SCALES, fetch_natural_earth, outlines
from nowcast.rendering.drawn_lines import Box, draw
from nowcast.rendering.georeference import Georeference, georeference
from nowcast.rendering.graticule import graticule_within, write_degrees
from nowcast.rendering.palette import COASTLINE, COUNTRY_BORDER, GRATICULE, NOTHING

log = logging.getLogger("nowcast")

PIXELS_PER_WIDTH = 900
"""A panel whose longer side has so many pixels has lines of one pixel; twice as many, of two."""

SMALLEST_ISLAND_PIXELS = 4
"""Across; smaller islands, and lakes, would hide the rain around them."""

FINEST_DEGREES = {"10m": 0.025, "50m": 0.1, "110m": np.inf}
"""Of latitude per pixel, up to which lines are taken from each scale of Natural Earth."""


@dataclass(frozen=True)
class MapLines:
    """Which lines are drawn over rain.

    Args:
        graticule: meridians and parallels.
        coastlines: coasts and large lakes.
        borders: borders of countries.
        scale: Natural Earth's "10m", "50m" or "110m"; None chooses by the size of the grid.
        download: fetch what is missing of Natural Earth, to where cartopy keeps it.
    """

    graticule: bool = True
    coastlines: bool = True
    borders: bool = True
    scale: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale not in SCALES:
            raise InputError(f"map lines: found {self.scale!r}, expected {', '.join(SCALES)}")


ALL_LINES = MapLines()


def lines_of(
    dataset: xr.Dataset, settings: MapLines | None, factor: int, enlargement: int
) -> np.ndarray | None:
    """Draw the lines of a field's map, where it says where it lies and pyproj is installed.

    Args:
        dataset: see `georeference`.
        settings: which lines; None draws none.
        factor: by which the grid is reduced to be shown.
        enlargement: by which what is left is enlarged.

    Returns:
        Palette entries over the panel, uint8, `NOTHING` where there is no line; None where nothing
        can be drawn, of which a line of the log says why.

    Raises:
        InputError: what is to be downloaded cannot be had.
    """
    if settings is None:
        return None
    try:
        grid = georeference(dataset)
    except InputError as error:
        log.info("no map lines: %s", error)
        return None
    return draw_lines(grid.reduced(factor).enlarged(enlargement), settings)


def draw_lines(grid: Georeference, settings: MapLines) -> np.ndarray:
    """Draw lines over a grid.

    Args:
        grid: pixels of the panel.
        settings: which lines.

    Returns:
        Palette entries (row, column), uint8; `NOTHING` where there is no line.

    Raises:
        InputError: what is to be downloaded cannot be had.
    """
    box = Box.around(grid)
    scale = settings.scale or _scale(grid, box)
    if settings.download:
        fetch_natural_earth(scale)
    image = Image.new("L", (grid.width, grid.height), NOTHING)
    width = max(1, round(max(grid.height, grid.width) / PIXELS_PER_WIDTH))
    graticule = graticule_within(box) if settings.graticule else {}
    for lines in graticule.values():
        draw(image, grid, box, lines.values(), GRATICULE, 1)
    absent = []
    for kind, wanted, entry, smallest in (
        ("borders", settings.borders, COUNTRY_BORDER, 0),
        ("lakes", settings.coastlines, COASTLINE, SMALLEST_ISLAND_PIXELS),
        ("coastline", settings.coastlines, COASTLINE, SMALLEST_ISLAND_PIXELS),
    ):
        found = outlines(kind, scale) if wanted else []
        if found is None:
            absent.append(kind)
        else:
            draw(image, grid, box, found, entry, width, smallest)
    if absent:
        log.info(
            "not on the map: %s; pip install 'nowcast[maps]' brings some, Natural Earth's are "
            "fetched once with MapLines(download=True)",
            ", ".join(absent),
        )
    canvas = Canvas(0, 0)
    canvas.entries = np.array(image)
    write_degrees(canvas, grid, graticule)
    return canvas.entries


def _scale(grid: Georeference, box: Box) -> str:
    spacing = (box.north - box.south) / grid.height
    return next(scale for scale, finest in FINEST_DEGREES.items() if spacing <= finest)
