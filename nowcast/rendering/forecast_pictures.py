"""A forecast in the hour in which it is made, before its lead times are observed, as a GIF, a PNG,
a video and a page: what was observed up to the issue time, then the forecast.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from nowcast.rendering.animation import (
    LAST_FRAME_SECONDS,
    MOST_PANELS_IN_A_ROW,
    draw_frames,
    save_gif,
)
from nowcast.rendering.fields import Scene, utc
from nowcast.rendering.forecast_scene import LARGEST_SIDE, PROBABILITIES, forecast_scene, reduction
from nowcast.rendering.map_lines import ALL_LINES, MapLines, lines_of
from nowcast.rendering.page import write_page
from nowcast.rendering.panels import animation_of
from nowcast.rendering.strip import save_strip
from nowcast.rendering.video import write_video

STRIP_SIDE = 480
"""Pixels that the longer side of a strip's panels has at most."""

STRIP_LEAD_TIMES = 4

ROW_SIDE = 2560
"""Pixels that panels beside each other may have together, if one panel fits in that."""


def write_forecast_gif(
    path: str | os.PathLike[str],
    forecast: xr.Dataset,
    observed: xr.DataArray | None = None,
    *,
    title: str = "",
    source: str = "",
    frames_per_second: float = 5.0,
    lines: MapLines | None = ALL_LINES,
) -> None:
    """Write an animated GIF: observed frames first, then the forecast.

    Grids larger than 1280 pixels are reduced to block means, as `forecast_scene` says, small ones
    enlarged. An ensemble's `exceedance_probability` gets a panel per threshold, with a legend in %;
    three panels beside each other have at most 853 pixels each, four 640.

    Args:
        path: the file to write.
        forecast: as `nowcast.forecast` returns it; north is drawn at the top.
        observed: rain rates (time, y, x) in mm/h on the same grid, as `nowcast.read_frames` returns
            them; those up to the issue time are shown, whatever their time step.
        title: a headline, on up to two lines.
        source: credit line for the observations, on up to two lines.
        frames_per_second: speed.
        lines: lines of the map, which are drawn where the forecast says where it lies; None draws
            none.

    Raises:
        InputError: dimensions, units, times, grids or the speed do not fit.
    """
    scene = _scene(forecast, observed, lines, _side_in_row(forecast))
    save_gif(path, scene, frames_per_second, title, source)


def write_forecast_video(
    path: str | os.PathLike[str],
    forecast: xr.Dataset,
    observed: xr.DataArray | None = None,
    *,
    title: str = "",
    source: str = "",
    frames_per_second: float = 5.0,
    lines: MapLines | None = ALL_LINES,
) -> None:
    """Write the frames of `write_forecast_gif` as an MP4 that browsers and phones play.

    The arguments are those of `write_forecast_gif`.

    Raises:
        InputError: see `write_forecast_gif`; or PyAV is not installed.
    """
    scene = _scene(forecast, observed, lines, _side_in_row(forecast))
    pictures = (canvas.image() for canvas in draw_frames(scene, title, source))
    write_video(path, pictures, frames_per_second, LAST_FRAME_SECONDS)


def write_forecast_png(
    path: str | os.PathLike[str],
    forecast: xr.Dataset,
    *,
    title: str = "",
    source: str = "",
    lead_steps: Sequence[int] | None = None,
    lines: MapLines | None = ALL_LINES,
) -> None:
    """Write some lead times beside each other as one picture, panels of at most 480 pixels.

    Args:
        path: the file to write.
        forecast: see `write_forecast_gif`.
        title: see `write_forecast_gif`.
        source: see `write_forecast_gif`.
        lead_steps: lead times, counted from 1; None shows four, evenly spaced, the last among them.
        lines: see `write_forecast_gif`.

    Raises:
        InputError: see `write_forecast_gif`; or a lead time is not there.
    """
    scene = _scene(forecast, None, lines, STRIP_SIDE)
    if lead_steps is None:
        shown = min(STRIP_LEAD_TIMES, scene.frames)
        lead_steps = [round(step) for step in np.linspace(0, scene.frames, shown + 1)[1:]]
    save_strip(path, scene, lead_steps, title, source)


def write_forecast_page(
    path: str | os.PathLike[str],
    forecast: xr.Dataset,
    observed: xr.DataArray | None = None,
    *,
    title: str = "",
    source: str = "",
    facts: Mapping[str, str] | None = None,
    frames_per_second: float = 5.0,
    lines: MapLines | None = ALL_LINES,
) -> None:
    """Write one HTML file that plays the forecast, with a slider for time and one for opacity.

    It needs nothing beside itself: it opens from a disk and without a network, on a phone too.

    Args:
        path: the file to write.
        forecast: see `write_forecast_gif`.
        observed: see `write_forecast_gif`.
        title: a headline; the issue time where it is empty.
        source: see `write_forecast_gif`.
        facts: what else there is to know, model and version say: names and values.
        frames_per_second: speed at first.
        lines: see `write_forecast_gif`.

    Raises:
        InputError: see `write_forecast_gif`.
    """
    scene = _scene(forecast, observed, lines)
    issued = utc(scene.issue_time)
    height, width = forecast["rain_rate"].shape[1:]
    write_page(
        path,
        title=title or f"Rain forecast of {issued}",
        facts={
            "issued": issued,
            "lead times": f"{scene.frames - scene.issue_frame}, up to "
            f"{scene.lead_time(scene.frames - 1)}",
            "grid": f"{height} × {width} pixels",
            **(facts or {}),
        },
        animations=[animation_of(scene, frames_per_second, "", source)],
    )


def _side_in_row(forecast: xr.Dataset) -> int:
    """Pixels that the longer side of each panel may have where all stand on one picture."""
    panels = 1 + (forecast.sizes["threshold"] if PROBABILITIES in forecast else 0)
    return min(LARGEST_SIDE, ROW_SIDE // min(panels, MOST_PANELS_IN_A_ROW))


def _scene(
    forecast: xr.Dataset,
    observed: xr.DataArray | None,
    lines: MapLines | None,
    largest_side: int = LARGEST_SIDE,
) -> Scene:
    scene = forecast_scene(forecast, observed, largest_side)
    factor = reduction(forecast["rain_rate"].shape[1:], largest_side)
    return replace(scene, lines=lines_of(forecast, lines, factor, scene.factor))
