"""An animation in parts, for a page that sets them out itself: panels, times, legend.

Drawn as in the GIF, which is `animation`; the page is `page`.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nowcast.rendering.animation import (
    draw_panel,
    frame_durations_ms,
    frame_steps,
    text_size,
    time_text,
)
from nowcast.rendering.canvas import Canvas, enlargement, legend_height, legend_width
from nowcast.rendering.fields import forecast_case
from nowcast.rendering.palette import PAPER

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
    """

    title: str
    source: str
    panels: tuple[Panel, ...]
    frame_labels: tuple[str, ...]
    issue_frame: int
    durations_ms: tuple[int, ...]
    legend: bytes


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
    steps = frame_steps(case)
    durations_ms = frame_durations_ms(len(steps), frames_per_second)
    factor = enlargement(*case.inputs.shape[1:])
    height, width = (side * factor for side in case.inputs.shape[1:])
    size = text_size(width)
    panels = []
    for index, name in enumerate(case.fields):
        pictures: dict[int, bytes] = {}
        before = None
        for frame, step in enumerate(steps):
            canvas = Canvas(width + 2, height + 2)
            draw_panel(canvas, 1, 1, case, index, step, factor, size)
            if before is None or not np.array_equal(canvas.entries, before.entries):
                pictures[frame] = _png(canvas)
            before = canvas
        panels.append(Panel(name, tuple(pictures.values()), tuple(pictures)))
    legend = Canvas(legend_width(LEGEND_SIZE) + 2, legend_height(LEGEND_SIZE) + 2)
    legend.legend(1, 1, LEGEND_SIZE)
    return Animation(
        title=title,
        source=source,
        panels=tuple(panels),
        frame_labels=tuple(time_text(case, step) for step in steps),
        issue_frame=len(case.inputs),
        durations_ms=tuple(durations_ms),
        legend=_png(legend),
    )


def _png(canvas: Canvas) -> bytes:
    """A picture as PNG; one of fields alone, without text, needs half a byte per pixel."""
    stream = io.BytesIO()
    bits = 4 if canvas.entries.max() < PAPER else 8
    canvas.image().save(stream, format="PNG", bits=bits, compress_level=COMPRESSION)
    return stream.getvalue()
