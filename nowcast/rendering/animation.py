"""The animation: observed and forecast fields side by side as a GIF.

What a panel shows and what is written over a frame is decided here for a page's panels too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.rendering.canvas import (
    Canvas,
    enlargement,
    legend_height,
    legend_width,
    line_height,
    shortened,
    text_width,
    wrapped,
)
from nowcast.rendering.fields import ForecastCase, forecast_case
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
    durations_ms = frame_durations_ms(len(frame_steps(case)), frames_per_second)
    layout = _layout(case, title, source)
    background = _background(case, layout)
    images = [_frame(background, case, layout, step).image() for step in frame_steps(case)]
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


def frame_steps(case: ForecastCase) -> list[int]:
    """Step of every frame, counted from the issue time: input frames first, then lead times."""
    lead_times = len(case.fields["observed"])
    return [*range(1 - len(case.inputs), 1), *range(1, lead_times + 1)]


def frame_durations_ms(frames: int, frames_per_second: float) -> list[int]:
    """How long each frame is shown, the last one longest.

    Raises:
        InputError: the speed is not within (0, 50].
    """
    if not 0 < frames_per_second <= 50:
        raise InputError(f"frames per second: found {frames_per_second}, expected up to 50")
    duration_ms = round(100 / frames_per_second) * 10
    return [duration_ms] * (frames - 1) + [max(duration_ms, round(LAST_FRAME_SECONDS * 1000))]


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in pixels."""

    width: int
    height: int
    size: int
    factor: int
    title: list[str]
    source: list[str]
    time_top: int
    panels: list[tuple[int, int]]
    legend_top: int


def _layout(case: ForecastCase, title: str, source: str) -> _Layout:
    grid_height, grid_width = case.inputs.shape[1:]
    factor = enlargement(grid_height, grid_width)
    panel_height, panel_width = grid_height * factor, grid_width * factor
    size = text_size(panel_width)
    rows = -(-len(case.fields) // MOST_PANELS_IN_A_ROW)
    columns = -(-len(case.fields) // rows)
    panels_width = columns * panel_width + (columns - 1) * GAP
    needed = max(
        panels_width,
        legend_width(size),
        text_width(time_text(case, 0), size, bold=True) + 2 * size,
    )
    width = needed + 2 * GAP
    title_lines = wrapped(title, needed, size + 2, bold=True)
    source_lines = wrapped(source, needed, size - 2)
    time_top = GAP + len(title_lines) * line_height(size + 2)
    panels_top = time_top + line_height(size) + GAP // 2
    row_height = line_height(size) + panel_height + GAP
    left = (width - panels_width) // 2
    legend_top = panels_top + rows * row_height
    return _Layout(
        width=width,
        height=legend_top + legend_height(size) + len(source_lines) * line_height(size - 2) + GAP,
        size=size,
        factor=factor,
        title=title_lines,
        source=source_lines,
        time_top=time_top,
        panels=[
            (
                left + index % columns * (panel_width + GAP),
                panels_top + index // columns * row_height + line_height(size),
            )
            for index in range(len(case.fields))
        ],
        legend_top=legend_top,
    )


def _background(case: ForecastCase, layout: _Layout) -> Canvas:
    """All that stays the same from frame to frame."""
    canvas = Canvas(layout.width, layout.height)
    size = layout.size
    for index, line in enumerate(layout.title):
        canvas.text(GAP, GAP + index * line_height(size + 2), line, size + 2, bold=True)
    panel_width = case.inputs.shape[2] * layout.factor
    for name, (x, y) in zip(case.fields, layout.panels, strict=True):
        label = shortened(name, panel_width, size, bold=True)
        canvas.text(x, y - line_height(size) - 1, label, size, bold=True)
    legend_left = (layout.width - legend_width(size)) // 2
    canvas.legend(legend_left, layout.legend_top, size)
    source_top = layout.legend_top + legend_height(size)
    for index, line in enumerate(layout.source):
        canvas.text(GAP, source_top + index * line_height(size - 2), line, size - 2)
    return canvas


def time_text(case: ForecastCase, step: int) -> str:
    """Valid time and lead time of a step, as they stand over a frame."""
    kind = "input" if step <= 0 else "lead time"
    return f"valid {case.valid_time(step)}   {kind} {case.lead_time(step)}"


def _frame(background: Canvas, case: ForecastCase, layout: _Layout, step: int) -> Canvas:
    """One frame; the input frames have steps up to 0."""
    canvas = background.copy()
    size = layout.size
    canvas.text(GAP, layout.time_top, time_text(case, step), size, bold=step > 0)
    for index, (x, y) in enumerate(layout.panels):
        draw_panel(canvas, x, y, case, index, step, layout.factor, size)
    return canvas


def text_size(panel_width: int) -> int:
    """Height of the text of panels, in pixels."""
    return int(np.clip(panel_width // 17, 14, 22))


def draw_panel(
    canvas: Canvas,
    x: int,
    y: int,
    case: ForecastCase,
    index: int,
    step: int,
    factor: int,
    size: int,
) -> None:
    """Draw one of the fields at a step; forecasts say when they start while inputs are shown."""
    classes = list(case.fields.values())[index]
    if step > 0:
        canvas.panel(x, y, classes[step - 1], factor)
    elif index == 0:
        canvas.panel(x, y, case.inputs[step - 1], factor)
    else:
        height, width = (side * factor for side in classes.shape[1:])
        canvas.panel(x, y, np.full((height, width), PAPER, np.uint8), 1)
        middle, top = x + width // 2, y + height // 2 - line_height(size)
        canvas.text(middle, top, "forecast from", size, align="middle")
        time = case.valid_time(0).split(" ", 1)[1]
        canvas.text(middle, top + line_height(size), time, size, align="middle")
