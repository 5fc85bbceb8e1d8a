"""What the pixels of an image stand for: grey levels by a formula, colours by a legend.

Files are found and decoded in `image_frames`.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nowcast.errors import InputError
from nowcast.radar.events import HIGHEST_DBZ, HIGHEST_RAIN_RATE_MM_H
from nowcast.radar.units import ZRRelation

MOST_LEGEND_BYTES = 2**20
UNKNOWN = "pixels of colours that are not in the legend, taken for not observed"
LEVELS = 2**16
"""Levels of a 16-bit image."""


@dataclass(frozen=True)
class GreyLevels:
    """Rain rate of grey levels: reflectivity or rain rate grows by the same with each level.

    Attributes:
        per_level: dBZ where there is a relation, otherwise mm/h.
        at_zero: what level 0 would be.
        relation: the Z–R relation of reflectivity; None for rain rate.
        no_echo: levels that are 0 mm/h.
        missing: levels that are not observed.
    """

    per_level: float
    at_zero: float
    relation: ZRRelation | None
    no_echo: tuple[int, ...]
    missing: tuple[int, ...]

    def rain_rates(self, image: Image.Image, oddities: Counter[str]) -> NDArray[np.float64]:
        """Rain rate (y, x) in mm/h of an image's pixels; NaN = not observed.

        Raises:
            InputError: a pixel is not grey.
        """
        levels, seen = _grey_levels(image)
        values = self.per_level * np.arange(LEVELS) + self.at_zero
        if self.relation is not None:
            values = self.relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
        rates = np.clip(values, 0, HIGHEST_RAIN_RATE_MM_H)
        rates[list(self.no_echo)] = 0
        rates[list(self.missing)] = np.nan
        return np.where(seen, rates[levels], np.nan)


@dataclass(frozen=True)
class Legend:
    """Rain rate of colours.

    Attributes:
        rain_rates_mm_h: by colour, 0xrrggbb, ascending; NaN = not observed.
        unknown: whether other colours are refused or taken for not observed.
    """

    rain_rates_mm_h: tuple[tuple[int, float], ...]
    unknown: Literal["refuse", "missing"]

    def rain_rates(self, image: Image.Image, oddities: Counter[str]) -> NDArray[np.float64]:
        """Rain rate (y, x) in mm/h of an image's pixels; NaN = not observed.

        Raises:
            InputError: a colour is not in the legend, and such are refused; or the image is grey
                of 16 bits, which has more levels than colours can be told apart.
        """
        if image.mode.startswith("I"):
            raise InputError("found grey levels of 16 bits, a legend is for colours of 8")
        colours, alpha = _colours(image)
        known = np.array([colour for colour, _ in self.rain_rates_mm_h])
        rates = np.minimum([rate for _, rate in self.rain_rates_mm_h], HIGHEST_RAIN_RATE_MM_H)
        places = np.minimum(np.searchsorted(known, colours), len(known) - 1)
        seen = alpha > 0
        unknown = seen & (known[places] != colours)
        if unknown.any() and self.unknown == "refuse":
            raise InputError(f"{_pixel(unknown, colours)}, expected a colour of the legend")
        oddities[UNKNOWN] += int(unknown.sum())
        return np.where(seen & ~unknown, rates[places], np.nan)


def read_legend(path: Path, unknown: Literal["refuse", "missing"]) -> Legend:
    """A legend from a CSV file: header `colour,rain_rate_mm_h`, lines `#rrggbb,rate`.

    An empty rate means not observed.

    Args:
        path: the file.
        unknown: whether other colours are refused or taken for not observed.

    Raises:
        InputError: the file is no such table, or names a colour twice.
    """
    try:
        if path.stat().st_size > MOST_LEGEND_BYTES:
            raise InputError(f"{path}: found a file of more than 1 MiB, expected a legend")
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a legend ({error})") from error
    if not rows or [cell.strip() for cell in rows[0]] != ["colour", "rain_rate_mm_h"]:
        raise InputError(f"{path}: found {rows[:1]}, expected the header 'colour,rain_rate_mm_h'")
    rates: dict[int, float] = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        where = f"{path}: line {number}: found {','.join(row)[:80]!r}"
        if not any(cells):
            continue
        if len(cells) != 2 or not re.fullmatch("#[0-9a-fA-F]{6}", cells[0]):
            raise InputError(f"{where}, expected '#rrggbb,rate'")
        try:
            rate = float(cells[1] or "nan")
        except ValueError:
            rate = -1.0
        if cells[1] and not 0 <= rate < float("inf"):
            raise InputError(f"{where}, expected a rain rate in mm/h, or none for not observed")
        if (colour := int(cells[0][1:], 16)) in rates:
            raise InputError(f"{where}, expected each colour once")
        rates[colour] = rate
    if not rates:
        raise InputError(f"{path}: found no colour, expected one or more")
    return Legend(tuple(sorted(rates.items())), unknown)


def _grey_levels(image: Image.Image) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Levels (y, x) of an image, and whether each pixel is opaque."""
    if image.mode == "L" or image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        return levels, levels != image.info.get("transparency", -1)
    colours, alpha = _colours(image)
    red, green, blue = colours >> 16, colours >> 8 & 255, colours & 255
    coloured = (alpha > 0) & ((red != green) | (green != blue))
    if coloured.any():
        raise InputError(
            f"{_pixel(coloured, colours)}, expected grey levels; a legend says what colours mean"
        )
    return red, alpha > 0


def _colours(image: Image.Image) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Colours 0xrrggbb (y, x) of an image, and their alpha, 0–255."""
    red, green, blue, alpha = np.moveaxis(np.asarray(image.convert("RGBA")).astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue, alpha


def _pixel(wrong: NDArray[np.bool_], colours: NDArray[np.int64]) -> str:
    row, column = (int(place) for place in np.argwhere(wrong)[0])
    return f"found the colour #{int(colours[row, column]):06x} in row {row}, column {column}"


def checked_levels(name: str, levels: Sequence[int]) -> tuple[int, ...]:
    """Grey levels of a setting, each once and in order.

    Raises:
        InputError: one is not from 0 to 65535.
    """
    for level in levels:
        if not 0 <= level < LEVELS:
            raise InputError(f"{name}: found {level}, expected levels from 0 to {LEVELS - 1}")
    return tuple(sorted(set(levels)))
