"""The latest frames that files of radar have, as an operator says how they are read."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import xarray as xr

from nowcast.radar.event_arrays import as_array, frame_paths, pass_over, refuse
from nowcast.radar.event_quantities import stated_relation
from nowcast.radar.event_sources import open_source
from nowcast.radar.image_frames import NO_IMAGES, ImageSeries
from nowcast.radar.latest_frames import Frame, FrameFiles, latest_frames


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


class LatestFrames:
    """The latest frames of files, looked into once until they change.

    Args:
        radar: how they are read.
        at_most: so many frames; None for any number.
        minutes: none that is so much older than the latest; None for all.

    Raises:
        InputError: half of a Z–R relation is stated, or none that is one.
    """

    def __init__(self, radar: RadarSettings, at_most: int | None, minutes: float | None) -> None:
        relation = stated_relation(radar.zr_a, radar.zr_b)
        open_field = partial(
            open_source,
            variable=radar.variable,
            relation=relation,
            accumulation_minutes=radar.accumulation_minutes,
            images=radar.images,
        )
        self.radar, self.at_most, self.minutes = radar, at_most, minutes
        self._files = FrameFiles(open_field, relation)
        self._frames: dict[int, Frame] = {}

    def read(
        self, paths: Iterable[str | os.PathLike[str]], not_after: float = math.inf
    ) -> xr.DataArray:
        """The frames, as `nowcast.read_frames` returns them.

        Args:
            paths: as of `nowcast.read_frames`.
            not_after: seconds since 1970-01-01 UTC; frames of later times are passed over.

        Raises:
            InputError: there are none, or some cannot be used and are not to be passed over.
        """
        unusable = pass_over if self.radar.skip_unusable else refuse
        files = self._files.among(frame_paths(paths, self.radar.images), unusable)
        files = [file for file in files if max(file.seconds) <= not_after]
        self._frames = latest_frames(files, self.at_most, self.minutes, unusable)
        return as_array(self._frames)

    def read_if_new(
        self, paths: Iterable[str | os.PathLike[str]], not_after: float = math.inf
    ) -> xr.DataArray | None:
        """As `read`; None where the frames are those that were read before."""
        before = self._frames
        found = self.read(paths, not_after)
        same = [(second, frame.file) for second, frame in before.items()] == [
            (second, frame.file) for second, frame in self._frames.items()
        ]
        return None if same else found
