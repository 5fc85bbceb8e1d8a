"""The map's lines over a panel: meridians and parallels, coastlines, lakes and borders."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw

from nowcast.errors import InputError
from nowcast.rendering.canvas import Canvas, line_height, text_width
from nowcast.rendering.coastlines import SCALES, fetch_natural_earth, outlines
from nowcast.rendering.georeference import Georeference, georeference
from nowcast.rendering.palette import COASTLINE, COUNTRY_BORDER, GRATICULE, NOTHING

log = logging.getLogger("nowcast")

STEPS_DEGREES = (30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
FEWEST_LINES = 3
"""Parallels, or meridians, that the distance between them is chosen for."""

SAMPLES = 33
"""Along each side of the grid, to find the degrees that it spans."""

PIXELS_PER_WIDTH = 900
"""A panel whose longer side has so many pixels has lines of one pixel; twice as many, of two."""

PIXELS_BETWEEN_POINTS = 8
"""Along a line between two of its points, which is straight in degrees, not in the projection."""

FINEST_DEGREES = {"10m": 0.04, "50m": 0.15, "110m": np.inf}
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
    box = _Box.around(grid)
    scale = settings.scale or _scale(grid, box)
    if settings.download:
        fetch_natural_earth(scale)
    image = Image.new("L", (grid.width, grid.height), NOTHING)
    width = max(1, round(max(grid.height, grid.width) / PIXELS_PER_WIDTH))
    graticule = _graticule(box) if settings.graticule else {}
    for lines in graticule.values():
        _draw(image, grid, box, lines.values(), GRATICULE, 1)
    absent = []
    for kind, wanted, entry in (
        ("borders", settings.borders, COUNTRY_BORDER),
        ("lakes", settings.coastlines, COASTLINE),
        ("coastline", settings.coastlines, COASTLINE),
    ):
        found = outlines(kind, scale) if wanted else []
        if found is None:
            absent.append(kind)
        else:
            _draw(image, grid, box, found, entry, width)
    if absent:
        log.info(
            "not on the map: %s; pip install 'nowcast[maps]' brings some, Natural Earth's are "
            "fetched once with MapLines(download=True)",
            ", ".join(absent),
        )
    canvas = Canvas(0, 0)
    canvas.entries = np.array(image)
    _write_degrees(canvas, grid, graticule)
    return canvas.entries


@dataclass(frozen=True)
class _Box:
    """What a grid spans in degrees, a little more on each side."""

    middle: float
    half_width: float
    south: float
    north: float

    @classmethod
    def around(cls, grid: Georeference) -> "_Box":
        columns, rows = np.meshgrid(
            np.linspace(0, grid.width, SAMPLES), np.linspace(0, grid.height, SAMPLES)
        )
        longitude, latitude = grid.degrees(columns, rows)
        there = np.isfinite(longitude) & np.isfinite(latitude)
        if not there.any():
            return cls(0.0, 0.0, 0.0, 0.0)
        longitude, latitude = longitude[there], latitude[there]
        south, north = float(latitude.min()), float(latitude.max())
        for pole in (-90.0, 90.0):
            column, row = (float(place) for place in grid.places(np.array(0.0), np.array(pole)))
            if 0 <= column <= grid.width and 0 <= row <= grid.height:
                return cls(0.0, 180.0, min(south, pole), max(north, pole))
        turns = np.exp(1j * np.radians(longitude))
        middle = float(np.degrees(np.angle(turns.mean())))
        away = np.abs(_from(middle, longitude))
        margin = 0.03 * (north - south) + 1e-6
        return cls(
            middle,
            min(180.0, float(away.max()) * 1.03),
            max(-90.0, south - margin),
            min(90.0, north + margin),
        )


def _from(middle: float, longitude: np.ndarray) -> np.ndarray:
    """Degrees east of a meridian, within ±180."""
    return np.remainder(longitude - middle + 180.0, 360.0) - 180.0


def _scale(grid: Georeference, box: _Box) -> str:
    spacing = (box.north - box.south) / grid.height
    return next(scale for scale, finest in FINEST_DEGREES.items() if spacing <= finest)


def _graticule(box: _Box) -> dict[str, dict[float, np.ndarray]]:
    """Parallels and meridians that cross a box, by their degrees."""
    east = np.linspace(-box.half_width, box.half_width, 721) + box.middle
    north = np.linspace(box.south, box.north, 361)
    return {
        "parallels": {
            degrees: np.column_stack([east, np.full_like(east, degrees)])
            for degrees in _multiples(box.south, box.north)
            if abs(degrees) < 90
        },
        "meridians": {
            degrees: np.column_stack([np.full_like(north, degrees), north])
            for degrees in _multiples(box.middle - box.half_width, box.middle + box.half_width)
        },
    }


def _multiples(low: float, high: float) -> list[float]:
    """Multiples of the largest step of which some lie between two values."""
    for step in STEPS_DEGREES:
        inside = [n * step for n in range(int(np.ceil(low / step)), int(high // step) + 1)]
        if len(inside) >= FEWEST_LINES:
            return inside
    return []


def _draw(
    image: Image.Image,
    grid: Georeference,
    box: _Box,
    lines: Iterable[np.ndarray],
    entry: int,
    width: int,
) -> None:
    """Draw lines in degrees where they cross the grid."""
    draw = ImageDraw.Draw(image)
    pieces = [np.hstack([line[:-1], line[1:]]) for line in lines if len(line) > 1]
    if not pieces:
        return
    starts_ends = _near(np.concatenate(pieces), box)
    # As many points as make the longest piece of a line short on the screen.
    degrees_per_step = max(
        PIXELS_BETWEEN_POINTS * (box.north - box.south) / max(grid.height, grid.width), 1e-6
    )
    length = np.abs(starts_ends[:, 2:] - starts_ends[:, :2]).max(axis=1, initial=0.0)
    parts = np.maximum(1, np.ceil(length / degrees_per_step)).astype(int)
    for count in np.unique(parts):
        some = starts_ends[parts == count]
        along = np.linspace(0.0, 1.0, count + 1)[None, :, None]
        points = some[:, None, :2] * (1 - along) + some[:, None, 2:] * along
        columns, rows = grid.places(points[..., 0] + box.middle, points[..., 1])
        _draw_runs(draw, columns, rows, (grid.height, grid.width), entry, width)


def _near(pieces: np.ndarray, box: _Box) -> np.ndarray:
    """Pieces of lines that may cross a box, their longitudes counted from its middle."""
    start = _from(box.middle, pieces[:, 0])
    # The short way round the Earth, across the date line too.
    end = start + _from(0.0, pieces[:, 2] - pieces[:, 0])
    north = pieces[:, [1, 3]]
    near = (
        (north.max(axis=1) >= box.south)
        & (north.min(axis=1) <= box.north)
        & (np.maximum(start, end) >= -box.half_width)
        & (np.minimum(start, end) <= box.half_width)
    )
    return np.column_stack([start, north[:, 0], end, north[:, 1]])[near]


def _draw_runs(
    draw: ImageDraw.ImageDraw,
    columns: np.ndarray,
    rows: np.ndarray,
    shape: tuple[int, int],
    entry: int,
    width: int,
) -> None:
    """Draw what of lines (line, point) lies on the picture or crosses its edge."""
    height, across = shape
    finite = np.isfinite(columns) & np.isfinite(rows)
    # Integers of drawing are small, and jumps are artefacts of a projection.
    inside = finite & (np.abs(columns - across / 2) < across) & (np.abs(rows - height / 2) < height)
    columns, rows = (
        np.floor(np.where(inside, places, 0.0)).astype(int) for places in (columns, rows)
    )
    for line in range(len(columns)):
        for point in range(columns.shape[1] - 1):
            if inside[line, point] and inside[line, point + 1]:
                ends = [(int(columns[line, at]), int(rows[line, at])) for at in (point, point + 1)]
                draw.line(ends, fill=entry, width=width)


def _write_degrees(
    canvas: Canvas, grid: Georeference, graticule: dict[str, dict[float, np.ndarray]]
) -> None:
    """Write degrees where parallels meet the left edge, or the right one, meridians the lower."""
    size = int(np.clip(min(grid.width, grid.height) // 40, 10, 16))
    taken = np.zeros(canvas.entries.shape, bool)
    for kind, lines in graticule.items():
        for degrees, line in lines.items():
            text = _degrees(degrees, "NS" if kind == "parallels" else "EW")
            width, height = text_width(text, size) + 4, line_height(size)
            right, lower = grid.width - width - 1, grid.height - height - 1
            columns, rows = grid.places(line[:, 0], line[:, 1])
            if kind == "parallels":
                places = [
                    (left, _crossing(columns, rows, edge) - height // 2)
                    for edge, left in ((0.5, 1), (grid.width - 0.5, right))
                ]
            else:
                places = [
                    (_crossing(rows, columns, edge) - width // 2, top)
                    for edge, top in ((grid.height - 0.5, lower), (0.5, 1))
                ]
            for left, top in places:
                box = np.s_[top : top + height, left : left + width]
                if 0 < left <= right and 0 < top <= lower and not taken[box].any():
                    taken[box] = True
                    label = Canvas(width, height)
                    label.text(2, 0, text, size)
                    canvas.entries[box] = label.entries
                    break


def _crossing(values: np.ndarray, other: np.ndarray, level: float) -> int:
    """Where, along `other`, a line first crosses a level; far outside where it does not."""
    below = values < level
    crossed = np.flatnonzero((below[1:] != below[:-1]) & np.isfinite(values[1:] + values[:-1]))
    for at in crossed:
        share = (level - values[at]) / (values[at + 1] - values[at])
        place = other[at] + share * (other[at + 1] - other[at])
        if np.isfinite(place) and place >= 0:
            return int(place)
    return -1000


def _degrees(degrees: float, directions: str) -> str:
    turned = float(_from(0.0, np.array(degrees))) if directions == "EW" else degrees
    side = "" if turned in (0.0, -180.0) else directions[turned < 0]
    return f"{abs(round(turned, 4)):g}°{side}"
