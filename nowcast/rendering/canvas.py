"""A palette-indexed picture with text, rain panels and the legend. What goes where: elsewhere.

Text is drawn with Pillow in the font that Matplotlib brings along. It is plain text: no character
is markup, line breaks and control characters become spaces.
"""

from functools import cache, lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nowcast.rendering.palette import (
    BORDER,
    DRY,
    INK,
    NO_COVERAGE,
    NOTHING,
    PAPER,
    RAIN,
    Scale,
    hatched,
    palette_bytes,
)

NO_DATA = "no data"
"""What no radar has seen, or of which no forecast knows."""

SMALLEST_LONG_SIDE = 240
"""Pixels that the longer side of a panel has at least; smaller grids are enlarged."""


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The sans-serif font in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    return int(np.ceil(font(size, bold).getlength(text)))


def plain(text: str) -> str:
    """Text on one line, without control characters."""
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())


def shortened(text: str, width: int, size: int, bold: bool = False) -> str:
    """Text on one line that is at most `width` pixels wide, with an ellipsis where cut."""
    text = plain(text)
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(text + "…", size, bold) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, width: int, size: int, lines: int = 2, bold: bool = False) -> list[str]:
    """Text broken between words into at most `lines` lines, the last one shortened."""
    words = plain(text).split(" ")
    result: list[str] = []
    while words and len(result) < lines - 1:
        taken = 1
        while taken < len(words) and text_width(" ".join(words[: taken + 1]), size, bold) <= width:
            taken += 1
        result.append(shortened(" ".join(words[:taken]), width, size, bold))
        words = words[taken:]
    if words:
        result.append(shortened(" ".join(words), width, size, bold))
    return [line for line in result if line]


def enlargement(height: int, width: int) -> int:
    """Whole factor by which a grid is enlarged to be seen well."""
    return max(1, -(-SMALLEST_LONG_SIDE // max(height, width)))


class Canvas:
    """A picture of palette entries, white at first.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.entries = np.full((height, width), PAPER, np.uint8)

    def copy(self) -> "Canvas":
        """A picture of its own that starts as this one is."""
        twin = Canvas(0, 0)
        twin.entries = self.entries.copy()
        return twin

    def text(
        self, x: int, y: int, text: str, size: int, *, bold: bool = False, align: str = "left"
    ) -> None:
        """Write a line on white ground.

        Args:
            x: left end or middle, by `align`.
            y: top of the line, which is as high as `line_height(size)`.
            text: plain text.
            size: height of the font in pixels.
            bold: whether it stands out.
            align: "left" or "middle".
        """
        ramp = _written(text, size, bold)
        width = text_width(text, size, bold)
        left = max(x - {"left": 0, "middle": width // 2}[align], 0)
        target = self.entries[y : y + ramp.shape[0], left : left + ramp.shape[1]]
        part = ramp[: target.shape[0], : target.shape[1]]
        np.copyto(target, part, where=part > PAPER)

    def panel(
        self, x: int, y: int, classes: np.ndarray, factor: int, lines: np.ndarray | None = None
    ) -> None:
        """Put a field, enlarged by a whole factor, within a frame of one pixel around it.

        Args:
            x: left edge of the field.
            y: top edge of the field.
            classes: palette entries (y, x) from `rain_classes`.
            factor: screen pixels per grid cell, along each axis.
            lines: palette entries over the enlarged field, `NOTHING` where it is seen.
        """
        if factor > 1:
            classes = classes.repeat(factor, axis=0).repeat(factor, axis=1)
        field = hatched(classes)
        if lines is not None:
            np.copyto(field, lines, where=lines != NOTHING)
        height, width = field.shape
        self.entries[y - 1 : y + height + 1, x - 1 : x + width + 1] = BORDER
        self.entries[y : y + height, x : x + width] = field

    def legend(self, x: int, y: int, size: int, scale: Scale = RAIN) -> None:
        """Draw the legend of a scale, that of rain with the no-coverage sign.

        It takes `legend_width(size)` × `legend_height(size)` pixels.
        """
        box_width, box_height = _legend_box(size)
        self.text(x, y, scale.unit, size)
        left = x + text_width("mm/h", size) + size
        bins = range(scale.first_entry, scale.first_entry + len(scale.numbers))
        for entry, number in zip((DRY, *bins), (0.0, *scale.numbers), strict=True):
            self.panel(left, y + 1, np.full((box_height, box_width), entry, np.uint8), 1)
            self.text(left, y + box_height + 3, f"{number:g}", size, align="middle")
            left += box_width
        if scale is RAIN:
            left += 2 * size
            self.panel(left, y + 1, np.full((box_height, box_width), NO_COVERAGE, np.uint8), 1)
            self.text(left + box_width + size // 2, y, NO_DATA, size)

    def image(self) -> Image.Image:
        """The picture as an 8-bit palette image."""
        image = Image.fromarray(self.entries)
        image.putpalette(palette_bytes())
        return image


@lru_cache(maxsize=64)
def _written(text: str, size: int, bold: bool) -> np.ndarray:
    """Palette entries of a line of text; an animation has some lines in many frames."""
    shades = Image.new("L", (text_width(text, size, bold) + 2, line_height(size)))
    ImageDraw.Draw(shades).text((0, 0), text, fill=255, font=font(size, bold))
    drawn = np.asarray(shades, np.float32) * ((INK - PAPER) / 255)
    return (PAPER + np.rint(drawn)).astype(np.uint8)


def line_height(size: int) -> int:
    """Height of a line of text in pixels."""
    return round(size * 1.3)


def legend_width(size: int) -> int:
    """Width of the legend in pixels."""
    texts = text_width("mm/h", size) + text_width(NO_DATA, size)
    return texts + _legend_box(size)[0] * (len(RAIN.numbers) + 2) + 4 * size


def legend_height(size: int) -> int:
    """Height of the legend in pixels."""
    return _legend_box(size)[1] + 3 + line_height(size)


def _legend_box(size: int) -> tuple[int, int]:
    return 2 * size + 4, line_height(size) - 2
