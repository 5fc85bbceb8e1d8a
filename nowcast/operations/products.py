"""What is made of a forecast: files for programs, pictures for people."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import xarray as xr

from nowcast.errors import InputError
from nowcast.files import check_place
from nowcast.inference.forecast_files import check_forecast_place, write_forecast
from nowcast.rendering.animation import frame_durations_ms
from nowcast.rendering.forecast_pictures import (
    write_forecast_gif,
    write_forecast_page,
    write_forecast_png,
    write_forecast_video,
)
from nowcast.rendering.map_images import write_map_images
from nowcast.rendering.map_lines import MapLines

log = logging.getLogger("nowcast")

ENDINGS = {"gif": ".gif", "png": ".png", "mp4": ".mp4", "html": ".html"}


@dataclass(frozen=True)
class Products:
    """What is made of a forecast; names may have the time of the last frame in them, as in
    rain_%Y%m%d%H%M.nc.

    Args:
        out: NetCDF file, or Zarr store where it ends in .zarr; null writes none.
        gif: animation of the observed frames and the forecast.
        png: a few lead times beside each other.
        mp4: the animation as a video for browsers and phones.
        html: a page that plays it, with sliders for time and opacity.
        maps: folder for georeferenced pictures to lay over a map, one per lead time.
        title: headline of the pictures.
        frames_per_second: speed of the animations.
    """

    out: Path | None = Path("forecast.nc")
    gif: Path | None = None
    png: Path | None = None
    mp4: Path | None = None
    html: Path | None = None
    maps: Path | None = None
    title: str = ""
    frames_per_second: float = 5.0

    def check(self) -> None:
        """Refuse what cannot be written, before anything is read or forecast.

        Raises:
            InputError: nothing is asked for, a name has the wrong ending, or its place cannot be
                written to.
        """
        if not any((self.out, self.gif, self.png, self.mp4, self.html, self.maps)):
            raise InputError("found no product, expected one of out, gif, png, mp4, html, maps")
        frame_durations_ms(1, self.frames_per_second)
        now = datetime.now()
        if self.out is not None:
            check_forecast_place(_named(self.out, now))
        for name, ending in ENDINGS.items():
            path = getattr(self, name)
            if path is None:
                continue
            if path.suffix.lower() != ending:
                raise InputError(
                    f"{path}: found {path.suffix or 'nothing'} at its end, expected {ending}"
                )
            check_place(_named(path, now))
        if self.maps is not None:
            check_place(_named(self.maps, now), folder=True)

    def check_apart(self, inputs: Iterable[Path]) -> None:
        """Refuse to write over what is read, or into a folder that is watched.

        Args:
            inputs: files, or folders.

        Raises:
            InputError: a product would lie there.
        """
        made = (getattr(self, name) for name in ("out", "maps", *ENDINGS))
        for path in (path.absolute() for path in made if path is not None):
            for one in (one.absolute() for one in inputs):
                if path == one or one in path.parents:
                    raise InputError(f"{path}: found it at or in {one}, which is read")

    def write(self, forecast: xr.Dataset, observed: xr.DataArray, lines: MapLines) -> list[Path]:
        """Write what is asked for; each file is whole or as it was before.

        Args:
            forecast: from `nowcast.forecast`.
            observed: the frames that it was made from.
            lines: of the map.

        Returns:
            The files and folders.

        Raises:
            InputError: the forecast cannot be shown so.
            OSError: the system refuses it.
        """
        issued = forecast["forecast_reference_time"].to_numpy().astype("datetime64[s]").item()
        title = self.title or f"Rain forecast of {issued:%Y-%m-%d %H:%M} UTC"
        said = [forecast.attrs["source"]]
        if "institution" in forecast.attrs:
            said.insert(0, f"Radar: {forecast.attrs['institution']}")
        shown: dict[str, Any] = {"title": title, "source": ". ".join(said), "lines": lines}
        moving: dict[str, Any] = {
            "observed": observed,
            "frames_per_second": self.frames_per_second,
            **shown,
        }
        facts = {"made by": forecast.attrs["source"]}
        if "license" in forecast.attrs:
            facts["license of the radar data"] = forecast.attrs["license"]
        writers: dict[str, Callable[[Path], object]] = {
            # The first: it is refused where the frames do not tell where they are.
            "maps": lambda path: write_map_images(path, forecast),
            "out": lambda path: write_forecast(forecast, path, title=title),
            "gif": lambda path: write_forecast_gif(path, forecast, **moving),
            "png": lambda path: write_forecast_png(path, forecast, **shown),
            "mp4": lambda path: write_forecast_video(path, forecast, **moving),
            "html": lambda path: write_forecast_page(path, forecast, facts=facts, **moving),
        }
        written = []
        for name, write in writers.items():
            if (pattern := getattr(self, name)) is not None:
                started = time.monotonic()
                path = _named(pattern, issued)
                write(path)
                log.info("%s (%.1f s)", path, time.monotonic() - started)
                written.append(path)
        return written


def _named(path: Path, time: datetime) -> Path:
    """The path, with the time in it where it asks for it."""
    return Path(time.strftime(str(path))) if "%" in str(path) else path
