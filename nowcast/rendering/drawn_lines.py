"""Lines in degrees drawn onto the pixels of a grid. Which lines: elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from nowcast.rendering.georeference import Georeference

SAMPLES = 33
"""Along each side of the grid, to find the degrees that it spans."""

PIXELS_BETWEEN_POINTS = 8
"""Along a line between two of its points, which is straight in degrees, not in the projection."""


@dataclass(frozen=True)
class Box:
    """What a grid spans in degrees, a little more on each side.

    Attributes:
        middle: longitude of its middle.
        half_width: degrees from there to the west and to the east; 180 around a pole.
        south: least latitude.
        north: greatest latitude.
    """

    middle: float
    half_width: float
    south: float
    north: float

    @classmethod
    def around(cls, grid: Georeference) -> "Box":
        """The box of a grid; an empty one where the projection puts no place of Earth."""
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
        away = np.abs(from_meridian(middle, longitude))
        margin = 0.03 * (north - south) + 1e-6
        return cls(
            middle,
            min(180.0, float(away.max()) * 1.03),
            max(-90.0, south - margin),
            min(90.0, north + margin),
        )


def from_meridian(middle: float, longitude: np.ndarray) -> np.ndarray:
    """Degrees east of a meridian, within ±180."""
    return np.remainder(longitude - middle + 180.0, 360.0) - 180.0


def draw(
    image: Image.Image,
    grid: Georeference,
    box: Box,
    lines: Iterable[np.ndarray],
    entry: int,
    width: int,
    smallest_pixels: int = 0,
) -> None:
    """Draw lines where they cross a grid.

    Args:
        image: picture of as many pixels as the grid, which is drawn on.
        grid: where its pixels lie.
        box: what they span.
        lines: longitude and latitude of the points of each, (point, 2); between two points a line
            is straight in degrees, not on the grid, and goes the short way round the Earth.
        entry: palette entry.
        width: pixels.
        smallest_pixels: lines that are smaller across, as islands are, are left out.
    """
    pen = ImageDraw.Draw(image)
    degrees_per_pixel = (box.north - box.south) / max(grid.height, grid.width)
    starts_ends = _near(_pieces(lines, smallest_pixels * degrees_per_pixel), box)
    # As many points as make the longest piece of a line short on the screen.
    degrees_per_step = max(PIXELS_BETWEEN_POINTS * degrees_per_pixel, 1e-6)
    length = np.abs(starts_ends[:, 2:] - starts_ends[:, :2]).max(axis=1, initial=0.0)
    parts = np.maximum(1, np.ceil(length / degrees_per_step)).astype(int)
    for count in np.unique(parts):
        some = starts_ends[parts == count]
        along = np.linspace(0.0, 1.0, count + 1)[None, :, None]
        points = some[:, None, :2] * (1 - along) + some[:, None, 2:] * along
        columns, rows = grid.places(points[..., 0] + box.middle, points[..., 1])
        _draw_runs(pen, columns, rows, (grid.height, grid.width), entry, width)


def _pieces(lines: Iterable[np.ndarray], smallest_degrees: float) -> np.ndarray:
    """Longitude and latitude of both ends of all pieces of lines of some extent, (piece, 4)."""
    kept = [line for line in lines if len(line) > 1]
    if not kept:
        return np.zeros((0, 4))
    points = np.concatenate(kept)
    last = np.cumsum([len(line) for line in kept]) - 1
    first = np.append(0, last[:-1] + 1)
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    across = (high - low) * np.column_stack(
        [np.cos(np.radians((low[:, 1] + high[:, 1]) / 2)), np.ones(len(low))]
    )
    large = np.repeat(across.max(axis=1) >= smallest_degrees, last - first + 1)
    # No piece runs from the end of a line to the start of the next.
    large[last] = False
    starts = np.flatnonzero(large)
    return np.hstack([points[starts], points[starts + 1]])


def _near(pieces: np.ndarray, box: Box) -> np.ndarray:
    """Pieces of lines that may cross a box, their longitudes counted from its middle."""
    start = from_meridian(box.middle, pieces[:, 0])
    # The short way round the Earth, across the date line too.
    end = start + from_meridian(0.0, pieces[:, 2] - pieces[:, 0])
    north = pieces[:, [1, 3]]
    near = (
        (north.max(axis=1) >= box.south)
        & (north.min(axis=1) <= box.north)
        & (np.maximum(start, end) >= -box.half_width)
        & (np.minimum(start, end) <= box.half_width)
    )
    return np.column_stack([start, north[:, 0], end, north[:, 1]])[near]


def _draw_runs(
    pen: ImageDraw.ImageDraw,
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
                pen.line(ends, fill=entry, width=width)
