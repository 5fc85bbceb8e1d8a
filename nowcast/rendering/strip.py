"""The strip: one PNG with a row per field and a column per lead time."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.rendering.animation import draw_legends, draw_panel, legends_height, text_size
from nowcast.rendering.canvas import (
    Canvas,
    legend_width,
    line_height,
    plain,
    text_width,
    wrapped,
)
from nowcast.rendering.fields import Scene, forecast_case, hour, utc

GAP = 10
NAME_LINES = 3
WIDEST_NAME_SIZES = 12

COMPRESSION = 7
"""Of the PNG file: a fifth of the time of the highest level, 9, for a file 8 % larger."""


def write_png_strip(
    path: str | os.PathLike[str],
    observed: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
    mask: np.ndarray | None = None,
    *,
    lead_steps: Sequence[int],
    issue_time: np.datetime64,
    step_minutes: float,
    title: str = "",
    source: str = "",
) -> None:
    """Write one picture of some lead times: observed in the first row, then a row per method.

    Args:
        path: the file to write.
        observed: observed pixel values (time, y, x) at the lead times, in [0, 1].
        forecasts: forecast pixel values (time, y, x) by the name shown beside the row, in order.
        mask: True where there is coverage, (time, y, x), shown in all rows; None if everywhere.
        lead_steps: lead times to show, counted in steps from 1.
        issue_time: UTC; the first lead time is a step later.
        step_minutes: minutes between frames.
        title: a headline, on up to two lines.
        source: credit line for the observations, on up to two lines.

    Raises:
        InputError: shapes or dtypes do not fit, or a lead time is not there.
    """
    case = forecast_case(observed, forecasts, mask, None, None, issue_time, step_minutes)
    save_strip(path, case, lead_steps, title, source)


def save_strip(
    path: str | os.PathLike[str],
    scene: Scene,
    lead_steps: Sequence[int],
    title: str,
    source: str,
) -> None:
    """Write some frames of a scene as one picture, a row per field.

    Args:
        path: the file to write.
        scene: what is shown.
        lead_steps: frames to show, counted from 1, the first one that is forecast.
        title: a headline, on up to two lines.
        source: credit line for the observations, on up to two lines.

    Raises:
        InputError: a lead time is not there.
    """
    there = range(1, scene.frames - scene.issue_frame + 1)
    if not lead_steps or any(step not in there for step in lead_steps):
        raise InputError(
            f"lead times to show: found {list(lead_steps)}, expected within 1 to {there[-1]}"
        )
    panel_height, panel_width = scene.panel_size
    size = text_size(panel_width)
    longest_name = max(text_width(plain(field.name), size, bold=True) for field in scene.fields)
    names_width = min(longest_name, WIDEST_NAME_SIZES * size) + GAP
    issued = utc(scene.issue_time)
    needed = max(
        names_width + len(lead_steps) * (panel_width + GAP),
        legend_width(size),
        text_width(issued, size) * 2,
    )
    headline = wrapped(title, needed, size + 2, bold=True)
    credit = wrapped(source, needed, size - 2)
    panels_top = GAP + len(headline) * line_height(size + 2) + 3 * line_height(size)
    legend_top = panels_top + len(scene.fields) * (panel_height + GAP)
    credit_top = legend_top + legends_height(scene, size)
    canvas = Canvas(needed + 2 * GAP, credit_top + len(credit) * line_height(size - 2) + GAP)

    for index, line in enumerate(headline):
        canvas.text(GAP, GAP + index * line_height(size + 2), line, size + 2, bold=True)
    canvas.text(GAP, panels_top - 3 * line_height(size), f"issued {issued}", size)
    for column, step in enumerate(lead_steps):
        frame = scene.issue_frame + step - 1
        x = GAP + names_width + column * (panel_width + GAP)
        canvas.text(
            x + panel_width // 2, panels_top - line_height(size) - 2,
            f"{scene.lead_time(frame)}  {hour(scene.valid_times[frame])}",
            size, bold=True, align="middle",
        )  # fmt: skip
        for row in range(len(scene.fields)):
            top = panels_top + row * (panel_height + GAP)
            draw_panel(canvas, x, top, scene, row, frame, size)
    for row, field in enumerate(scene.fields):
        lines = wrapped(field.name, names_width - GAP, size, NAME_LINES, bold=True)
        middle = panels_top + row * (panel_height + GAP) + panel_height // 2
        for index, line in enumerate(lines):
            top = middle + round((index - len(lines) / 2) * line_height(size))
            canvas.text(GAP, top, line, size, bold=True)
    draw_legends(canvas, (needed + 2 * GAP - legend_width(size)) // 2, legend_top, scene, size)
    for index, line in enumerate(credit):
        canvas.text(GAP, credit_top + index * line_height(size - 2), line, size - 2)
    with replacing(path) as temporary:
        canvas.image().save(temporary, format="PNG", compress_level=COMPRESSION)
