"""Packed numbers of an event's field to physical values: what is missing, not valid, impossible.

CF's rules for packed and missing values (CF Conventions, sections 2.5.1 and 8.1) are xarray's; the
valid range, which xarray leaves alone, is here, and so is how values become rain rate.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.events import HIGHEST_DBZ, HIGHEST_RAIN_RATE_MM_H
from nowcast.radar.units import ZRRelation

HIGHEST_POSSIBLE_MM_H = 1e4
"""It has never rained so much; NetCDF's own fill value of numbers never written is far more."""

HIGHEST_POSSIBLE_DBZ = 200.0
"""Neither drops nor hail reach it, nor does noise its negative; −999 and the like are marks."""

_OUTSIDE = "pixels outside of the valid range that the file states, not observed"
_NEGATIVE = "pixels with negative rain, taken for not observed"
_TOO_MUCH_RAIN = f"pixels of more than {HIGHEST_POSSIBLE_MM_H:,.0f} mm/h, taken for not observed"
_NO_REFLECTIVITY = f"pixels beyond ±{HIGHEST_POSSIBLE_DBZ:g} dBZ, taken for not observed"


class ValidLimit(NamedTuple):
    """One end of a valid range.

    Attributes:
        is_lowest: whether it is the lower end.
        value: as stored; its type decides whether it is of packed or of unpacked values.
    """

    is_lowest: bool
    value: np.number


def valid_limits(attributes: Mapping[str, Any]) -> list[ValidLimit]:
    """The ends of the valid range: `valid_range`, `valid_min`, `valid_max`.

    Args:
        attributes: of the field.

    Raises:
        InputError: one of them is not as many numbers as it should be.
    """
    limits = []
    for name, ends in (
        ("valid_range", (True, False)),
        ("valid_min", (True,)),
        ("valid_max", (False,)),
    ):
        if name not in attributes:
            continue
        values = np.ravel(attributes[name])
        if values.dtype.kind not in "iuf" or len(values) != len(ends):
            expected = "two numbers" if len(ends) == 2 else "a number"
            raise InputError(f"found {name} {str(attributes[name])[:80]!r}, expected {expected}")
        limits += [ValidLimit(*limit) for limit in zip(ends, values, strict=True)]
    return limits


def decoded(frame: xr.Variable, oddities: Counter[str]) -> NDArray[np.float64]:
    """Values (y, x) of a packed frame; NaN = not observed.

    Args:
        frame: packed numbers with the field's attributes.
        oddities: counts values that are outside of the valid range.

    Raises:
        InputError: the valid range is none.
    """
    dataset = xr.decode_cf(xr.Dataset({"frame": frame}), decode_times=False)
    values = dataset["frame"].to_numpy().astype(np.float64)
    outside = _outside_valid_range(frame, values)
    if outside is not None:
        _mask(values, outside & ~np.isnan(values), _OUTSIDE, oddities)
    return values


def rain_rate_of(
    values: NDArray[np.float64],
    relation: ZRRelation | None,
    to_mm_h: float,
    oddities: Counter[str],
) -> NDArray[np.float64]:
    """Rain rate in mm/h, at most `HIGHEST_RAIN_RATE_MM_H`; NaN = not observed.

    Args:
        values: (y, x), of reflectivity in dBZ or of rain; what cannot be becomes NaN in place.
        relation: the Z–R relation of reflectivity; None for rain.
        to_mm_h: what rain is multiplied by.
        oddities: counts what cannot be.
    """
    if relation is not None:
        mask_impossible_reflectivity(values, oddities)
        rate = relation.dbz_to_rain_rate(np.minimum(values, HIGHEST_DBZ))
    else:
        rate = values * to_mm_h
        mask_impossible_rain(rate, oddities)
    return np.minimum(rate, HIGHEST_RAIN_RATE_MM_H)


def mask_impossible_reflectivity(
    reflectivity_dbz: NDArray[np.float64], oddities: Counter[str]
) -> None:
    """Make reflectivity that cannot be NaN in place, and count it; −inf dBZ stays, as no echo."""
    impossible = np.abs(reflectivity_dbz) > HIGHEST_POSSIBLE_DBZ
    # It is the logarithm of nothing, and so the only infinity that says something.
    impossible &= reflectivity_dbz != -np.inf
    _mask(reflectivity_dbz, impossible, _NO_REFLECTIVITY, oddities)


def mask_impossible_rain(rain_rate_mm_h: NDArray[np.float64], oddities: Counter[str]) -> None:
    """Make rain rates that cannot be NaN in place, and count them."""
    _mask(rain_rate_mm_h, rain_rate_mm_h < 0, _NEGATIVE, oddities)
    _mask(rain_rate_mm_h, rain_rate_mm_h > HIGHEST_POSSIBLE_MM_H, _TOO_MUCH_RAIN, oddities)


def _mask(
    values: NDArray[np.float64], wrong: NDArray[np.bool_], what: str, oddities: Counter[str]
) -> None:
    oddities[what] += int(wrong.sum())
    values[wrong] = np.nan


def _outside_valid_range(
    frame: xr.Variable, values: NDArray[np.float64]
) -> NDArray[np.bool_] | None:
    """Which values lie outside; None where no range is stated.

    A range is of packed numbers; one of floating point for packed whole numbers is of unpacked
    values (NetCDF User's Guide, attribute conventions).
    """
    outside: NDArray[np.bool_] | None = None
    packed, scale = frame.to_numpy(), 0.0
    if {"scale_factor", "add_offset"} & frame.attrs.keys():
        scale = float(np.squeeze(frame.attrs.get("scale_factor", 1)))
    if packed.dtype.kind == "i" and frame.attrs.get("_Unsigned") == "true":
        packed = packed.astype(f"u{packed.dtype.itemsize}")
    for is_lowest, limit in valid_limits(frame.attrs):
        compared, end = packed, limit
        if packed.dtype.kind == "f":
            # Numbers in Zarr's attributes have no type; 0.1 is to be the array's own 0.1.
            with np.errstate(over="ignore"):
                end = limit.astype(packed.dtype)
        elif limit.dtype.kind == "f" and scale:
            # Unpacking rounds; what is nearest to the limit is still within.
            compared, end = values, limit + (-0.5 if is_lowest else 0.5) * abs(scale)
        elif packed.dtype.kind == "u" and limit.dtype.kind == "i" and "_Unsigned" in frame.attrs:
            end = limit.astype(packed.dtype) if limit < 0 else limit
        beyond = compared < end if is_lowest else compared > end
        outside = beyond if outside is None else outside | beyond
    return outside
