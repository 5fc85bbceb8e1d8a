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
from nowcast.radar.event_quantities import stated_relation
from nowcast.radar.image_frames import NO_IMAGES, ImageSeries
from nowcast.radar.units import ZRRelation
from nowcast.rendering.map_lines import MapLines

log = logging.getLogger("nowcast")

FRAMES_WITHOUT_TRAINING = 5
"""Frames that methods see which take any number."""


@dataclass(frozen=True)
class RadarSettings:
    """How files of radar are read.

    Args:
        variable: name of the field in NetCDF files and Zarr stores; null finds it by its name or
            CF standard name.
        zr_a: a of the Z–R relation Z = a R^b of reflectivity whose files do not tell it.
        zr_b: b of that relation.
        accumulation_minutes: over how long amounts of rain have fallen whose file does not tell it.
        images: how a folder of images is read.
        skip_unusable: pass over files that are damaged or of another grid instead of refusing them;
            what is then missing is a gap.
    """

    variable: str | None = None
    zr_a: float | None = None
    zr_b: float | None = None
    accumulation_minutes: float | None = None
    images: ImageSeries = NO_IMAGES
    skip_unusable: bool = False

    @property
    def relation(self) -> ZRRelation | None:
        """The Z–R relation, if one is stated.

        Raises:
            InputError: half of it is, or it is none.
        """
        return stated_relation(self.zr_a, self.zr_b)


@dataclass(frozen=True)
class ForecastSettings:
    """What is forecast.

    Args:
        lead_times: how many frames.
        coverage: "moves": the forecast is missing where the air comes from that the last frame did
            not observe, or from beyond the grid; "stays": only where it did not observe.
        longest_gap_minutes: longest time between two frames that is interpolated, along the motion
            of the rain.
        thresholds_mm_h: rain rates of which an ensemble tells how probable it is that they are
            reached.
    """

    lead_times: int = 20
    coverage: Coverage = "moves"
    longest_gap_minutes: float = 15.0
    thresholds_mm_h: Sequence[float] = (0.5, 2.0, 5.0, 10.0)


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
    def last(self) -> int | None:
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
        settings = self.settings
        ensemble = isinstance(self.model, EnsembleMethod)
        started = time.monotonic()
        made = forecast(
            self.model,
            frames,
            settings.lead_times,
            coverage=settings.coverage,
            longest_gap_minutes=settings.longest_gap_minutes,
            thresholds_mm_h=settings.thresholds_mm_h if ensemble else (),
        )
        log.info(
            "%d lead times forecast up to %s UTC (%.1f s)",
            *(settings.lead_times, _said(made["time"].to_numpy()[-1].astype("datetime64[m]"))),
            time.monotonic() - started,
        )
        return [os.fspath(path) for path in self.products.write(made, frames, self.lines)]


def _said(minute: np.datetime64) -> str:
    return str(minute).replace("T", " ")
