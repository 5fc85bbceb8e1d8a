"""An animation in parts, for a page that sets them out itself: panels, times, legend.

Drawn as in the GIF, which is `animation`; the page is `page`.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nowcast.rendering.animation import (
    draw_legends,
    draw_panel,
    frame_durations_ms,
    legends_height,
    text_size,
)
from nowcast.rendering.canvas import Canvas, legend_width
from nowcast.rendering.fields import Scene, forecast_case
from nowcast.rendering.palette import NOTHING, PAPER

LEGEND_SIZE = 16
"""Height of the legend's text, in pixels."""

COMPRESSION = 5
"""Of PNG files: nearly half the time of the usual level, 6, for pictures 3 to 4 % larger."""


@dataclass(frozen=True)
class Panel:
    """One panel of an animation; a picture that stays the same for several frames is there once.

    Attributes:
        name: what it shows: "observed", or a method.
        pictures: PNG files of one size, in the order in which they are shown.
        first_frames: number of the frame from which on each picture is shown; the first is 0.
    """

    name: str
    pictures: tuple[bytes, ...]
    first_frames: tuple[int, ...]


@dataclass(frozen=True)
class Animation:
    """An animation in parts, for a page that sets them out itself.

    Attributes:
        title: a headline.
        source: credit line for the observations.
        panels: what was observed first, then the forecasts.
        frame_labels: valid time and lead time of each frame, as the GIF shows them.
        issue_frame: number of the first frame that is forecast.
        durations_ms: how long each frame is shown.
        legend: a PNG file that says what the colours mean.
        lines: a PNG file of the map's lines, transparent elsewhere, as large as the pictures.
    """

    title: str
    source: str
    panels: tuple[Panel, ...]
    frame_labels: tuple[str, ...]
    issue_frame: int
    durations_ms: tuple[int, ...]
    legend: bytes
    lines: bytes | None = None


def animate(
    observed: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
    mask: np.ndarray | None = None,
    inputs: np.ndarray | None = None,
    input_mask: np.ndarray | None = None,
    *,
    issue_time: np.datetime64,
    step_minutes: float,
    frames_per_second: float = 5.0,
    title: str = "",
    source: str = "",
) -> Animation:
    """Draw the panels that `write_gif` sets beside each other, each as pictures of its own.

    The arguments are those of `write_gif`.

    Raises:
        InputError: shapes or dtypes do not fit.
    """
    case = forecast_case(observed, forecasts, mask, inputs, input_mask, issue_time, step_minutes)
    return animation_of(case, frames_per_second, title, source)


def animation_of(scene: Scene, frames_per_second: float, title: str, source: str) -> Animation:
    """Draw the panels of a scene, its map's lines apart from what lies under them.

    Raises:
        InputError: the speed is not within (0, 50].
    """
    durations_ms = frame_durations_ms(scene.frames, frames_per_second)
    height, width = scene.panel_size
    size = text_size(width)
    bare = replace(scene, lines=None)
    panels = []
    for index, field in enumerate(scene.fields):
        pictures: dict[int, bytes] = {}
        before = None
        for frame in range(scene.frames):
            canvas = Canvas(width + 2, height + 2)
            draw_panel(canvas, 1, 1, bare, index, frame, size)
            if before is None or not np.array_equal(canvas.entries, before.entries):
                pictures[frame] = _png(canvas)
            before = canvas
        panels.append(Panel(field.name, tuple(pictures.values()), tuple(pictures)))
    legend = Canvas(legend_width(LEGEND_SIZE) + 2, legends_height(scene, LEGEND_SIZE) + 2)
    draw_legends(legend, 1, 1, scene, LEGEND_SIZE)
    return Animation(
        title=title,
        source=source,
        panels=tuple(panels),
        frame_labels=tuple(scene.label(frame) for frame in range(scene.frames)),
        issue_frame=scene.issue_frame,
        durations_ms=tuple(durations_ms),
        legend=_png(legend),
        lines=None if scene.lines is None else _lines_png(scene.lines),
    )


def _lines_png(lines: np.ndarray) -> bytes:
    """The map's lines within the border that a panel has, which is left out here."""
    canvas = Canvas(lines.shape[1] + 2, lines.shape[0] + 2)
    canvas.entries[:] = NOTHING
    canvas.entries[1:-1, 1:-1] = lines
    stream = io.BytesIO()
    canvas.image().save(stream, format="PNG", transparency=NOTHING, compress_level=COMPRESSION)
    return stream.getvalue()


def _png(canvas: Canvas) -> bytes:
    """A picture as PNG; one of fields alone, without text, needs half a byte per pixel."""
    stream = io.BytesIO()
    bits = 4 if canvas.entries.max() < PAPER else 8
    canvas.image().save(stream, format="PNG", bits=bits, compress_level=COMPRESSION)
    return stream.getvalue()
