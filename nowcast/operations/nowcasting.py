"""A nowcast from files of radar: read, forecast, write."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nowcast.inference.coverage import Coverage
from nowcast.inference.forecasting import forecast
from nowcast.method import EnsembleMethod, NowcastMethod
from nowcast.operations.products import Products
from nowcast.rendering.map_lines import MapLines

log = logging.getLogger("nowcast")

THRESHOLDS_MM_H = (0.5, 2.0, 5.0, 10.0)

FRAMES_WITHOUT_TRAINING = 5
"""Frames that methods see which take any number."""


@dataclass(frozen=True)
class ForecastSettings:
    """What is forecast.

    Args:
        lead_times: how many frames, at the time steps of the network, or with another method at
            those of the radar.
        coverage: "moves": the forecast is missing where the air comes from that the last frame did
            not observe, or from beyond the grid; "stays": only where it did not observe.
        longest_gap_minutes: longest time between two frames that is interpolated, along the motion
            of the rain.
        thresholds_mm_h: rain rates of which an ensemble tells how probable it is that they are
            reached; null takes 0.5, 2, 5 and 10 mm/h.
    """

    lead_times: int = 20
    coverage: Coverage = "moves"
    longest_gap_minutes: float = 15.0
    thresholds_mm_h: Sequence[float] | None = None


@dataclass(frozen=True)
class Nowcasting:
    """All that it takes to make nowcasts from frames, one after the other.

    Attributes:
        model: what forecasts.
        settings: what is forecast.
        products: what is made of it.
        lines: of the map in pictures.
    """

    model: NowcastMethod
    settings: ForecastSettings
    products: Products
    lines: MapLines

    @property
    def minutes(self) -> float | None:
        """How much older than the last one frames may be that are used; None if it is no matter."""
        about = getattr(self.model, "description", None)
        if about is None:
            return None
        # The oldest may have to be interpolated from one before it.
        return (about.input_frames - 1) * about.step_minutes + self.settings.longest_gap_minutes

    @property
    def at_most(self) -> int | None:
        """How many frames are used at most."""
        return FRAMES_WITHOUT_TRAINING if self.minutes is None else None

    def __call__(self, frames: xr.DataArray) -> list[str]:
        """Make a nowcast.

        Args:
            frames: the latest, as `nowcast.read_frames` returns them.

        Returns:
            The files and folders that were written.

        Raises:
            InputError: the model cannot forecast from these frames.
            OSError: the system refuses to write.
        """
        times = frames["time"].to_numpy().astype("datetime64[m]")
        log.info(
            "%d frames of %d × %d pixels from %s to %s UTC",
            *(len(frames), *frames.shape[1:], _said(times[0]), _said(times[-1])),
        )
        settings, thresholds = self.settings, self.settings.thresholds_mm_h
        if thresholds is None:
            thresholds = THRESHOLDS_MM_H if isinstance(self.model, EnsembleMethod) else ()
        started = time.monotonic()
        made = forecast(
            self.model,
            frames,
            settings.lead_times,
            coverage=settings.coverage,
            longest_gap_minutes=settings.longest_gap_minutes,
            thresholds_mm_h=thresholds,
        )
        log.info(
            "%d lead times forecast up to %s UTC (%.1f s)",
            *(settings.lead_times, _said(made["time"].to_numpy()[-1].astype("datetime64[m]"))),
            time.monotonic() - started,
        )
        return [os.fspath(path) for path in self.products.write(made, frames, self.lines)]


def _said(minute: np.datetime64) -> str:
    return str(minute).replace("T", " ")
