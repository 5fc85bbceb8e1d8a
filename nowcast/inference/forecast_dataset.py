"""A forecast as an xarray Dataset with CF metadata."""

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

ORIGIN = ("institution", "license")
"""Attributes of the frames that hold for what is made of them."""


def as_dataset(
    rain_rate: NDArray[np.float32],
    frames: xr.DataArray,
    step: np.timedelta64,
    thresholds_mm_h: Sequence[float],
    probabilities: NDArray[np.float32],
) -> xr.Dataset:
    """A forecast with its times, and with the places of the frames that it was made from.

    Args:
        rain_rate: (lead_time, y, x) in mm/h.
        frames: (time, y, x), of which coordinates, grid mapping and origin are carried over.
        step: time from one lead time to the next.
        thresholds_mm_h: rain rates whose probabilities are told.
        probabilities: (threshold, lead_time, y, x) that a threshold is reached.
    """
    reference = frames["time"].to_numpy()[-1].astype("datetime64[ns]")
    lead = (step * np.arange(1, len(rain_rate) + 1)).astype("timedelta64[ns]")
    coordinates: dict[Hashable, object] = {
        name: coordinate.variable
        for name, coordinate in frames.coords.items()
        if "time" not in coordinate.dims
    }
    coordinates["lead_time"] = (
        "lead_time",
        lead,
        {"standard_name": "forecast_period", "long_name": "time since the last observed frame"},
    )
    coordinates["time"] = (
        "lead_time",
        reference + lead,
        {"standard_name": "time", "long_name": "valid time"},
    )
    coordinates["forecast_reference_time"] = (
        (),
        reference,
        {"standard_name": "forecast_reference_time", "long_name": "time of the last frame"},
    )
    field = xr.Variable(
        ("lead_time", *frames.dims[1:]),
        rain_rate,
        {"standard_name": "rainfall_rate", "long_name": "forecast rain rate", "units": "mm h-1"},
    )
    fields = {"rain_rate": field}
    if thresholds_mm_h:
        coordinates["threshold"] = (
            "threshold",
            np.array(thresholds_mm_h),
            {"standard_name": "rainfall_rate", "units": "mm h-1"},
        )
        fields["exceedance_probability"] = xr.Variable(
            ("threshold", *field.dims),
            probabilities,
            {"long_name": "probability that the rain rate is at least the threshold", "units": "1"},
        )
    said = frames.encoding.get("grid_mapping", frames.attrs.get("grid_mapping"))
    mapping = None if said is None else str(said).partition(":")[0].strip()
    if mapping in coordinates:
        for one in fields.values():
            one.encoding["grid_mapping"] = mapping
    origin = {name: frames.attrs[name] for name in ORIGIN if name in frames.attrs}
    return xr.Dataset(fields, coordinates, origin)
