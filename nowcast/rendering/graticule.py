"""Meridians and parallels: which ones a map has, and their degrees written at its edges."""

import numpy as np

from nowcast.rendering.canvas import Canvas, line_height, text_width
from nowcast.rendering.drawn_lines import Box, from_meridian
from nowcast.rendering.georeference import Georeference

STEPS_DEGREES = (30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
FEWEST_LINES = 3
"""Parallels, or meridians, that the distance between them is chosen for."""


def graticule_within(box: Box) -> dict[str, dict[float, np.ndarray]]:
    """Lines that cross a box: "parallels" and "meridians", each by its degrees, (point, 2)."""
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


def write_degrees(
    canvas: Canvas, grid: Georeference, graticule: dict[str, dict[float, np.ndarray]]
) -> None:
    """Write degrees at the edges of a map.

    Where parallels meet the left edge, else the right one, and meridians the lower, else the upper.

    Args:
        canvas: map, which is written on.
        grid: where its pixels lie.
        graticule: from `graticule_within`.
    """
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
    turned = float(from_meridian(0.0, np.array(degrees))) if directions == "EW" else degrees
    side = "" if turned in (0.0, -180.0) else directions[turned < 0]
    return f"{abs(round(turned, 4)):g}°{side}"
