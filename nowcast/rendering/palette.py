"""The colours of rain rate, probability, missing coverage and map lines. Where: elsewhere.

Rain rates are shown in bins, as forecasters' displays do. The colours darken through blue up to
10 mm/h and go on from yellow to purple above, so that neither half relies on telling red from
green; the benchmark's thresholds (0.5, 2, 5, 10, 30 mm/h) are all edges of bins. Probabilities
darken through green, which no rain rate has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel

RAIN_EDGES_MM_H = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0)
"""Lower edges of the rain bins in mm/h; a value equal to an edge belongs to the bin above it."""

DRY_COLOUR = "#fbfbf9"
RAIN_COLOURS = (
    "#d3e5f4",
    "#a0c9e8",
    "#63a2d8",
    "#2c6fb7",
    "#163c87",
    "#f6da4d",
    "#f29a2e",
    "#d3322b",
    "#7d1665",
)
PROBABILITY_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Lower edges of the bins of probability; what is less likely looks dry."""

PROBABILITY_COLOURS = (
    "#e6f3e1",
    "#cfe9c7",
    "#b0dba8",
    "#8ccb89",
    "#65b873",
    "#42a25f",
    "#25884a",
    "#0d6d36",
    "#034a25",
)
NO_COVERAGE_COLOURS = ("#c9c9c6", "#b3b3af")
BORDER_COLOUR = "#6f6f6c"
LINE_COLOURS = ("#8f8f8a", "#7a4a2b", "#3a3a37")
INK_COLOUR = "#1d1d1b"
PAPER_COLOUR = "#ffffff"

DRY = 0
NO_COVERAGE = len(RAIN_COLOURS) + 1
NO_COVERAGE_STRIPE = NO_COVERAGE + 1
BORDER = NO_COVERAGE + 2
GRATICULE, COUNTRY_BORDER, COASTLINE = BORDER + 1, BORDER + 2, BORDER + 3
PAPER = 16
INK = 31
PROBABLE = 32
NOTHING = 255
"""Palette entries: dry, then the rain bins, no coverage and its stripes, a panel's border, the
map's lines; paper to ink is a ramp; then the bins of probability. `NOTHING` hides nothing."""


@dataclass(frozen=True)
class Scale:
    """What the colours of a panel stand for.

    Attributes:
        unit: of the numbers in the legend.
        numbers: at the lower edges of the bins, as they are written in the legend.
        first_entry: palette entry of the first bin; what is below it is `DRY`.
    """

    unit: str
    numbers: tuple[float, ...]
    first_entry: int


RAIN = Scale("mm/h", RAIN_EDGES_MM_H, DRY + 1)
PROBABILITY = Scale("%", tuple(round(100 * edge) for edge in PROBABILITY_EDGES), PROBABLE)

_EDGE_PIXELS = tuple(float(rain_rate_to_pixel(rate)) for rate in RAIN_EDGES_MM_H)

_PIXELS_AT_ONCE = 65_536
"""Few enough to stay in the processor's cache while they are compared with all edges."""


def rain_classes(pixels: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Palette entry of every pixel, uint8: `DRY`, 1 to 9 by rain bin, or `NO_COVERAGE`.

    Args:
        pixels: pixel values in [0, 1] (HKO-7's Z–R), floating, any shape; NaN is no coverage.
        mask: True where there is coverage, of a shape that broadcasts to that of `pixels`;
            None if everywhere.

    Raises:
        InputError: `pixels` is not floating or `mask` not bool.
    """
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(f"pixels to draw: found {pixels.dtype}, expected floats in [0, 1]")
    if mask is not None and mask.dtype != np.bool_:
        raise InputError(f"mask to draw: found {mask.dtype}, expected bool")
    classes = _bins(pixels, _EDGE_PIXELS)
    if mask is not None:
        np.copyto(classes, np.uint8(NO_COVERAGE), where=~mask)
    return classes


def rain_rate_classes(rain_rate_mm_h: np.ndarray) -> np.ndarray:
    """Palette entry of every rain rate in mm/h, as `rain_classes`; NaN is no coverage."""
    return _bins(rain_rate_mm_h, RAIN_EDGES_MM_H)


def probability_classes(probability: np.ndarray) -> np.ndarray:
    """Palette entry of every probability in [0, 1], as `rain_classes`; NaN is no coverage."""
    classes = _bins(probability, PROBABILITY_EDGES)
    classes[(classes > DRY) & (classes < NO_COVERAGE)] += np.uint8(PROBABLE - 1)
    return classes


def _bins(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """How many edges each value reaches, or `NO_COVERAGE` for NaN."""
    classes = np.zeros(values.shape, np.uint8)
    limits = [np.float32(edge) for edge in edges]
    flat, flat_classes = values.astype(np.float32, copy=False).reshape(-1), classes.reshape(-1)
    for start in range(0, flat.size, _PIXELS_AT_ONCE):
        part = flat[start : start + _PIXELS_AT_ONCE]
        own = flat_classes[start : start + _PIXELS_AT_ONCE]
        for edge in limits:
            own += part >= edge
        np.copyto(own, np.uint8(NO_COVERAGE), where=np.isnan(part))
    return classes


def hatched(classes: np.ndarray, stripe_pixels: int = 3) -> np.ndarray:
    """The same picture (y, x) with diagonal stripes where there is no coverage.

    Args:
        classes: palette entries from `rain_classes`, at the size at which they are shown.
        stripe_pixels: width of a stripe and of the space between two.
    """
    height, width = classes.shape
    # The value at y + x for every row y and column x, without a copy.
    diagonals = np.arange(height + width - 1) // stripe_pixels % 2 == 0
    stripes = sliding_window_view(diagonals, width)
    return np.where(stripes & (classes == NO_COVERAGE), np.uint8(NO_COVERAGE_STRIPE), classes)


def palette_bytes() -> bytes:
    """All entries as red, green, blue, for an 8-bit palette image; unused entries are black."""
    colours = np.zeros((256, 3), np.uint8)
    for first, names in (
        (DRY, (DRY_COLOUR, *RAIN_COLOURS)),
        (NO_COVERAGE, (*NO_COVERAGE_COLOURS, BORDER_COLOUR, *LINE_COLOURS)),
        (PROBABLE, PROBABILITY_COLOURS),
    ):
        for index, name in enumerate(names):
            colours[first + index] = _rgb(name)
    ramp = np.linspace(0.0, 1.0, INK - PAPER + 1)[:, None]
    paper, ink = np.array(_rgb(PAPER_COLOUR)), np.array(_rgb(INK_COLOUR))
    colours[PAPER : INK + 1] = np.round(paper + (ink - paper) * ramp)
    return colours.tobytes()


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))
