"""One file or store of forecasts: what it says of itself, and its numbers as pixel values.

Which axis is which is in `forecast_axes`; several files at once, and the protocol through which
they are evaluated, are in `forecast_files`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.evaluation.forecast_axes import (
    ForecastAxes,
    axes_of,
    flips,
    issue_seconds,
    lead_seconds,
)
from nowcast.radar.event_files import opened
from nowcast.radar.event_quantities import (
    accumulation_minutes_of,
    field_of_rain,
    quantity_and_factor,
)
from nowcast.radar.event_values import (
    decoded,
    mask_impossible_rain,
    mask_impossible_reflectivity,
    valid_limits,
)
from nowcast.radar.events import HIGHEST_DBZ, HIGHEST_RAIN_RATE_MM_H
from nowcast.radar.units import ZRRelation, rain_rate_to_pixel

DECODED_BYTES = 2**26
"""Forecast fields are turned into pixel values several at once, up to this size."""

NO_FORECAST = "values that are no forecast (NaN) count as no rain"


@dataclass(frozen=True, eq=False)
class ForecastField:
    """A variable of forecasts in a file or store; its numbers are read when asked for.

    Attributes:
        path: the file or store.
        variable: name of the variable.
        axes: which of its axes is which.
        issued: seconds since 1970-01-01 UTC of each issue, ascending.
        lead: seconds from issue to valid time of each lead time.
        members: of the ensemble; 1 where it is none.
        places: names along the axis of places, or the one that the file states; None where it
            states none.
        shape: (y, x).
        flipped: whether y runs from south to north, and x from east to west.
        relation: the Z–R relation of reflectivity; None for rain.
        to_mm_h: what rain is multiplied by.
    """

    path: Path
    variable: str
    axes: ForecastAxes
    issued: NDArray[np.int64]
    lead: NDArray[np.int64]
    members: int
    places: tuple[str, ...] | None
    shape: tuple[int, int]
    flipped: tuple[bool, bool]
    relation: ZRRelation | None
    to_mm_h: float

    @contextmanager
    def reading(self) -> Iterator["ForecastReading"]:
        """Its numbers, while the file is open.

        Raises:
            InputError: the file is damaged, with its path.
        """
        with opened(self.path, only=self.variable) as dataset:
            yield ForecastReading(self, dataset.variables[self.variable])

    def pixels(self, values: NDArray[np.float64], oddities: Counter[str]) -> NDArray[np.float32]:
        """Pixel values in [0, 1] of decoded values; NaN, no forecast there, is 0."""
        if self.relation is not None:
            mask_impossible_reflectivity(values, oddities)
            rate = self.relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
        else:
            rate = values * self.to_mm_h
            mask_impossible_rain(rate, oddities)
        pixels = np.zeros(rate.shape, dtype=np.float32)
        # Most pixels are dry, and logarithms are most of the work.
        wet = rate > 0
        pixels[wet] = rain_rate_to_pixel(np.minimum(rate[wet], HIGHEST_RAIN_RATE_MM_H)).clip(0, 1)
        return pixels


@dataclass(frozen=True, eq=False)
class ForecastReading:
    """An open file of forecasts."""

    field: ForecastField
    raw: xr.Variable

    def fill(
        self,
        pixels: NDArray[np.float32],
        issue: int,
        place: int,
        lead_seconds: NDArray[np.int64],
        oddities: Counter[str],
    ) -> None:
        """Read the forecasts of one issue and place.

        Args:
            pixels: filled, `(member, lead_times, y, x)`, row 0 north.
            issue: its number in the file.
            place: its number in the file.
            lead_seconds: the lead times wanted.
            oddities: counts values that are taken for "no forecast there", in words.

        Raises:
            InputError: a lead time is not there.
        """
        field, axes = self.field, self.field.axes
        along = {int(seconds): number for number, seconds in enumerate(field.lead)}
        missing = [seconds for seconds in lead_seconds.tolist() if seconds not in along]
        if missing:
            raise InputError(
                f"found lead times from {field.lead.min() / 60:g} to "
                f"{field.lead.max() / 60:g} minutes ({len(field.lead)} of them), expected "
                f"{missing[0] / 60:g} minutes among them"
            )
        numbers = [along[seconds] for seconds in lead_seconds.tolist()]
        fixed = dict.fromkeys(axes.single, 0)
        for name, number in ((axes.issue, issue), (axes.place, place)):
            if name is not None:
                fixed[name] = number
        frame_bytes = 8 * math.prod(field.shape)
        at_once = max(1, DECODED_BYTES // frame_bytes)
        for member in range(field.members):
            if axes.member is not None:
                fixed[axes.member] = member
            for first in range(0, len(numbers), at_once):
                wanted = slice(first, first + at_once)
                window = self.raw.isel({**fixed, axes.lead: _indexer(numbers[wanted])})
                loaded = xr.Variable(window.dims, window.to_numpy(), self.raw.attrs)
                values = decoded(loaded.transpose(axes.lead, axes.y, axes.x), oddities)
                oddities[NO_FORECAST] += int(np.count_nonzero(np.isnan(values)))
                backwards = tuple(axis for axis, flip in enumerate(field.flipped, 1) if flip)
                pixels[member, wanted] = field.pixels(np.flip(values, backwards), oddities)


def open_forecasts(
    path: Path, variable: str | None = None, relation: ZRRelation | None = None
) -> ForecastField:
    """Read what a file or store of forecasts says of itself, without its numbers.

    Args:
        path: a NetCDF-4 file or a Zarr store.
        variable: name of the field; None finds it by its name or CF standard name.
        relation: Z–R relation of a reflectivity whose file has no `zr_a` and `zr_b`.

    Raises:
        InputError: the file is damaged, has no forecasts of rain, or leaves open what they mean.
    """
    with opened(path) as raw:
        dataset = xr.decode_cf(raw, decode_times=False, decode_timedelta=False)
        field = field_of_rain(dataset, variable)
        valid_limits(field.attrs)
        axes = axes_of(field)
        issued = issue_seconds(dataset, axes)
        own_relation, to_mm_h = _meaning(field, {**dataset.attrs, **field.attrs}, relation)
        return ForecastField(
            path=path,
            variable=str(field.name),
            axes=axes,
            issued=issued,
            lead=lead_seconds(dataset, axes, issued),
            members=1 if axes.member is None else field.sizes[axes.member],
            places=_places(dataset, axes),
            shape=(field.sizes[axes.y], field.sizes[axes.x]),
            flipped=flips(dataset, axes),
            relation=own_relation,
            to_mm_h=to_mm_h,
        )


def _meaning(
    field: xr.DataArray, attributes: Mapping[str, Any], stated: ZRRelation | None
) -> tuple[ZRRelation | None, float]:
    """The Z–R relation of reflectivity, or None, and the factor of rain to mm/h."""
    quantity, factor = quantity_and_factor(field)
    if quantity == "rain rate":
        return None, factor
    if quantity == "rain amount":
        return None, factor * 60 / accumulation_minutes_of(None, attributes, None)
    if {"zr_a", "zr_b"} <= attributes.keys():
        return ZRRelation(float(attributes["zr_a"]), float(attributes["zr_b"])), 1.0
    if stated is None:
        raise InputError(
            "found no zr_a and zr_b, expected the Z–R relation of reflectivity, in the file or "
            "stated beside it"
        )
    return stated, 1.0


def _places(dataset: xr.Dataset, axes: ForecastAxes) -> tuple[str, ...] | None:
    name = axes.place or "place"
    if name not in dataset.variables:
        if axes.place is None:
            return None
        raise InputError(f"found no coordinate {name}, expected the names of the places")
    names = [
        value.decode() if isinstance(value, bytes) else str(value)
        for value in dataset[name].to_numpy().reshape(-1).tolist()
    ]
    if len(set(names)) != len(names) or (axes.place is None and len(names) != 1):
        raise InputError(f"found places {', '.join(names)}, expected each once along an axis")
    return tuple(names)


def _indexer(numbers: list[int]) -> slice | list[int]:
    """The numbers as a slice, which reads fastest, if they follow each other."""
    first, last = numbers[0], numbers[-1]
    return slice(first, last + 1) if numbers == list(range(first, last + 1)) else numbers
