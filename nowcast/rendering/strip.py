"""The strip: one PNG with a row per method and a column per lead time."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.rendering.canvas import (
    Canvas,
    enlargement,
    legend_height,
    legend_width,
    line_height,
    plain,
    text_width,
    wrapped,
)
from nowcast.rendering.fields import forecast_case

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
    there = range(1, len(observed) + 1)
    if not lead_steps or any(step not in there for step in lead_steps):
        raise InputError(
            f"lead times to show: found {list(lead_steps)}, expected within 1 to {there[-1]}"
        )
    factor = enlargement(*observed.shape[1:])
    panel_height, panel_width = (side * factor for side in observed.shape[1:])
    size = int(np.clip(panel_width // 17, 14, 22))
    longest_name = max(text_width(plain(name), size, bold=True) for name in case.fields)
    names_width = min(longest_name, WIDEST_NAME_SIZES * size) + GAP
    needed = max(
        names_width + len(lead_steps) * (panel_width + GAP),
        legend_width(size),
        text_width(case.valid_time(0), size) * 2,
    )
    headline = wrapped(title, needed, size + 2, bold=True)
    credit = wrapped(source, needed, size - 2)
    panels_top = GAP + len(headline) * line_height(size + 2) + 3 * line_height(size)
    legend_top = panels_top + len(case.fields) * (panel_height + GAP)
    height = legend_top + legend_height(size) + len(credit) * line_height(size - 2) + GAP
    canvas = Canvas(needed + 2 * GAP, height)

    for index, line in enumerate(headline):
        canvas.text(GAP, GAP + index * line_height(size + 2), line, size + 2, bold=True)
    canvas.text(GAP, panels_top - 3 * line_height(size), f"issued {case.valid_time(0)}", size)
    for column, step in enumerate(lead_steps):
        x = GAP + names_width + column * (panel_width + GAP)
        middle = x + panel_width // 2
        time = case.valid_time(step).split(" ", 1)[1]
        canvas.text(
            middle, panels_top - line_height(size) - 2, f"{case.lead_time(step)}  {time}",
            size, bold=True, align="middle",
        )  # fmt: skip
        for row, classes in enumerate(case.fields.values()):
            canvas.panel(x, panels_top + row * (panel_height + GAP), classes[step - 1], factor)
    for row, name in enumerate(case.fields):
        lines = wrapped(name, names_width - GAP, size, NAME_LINES, bold=True)
        middle = panels_top + row * (panel_height + GAP) + panel_height // 2
        for index, line in enumerate(lines):
            top = middle + round((index - len(lines) / 2) * line_height(size))
            canvas.text(GAP, top, line, size, bold=True)
    canvas.legend((needed + 2 * GAP - legend_width(size)) // 2, legend_top, size)
    for index, line in enumerate(credit):
        top = legend_top + legend_height(size) + index * line_height(size - 2)
        canvas.text(GAP, top, line, size - 2)
    with replacing(path) as temporary:
        canvas.image().save(temporary, format="PNG", compress_level=COMPRESSION)
