"""Events in CF NetCDF-4 files and Zarr stores: `reflectivity(time, y, x)`, rain rate or amount.

Files are opened in `event_files`; which quantity a variable holds is in `event_quantities`, which
of its numbers are not observed in `event_values`, which way its axes run in `event_axes`, its times
are in `event_times`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.event_axes import north_south_first, spacing_and_flips
from nowcast.radar.event_files import content_stamp, hides_zero, opened
from nowcast.radar.event_quantities import (
    accumulation_minutes_of,
    field_of_rain,
    quantity_and_factor,
)
from nowcast.radar.event_times import bounds_minutes, seconds_of, usable_frames
from nowcast.radar.event_values import (
    decoded,
    rain_rate_of,
    valid_limits,
)
from nowcast.radar.events import (
    MOST_PIXELS,
    Event,
)
from nowcast.radar.units import ZRRelation

WINDOW_BYTES = 2**26
"""Frames are read several at once, as they are stored, up to this size."""

MOST_WINDOW_BYTES = 2**28
"""A chunk of several frames is read at once up to this size, so that it is decoded only once."""

_HIDDEN_ZEROS = (
    "pixels not observed because they hold the store's fill value 0; if 0 is a value, write the "
    "store with another fill_value"
)
_DESCRIBING = (
    "title",
    "institution",
    "source",
    "license",
    "accumulation_minutes",
    "original_units",
)


@dataclass(frozen=True)
class FieldReader:
    """Frames of a variable.

    Attributes:
        path: the file or store.
        stamp: what tells whether it has changed.
        variable: name of the field.
        axes: names of the axes that run north–south and east–west, in that order; in the file
            they may stand the other way round.
        flipped: those of `axes` that run from south to north, or from east to west.
        relation: the Z–R relation of reflectivity; None for rain.
        to_mm_h: what rain is multiplied by; 1 for reflectivity.
        frames_per_chunk: frames that are decoded together.
        numbers: where each frame lies along the variable's time, ascending.
    """

    path: Path = field(repr=False)
    stamp: tuple[str | int, ...]
    variable: str
    axes: tuple[str, str]
    flipped: tuple[int, ...]
    relation: ZRRelation | None
    to_mm_h: float
    frames_per_chunk: int
    numbers: tuple[int, ...]

    def taken(self, numbers: Sequence[int]) -> "FieldReader":
        """A reader of some of its frames alone, given by their places among them."""
        return replace(self, numbers=tuple(self.numbers[number] for number in numbers))

    def chunks(self) -> NDArray[np.int64]:
        """(n,), the number of the chunk that each frame lies in."""
        return np.array(self.numbers, dtype=np.int64) // self.frames_per_chunk

    def rain_rates(self, oddities: Counter[str]) -> Iterator[NDArray[np.float64]]:
        """Rain rate (y, x) in mm/h of each frame, row 0 north; NaN = not observed.

        Values outside of the valid range that the file states, negative rates, and what no radar
        has ever seen are taken for not observed, and counted in `oddities`; so are those that hold
        a Zarr store's fill value 0, which may be a value. −inf dBZ is no echo.

        Raises:
            InputError: the file is damaged.
        """
        with opened(self.path, only=self.variable) as dataset:
            raw = dataset.variables[self.variable]
            order = [raw.dims.index(axis) for axis in self.axes]
            frame_bytes = raw.dtype.itemsize * raw.shape[1] * raw.shape[2]
            for numbers in self._windows(frame_bytes):
                window = xr.Variable(raw.dims, raw[_indexer(numbers)].to_numpy(), raw.attrs)
                if hides_zero(raw):
                    oddities[_HIDDEN_ZEROS] += int((window == 0).sum())
                for number in range(len(numbers)):
                    values = decoded(window[number], oddities)
                    values = np.transpose(values, [axis - 1 for axis in order])
                    values = np.flip(values, self.flipped)
                    yield rain_rate_of(values, self.relation, self.to_mm_h, oddities)

    def _windows(self, frame_bytes: int) -> Iterator[tuple[int, ...]]:
        """The frames in runs that are read at once; a run ends where a chunk does, if it can."""
        most = max(1, WINDOW_BYTES // frame_bytes)
        if self.frames_per_chunk * frame_bytes <= MOST_WINDOW_BYTES:
            most = max(most, self.frames_per_chunk)
        chunks, first = self.chunks(), 0
        while first < len(self.numbers):
            end = min(first + most, len(self.numbers))
            if end < len(self.numbers) and chunks[end] != chunks[first]:
                end = int(np.searchsorted(chunks, chunks[end]))
            yield self.numbers[first:end]
            first = end


def open_field(
    path: Path,
    variable: str | None = None,
    relation: ZRRelation | None = None,
    accumulation_minutes: float | None = None,
) -> Event:
    """Read what a file or store says of itself, without its frames.

    Args:
        path: a NetCDF-4 file or a Zarr store.
        variable: name of the field; None finds it by its name or CF standard name.
        relation: Z–R relation of a reflectivity whose file has no `zr_a` and `zr_b`.
        accumulation_minutes: over how long the amounts of rain of a file have fallen that does
            not say it.

    Raises:
        InputError: the file is damaged, has no field of rain, or leaves open what it means.
    """
    with opened(path) as raw:
        dataset = xr.decode_cf(raw, decode_times=False, decode_timedelta=False)
        _refuse_forecasts(dataset)
        field = field_of_rain(dataset, variable)
        valid_limits(field.attrs)
        if field.ndim != 3 or field.dims[0] != "time" or 0 in field.shape:
            sizes = ", ".join(f"{name}: {size}" for name, size in field.sizes.items())
            raise InputError(f"found {field.name} ({sizes}), expected (time, y, x)")
        chunks = field.encoding.get("chunksizes") or field.encoding.get("chunks") or (1,)
        field = north_south_first(field)
        if field.shape[1] * field.shape[2] > MOST_PIXELS:
            raise InputError(
                f"found frames of {field.shape[1]} × {field.shape[2]} pixels, "
                f"expected at most {MOST_PIXELS:,} pixels"
            )
        attributes = {**dataset.attrs, **field.attrs}
        spacing, flipped = spacing_and_flips(field)
        seconds = seconds_of(dataset)
        numbers = usable_frames(seconds, dataset.attrs)
        stated_step = dataset.attrs.get("time_step_minutes")
        meaning: dict[str, Any] = {}
        own_relation, to_mm_h = None, 1.0
        quantity, factor = quantity_and_factor(field)
        if quantity == "reflectivity":
            own_relation = _relation(attributes, relation)
            meaning = {"zr_a": own_relation.a, "zr_b": own_relation.b}
        elif quantity == "rain rate":
            to_mm_h = factor
        else:
            minutes = accumulation_minutes_of(
                bounds_minutes(dataset), attributes, accumulation_minutes
            )
            to_mm_h, meaning = factor * 60 / minutes, {"accumulation_minutes": minutes}
        return Event(
            path=path,
            times=seconds[numbers].astype("datetime64[s]"),
            stated_step_minutes=None if stated_step is None else float(stated_step),
            shape=(field.shape[1], field.shape[2]),
            grid_spacing_km=spacing,
            metadata={
                "file": path.name,
                **_described(dataset, field),
                "variable": str(field.name),
                **meaning,
            },
            reader=FieldReader(
                path=path,
                stamp=content_stamp(path),
                variable=str(field.name),
                axes=(str(field.dims[1]), str(field.dims[2])),
                flipped=flipped,
                relation=own_relation,
                to_mm_h=to_mm_h,
                frames_per_chunk=int(chunks[0]),
                numbers=tuple(numbers.tolist()),
            ),
            coordinates=_coordinates(dataset, field, flipped),
        )


def _refuse_forecasts(dataset: xr.Dataset) -> None:
    """Refuse what looks like observations and is none."""
    for name, variable in dataset.variables.items():
        named = {str(name), str(variable.attrs.get("standard_name"))}
        if named & {"forecast_reference_time", "forecast_period"}:
            raise InputError(f"found a forecast ({name}), expected observations")


def _relation(attributes: Mapping[str, Any], stated: ZRRelation | None) -> ZRRelation:
    """The Z–R relation that the file has, or the one stated beside it."""
    if {"zr_a", "zr_b"} <= attributes.keys():
        return ZRRelation(float(attributes["zr_a"]), float(attributes["zr_b"]))
    if stated is None:
        raise InputError(
            "found no zr_a and zr_b, expected the Z–R relation of reflectivity, in the file or "
            "stated beside it"
        )
    return stated


def _coordinates(
    dataset: xr.Dataset, field: xr.DataArray, flipped: tuple[int, ...]
) -> dict[str, xr.Variable]:
    """Those of the axes as frames are read, row 0 north, and the grid mapping."""
    found = {}
    for axis, name in enumerate(field.dims[1:]):
        variable = field.coords[name].variable.to_base_variable().load()
        found[str(name)] = variable[::-1] if axis in flipped else variable
    name, mapping = _grid_mapping(dataset, field)
    if mapping is None:
        return found
    return {**found, name: xr.Variable((), np.int32(0), mapping.attrs)}


def _grid_mapping(dataset: xr.Dataset, field: xr.DataArray) -> tuple[str, xr.Variable | None]:
    said = {**field.encoding, **field.attrs}.get("grid_mapping", "crs")
    name = str(said).partition(":")[0].strip()
    return name, dataset.variables.get(name)


def _described(dataset: xr.Dataset, field: xr.DataArray) -> dict[str, Any]:
    """Source, licence and projection, as JSON knows them."""
    _, mapping = _grid_mapping(dataset, field)
    projection = {} if mapping is None else mapping.attrs
    return {
        key: value if isinstance(value, str) else np.asarray(value).squeeze().tolist()
        for attributes, keys in ((dataset.attrs, _DESCRIBING), (projection, ("proj4", "crs_wkt")))
        for key, value in attributes.items()
        if key in keys
    }


def _indexer(numbers: tuple[int, ...]) -> slice | list[int]:
    """The numbers as a slice, which reads fastest, if they follow each other."""
    first, last = numbers[0], numbers[-1]
    return slice(first, last + 1) if last - first + 1 == len(numbers) else list(numbers)
