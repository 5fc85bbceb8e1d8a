"""Forecasts that something else has made, read from NetCDF or Zarr and scored like our own.

What a single file holds is read in `forecast_fields`.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.evaluation.forecast_fields import NO_FORECAST, ForecastField, open_forecasts
from nowcast.progress import progress
from nowcast.radar.clips import step_in_seconds
from nowcast.radar.event_files import is_zarr
from nowcast.radar.units import ZRRelation

SUFFIXES = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5", ".zarr", ".zip")
"""What files and stores of a folder end in; others are passed over."""


class ForecastFile:
    """Issued forecasts of rain in a file, a store, or a folder of either.

    A variable of rain rate or reflectivity, found as in radar events, has the axes issue time,
    lead time, member, place, y and x, in any order:

    - issue time: `forecast_reference_time`, `init_time` and the like, or `time` beside a lead time;
      a scalar of that name for one issue, as `nowcast.forecast` returns it;
    - lead time: `lead_time`, `step`, `prediction_timedelta`, `forecast_period` and the like, in
      units of time;
    - member: `member`, `realization`, `number`, `ensemble`; optional;
    - place: `place`, with names; optional. A file that names none is of the store's only place.

    A folder holds the union of the issues of its files. Row 0 becomes north by the coordinates;
    without them it counts as north. NaN is no forecast there and counts as no rain, what pixel
    values cannot say (60 dBZ and more with HKO-7's Z–R) is clipped.

    Attributes:
        path: the file, store or folder.
        shape: (y, x) of every forecast.
        members: of the ensemble; 1 where it is none.
        oddities: how many pixels have no forecast, or were taken for such because their value
            cannot be, in words.
        replaced: how many clips have pixels without a forecast, by what they count as.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        step_minutes: float,
        places: Sequence[str],
        shape: tuple[int, int] | None = None,
        variable: str | None = None,
        relation: ZRRelation | None = None,
    ) -> None:
        """Read what there is, without the forecasts.

        Args:
            path: the file, store or folder.
            step_minutes: minutes from one lead time to the next.
            places: names of the places whose clips are forecast.
            shape: (y, x) of the frames that are forecast; None leaves it unchecked.
            variable: name of the field; None finds it by its name or CF standard name.
            relation: Z–R relation of a reflectivity whose file has no `zr_a` and `zr_b`.

        Raises:
            InputError: nothing is there, a file is damaged or leaves open what it means, an issue
                stands twice, files differ in grid or members, the grid is not that of the frames,
                or a file says of none of several places that it is theirs.
        """
        self.path = Path(path)
        self.step_seconds = step_in_seconds(step_minutes)
        self.oddities: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        found: Iterable[Path] = _files(self.path)
        if self.path not in found:
            found = progress(found, f"reading {self.path.name}", unit="file")
        self._fields = [open_forecasts(file, variable, relation) for file in found]
        first = self._fields[0]
        self.shape, self.members = first.shape, first.members
        # (place, seconds of issue) → field, number of issue, number of place.
        self._index: dict[tuple[str, int], tuple[ForecastField, int, int]] = {}
        for field in self._fields:
            _check_alike(field, first, shape)
            for number, place in enumerate(_places(field, places)):
                self._enter(field, number, place)

    def _enter(self, field: ForecastField, number: int, place: str) -> None:
        for issue, seconds in enumerate(field.issued.tolist()):
            twin = self._index.setdefault((place, seconds), (field, issue, number))
            if twin[0] is not field:
                raise InputError(
                    f"{field.path}: found the forecasts of {place} issued at {_said(seconds)} in "
                    f"{twin[0].path} too, expected them once"
                )

    def forecast_issued(
        self, places: Sequence[str], issue_times: NDArray[np.datetime64], lead_times: int
    ) -> torch.Tensor:
        """The forecasts issued for each clip.

        Args:
            places: name of each clip's place, `(batch,)`.
            issue_times: valid time of the last observed frame of each clip, `(batch,)`.
            lead_times: how many frames; the first is one time step after the issue time.

        Returns:
            Pixel values, `(batch, member, lead_times, 1, y, x)`, float32, on the CPU.

        Raises:
            InputError: a forecast or a lead time is not there, or a file is damaged.
        """
        seconds = np.asarray(issue_times).astype("datetime64[s]").astype(np.int64).tolist()
        wanted = self.step_seconds * np.arange(1, lead_times + 1)
        by_field: dict[ForecastField, list[tuple[int, int, int]]] = {}
        for clip, key in enumerate(zip(places, seconds, strict=True)):
            field, issue, place = self._index.get(key) or self._refuse(*key)
            by_field.setdefault(field, []).append((clip, issue, place))
        pixels = np.empty((len(places), self.members, lead_times, 1, *self.shape), dtype=np.float32)
        known = set(self.oddities)
        for field, clips in by_field.items():
            with field.reading() as reading:
                for clip, issue, place in clips:
                    empty = self.oddities[NO_FORECAST]
                    reading.fill(pixels[clip, :, :, 0], issue, place, wanted, self.oddities)
                    if self.oddities[NO_FORECAST] > empty:
                        self.replaced[NO_FORECAST] += 1
        for oddity in +self.oddities:
            if oddity not in known:
                logging.getLogger("nowcast").warning("%s: %s (said once)", self.path, oddity)
        return torch.from_numpy(pixels)

    def _refuse(self, place: str, seconds: int) -> tuple[ForecastField, int, int]:
        issued = [at for of, at in self._index if of == place]
        if not issued:
            there = ", ".join(sorted({of for of, _ in self._index}))
            raise InputError(f"{self.path}: found forecasts of {there}, expected {place}")
        raise InputError(
            f"{self.path}: found {len(issued):,} issues of {place} from {_said(min(issued))} to "
            f"{_said(max(issued))}, expected {_said(seconds)} among them"
        )


def _files(path: Path) -> list[Path]:
    if not path.is_dir() or is_zarr(path):
        return [path]
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if not files:
        raise InputError(f"{path}: found no file ending in {', '.join(SUFFIXES)}, expected one")
    return files


def _check_alike(field: ForecastField, first: ForecastField, shape: tuple[int, int] | None) -> None:
    if shape is not None and field.shape != shape:
        raise InputError(
            f"{field.path}: found forecasts of {field.shape[0]} × {field.shape[1]} pixels, the "
            f"frames are {shape[0]} × {shape[1]}"
        )
    if (field.shape, field.members) != (first.shape, first.members):
        raise InputError(
            f"{field.path}: found {field.members} members of {field.shape[0]} × {field.shape[1]} "
            f"pixels, expected {first.members} of {first.shape[0]} × {first.shape[1]} as in "
            f"{first.path}"
        )


def _places(field: ForecastField, places: Sequence[str]) -> tuple[str, ...]:
    if field.places is not None:
        return field.places
    if len(places) != 1:
        raise InputError(
            f"{field.path}: found no place named, expected an axis or a scalar `place` with some "
            f"of {len(places)} places ({', '.join(places[:5])}{', …' if len(places) > 5 else ''})"
        )
    return (places[0],)


def _said(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))
