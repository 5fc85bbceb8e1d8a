"""The animation: fields side by side, frame by frame, and the GIF.

How a panel is drawn is decided here for a page's panels too.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.rendering.canvas import (
    Canvas,
    legend_height,
    legend_width,
    line_height,
    shortened,
    text_width,
    wrapped,
)
from nowcast.rendering.fields import Scene, forecast_case, hour
from nowcast.rendering.palette import PAPER

MOST_PANELS_IN_A_ROW = 4
GAP = 12
LAST_FRAME_SECONDS = 1.5


def write_gif(
    path: str | os.PathLike[str],
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
) -> None:
    """Write an animated GIF of what was observed beside what was forecast.

    First the input frames, during which the forecasts' panels say when they start, then the lead
    times. The last frame stays for a while. Grids are enlarged by a whole factor to at least 240
    pixels.

    Args:
        path: the file to write.
        observed: observed pixel values (time, y, x) at the lead times, in [0, 1].
        forecasts: forecast pixel values (time, y, x) by the name shown above the panel, in order.
        mask: True where there is coverage at the lead times, (time, y, x), shown in all panels so
            that they compare; None if everywhere. NaN is no coverage in any case.
        inputs: observed pixel values (time, y, x) up to the issue time, the last one at it.
        input_mask: the same as `mask` for `inputs`.
        issue_time: valid time of the last input frame, UTC; the first lead time is a step later.
        step_minutes: minutes between frames.
        frames_per_second: speed.
        title: a headline, on up to two lines.
        source: credit line for the observations, on up to two lines.

    Raises:
        InputError: shapes or dtypes do not fit.
    """
    case = forecast_case(observed, forecasts, mask, inputs, input_mask, issue_time, step_minutes)
    save_gif(path, case, frames_per_second, title, source)


def save_gif(
    path: str | os.PathLike[str], scene: Scene, frames_per_second: float, title: str, source: str
) -> None:
    """Write the frames of a scene as an animated GIF.

    Raises:
        InputError: the speed is not within (0, 50].
    """
    durations_ms = frame_durations_ms(scene.frames, frames_per_second)
    images = [canvas.image() for canvas in draw_frames(scene, title, source)]
    with replacing(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=durations_ms,
            loop=0,
            optimize=False,
            disposal=1,
        )


def draw_frames(scene: Scene, title: str, source: str) -> Iterator[Canvas]:
    """Draw every frame of a scene, all panels on it, with title, times, legends and credit.

    Args:
        scene: what is shown.
        title: a headline, on up to two lines.
        source: credit line for the observations, on up to two lines.
    """
    layout = _layout(scene, title, source)
    background = _background(scene, layout)
    for frame in range(scene.frames):
        canvas = background.copy()
        forecast = frame >= scene.issue_frame
        canvas.text(GAP, layout.time_top, scene.label(frame), layout.size, bold=forecast)
        for index, (x, y) in enumerate(layout.panels):
            draw_panel(canvas, x, y, scene, index, frame, layout.size)
        yield canvas


def frame_durations_ms(frames: int, frames_per_second: float) -> list[int]:
    """How long each frame is shown, the last one longest.

    Raises:
        InputError: the speed is not within (0, 50].
    """
    if not 0 < frames_per_second <= 50:
        raise InputError(
            f"frames per second: found {frames_per_second}, expected more than 0 and up to 50"
        )
    duration_ms = round(100 / frames_per_second) * 10
    return [duration_ms] * (frames - 1) + [max(duration_ms, round(LAST_FRAME_SECONDS * 1000))]


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in pixels."""

    width: int
    height: int
    size: int
    title: list[str]
    source: list[str]
    time_top: int
    panels: list[tuple[int, int]]
    legend_top: int


def _layout(scene: Scene, title: str, source: str) -> _Layout:
    panel_height, panel_width = scene.panel_size
    size = text_size(panel_width)
    rows = -(-len(scene.fields) // MOST_PANELS_IN_A_ROW)
    columns = -(-len(scene.fields) // rows)
    panels_width = columns * panel_width + (columns - 1) * GAP
    needed = max(
        panels_width,
        legend_width(size),
        max(text_width(scene.label(frame), size, bold=True) for frame in range(scene.frames)),
    )
    width = needed + 2 * GAP
    title_lines = wrapped(title, needed, size + 2, bold=True)
    source_lines = wrapped(source, needed, size - 2)
    time_top = GAP + len(title_lines) * line_height(size + 2)
    panels_top = time_top + line_height(size) + GAP // 2
    row_height = line_height(size) + panel_height + GAP
    left = (width - panels_width) // 2
    legend_top = panels_top + rows * row_height
    source_top = legend_top + legends_height(scene, size)
    return _Layout(
        width=width,
        height=source_top + len(source_lines) * line_height(size - 2) + GAP,
        size=size,
        title=title_lines,
        source=source_lines,
        time_top=time_top,
        panels=[
            (
                left + index % columns * (panel_width + GAP),
                panels_top + index // columns * row_height + line_height(size),
            )
            for index in range(len(scene.fields))
        ],
        legend_top=legend_top,
    )


def _background(scene: Scene, layout: _Layout) -> Canvas:
    """All that stays the same from frame to frame."""
    canvas = Canvas(layout.width, layout.height)
    size = layout.size
    for index, line in enumerate(layout.title):
        canvas.text(GAP, GAP + index * line_height(size + 2), line, size + 2, bold=True)
    _, panel_width = scene.panel_size
    for field, (x, y) in zip(scene.fields, layout.panels, strict=True):
        label = shortened(field.name, panel_width, size, bold=True)
        canvas.text(x, y - line_height(size) - 1, label, size, bold=True)
    legend_left = (layout.width - legend_width(size)) // 2
    draw_legends(canvas, legend_left, layout.legend_top, scene, size)
    source_top = layout.legend_top + legends_height(scene, size)
    for index, line in enumerate(layout.source):
        canvas.text(GAP, source_top + index * line_height(size - 2), line, size - 2)
    return canvas


def legends_height(scene: Scene, size: int) -> int:
    """Height of the legends of all scales in pixels."""
    return len(scene.scales) * legend_height(size)


def draw_legends(canvas: Canvas, x: int, y: int, scene: Scene, size: int) -> None:
    """Draw the legend of every scale, one below the other."""
    for scale in scene.scales:
        canvas.legend(x, y, size, scale)
        y += legend_height(size)


def text_size(panel_width: int) -> int:
    """Height of the text of panels, in pixels."""
    return int(np.clip(panel_width // 17, 14, 22))


def draw_panel(
    canvas: Canvas, x: int, y: int, scene: Scene, index: int, frame: int, size: int
) -> None:
    """Draw one of the fields at a frame; forecasts say when they start while inputs are shown."""
    field = scene.fields[index]
    if frame >= field.first_frame:
        canvas.panel(x, y, field.classes[frame - field.first_frame], scene.factor, scene.lines)
        return
    height, width = scene.panel_size
    canvas.panel(x, y, np.full((height, width), PAPER, np.uint8), 1, scene.lines)
    middle, top = x + width // 2, y + height // 2 - line_height(size)
    canvas.text(middle, top, "forecast from", size, align="middle")
    canvas.text(middle, top + line_height(size), hour(scene.issue_time), size, align="middle")
