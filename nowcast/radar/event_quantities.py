"""What a variable's name and units say: reflectivity, rain rate or rain amount, and how to mm/h.

Names are CF's standard names, those of the MLCast community's radar archives, and this project's
own; variables are found by either name.
"""

from collections.abc import Mapping
from typing import Any, Literal

import xarray as xr

from nowcast.errors import InputError
from nowcast.radar.units import ZRRelation

Quantity = Literal["reflectivity", "rain rate", "rain amount"]

_STANDARD_NAMES: dict[str, Quantity] = {
    "reflectivity": "reflectivity",
    "equivalent_reflectivity_factor": "reflectivity",
    "rain_rate": "rain rate",
    "rainfall_rate": "rain rate",
    "rainfall_flux": "rain rate",
    "precipitation_flux": "rain rate",
    "lwe_precipitation_rate": "rain rate",
    "rainfall_amount": "rain amount",
    "precipitation_amount": "rain amount",
    "thickness_of_rainfall_amount": "rain amount",
    "lwe_thickness_of_precipitation_amount": "rain amount",
}
_SHORT_NAMES = {"dbz", "rare", "mmh", "rr", "tprate", "prate", "mm", "tp"}
"""They find a variable, but only its units say what it is: `rr` is a rate here, an amount there."""

_REFLECTIVITY_UNITS = ("dBZ", "dbz", "DBZ", "dB")
_TO_MM_H = {
    "mm h-1": 1.0,
    "mm/h": 1.0,
    "mm hr-1": 1.0,
    "mm/hr": 1.0,
    "mm hour-1": 1.0,
    "mm/hour": 1.0,
    "kg m-2 h-1": 1.0,
    "kg m-2 s-1": 3600.0,
    "kg/m2/s": 3600.0,
    "mm s-1": 3600.0,
    "mm/s": 3600.0,
    "m s-1": 3.6e6,
    "m/s": 3.6e6,
}
_TO_MM = {"mm": 1.0, "kg m-2": 1.0, "kg/m2": 1.0, "m": 1000.0}
_UNITS: dict[str, tuple[Quantity, float]] = {
    **dict.fromkeys(_REFLECTIVITY_UNITS, ("reflectivity", 1.0)),
    **{units: ("rain rate", factor) for units, factor in _TO_MM_H.items()},
    **{units: ("rain amount", factor) for units, factor in _TO_MM.items()},
}


def field_of_rain(dataset: xr.Dataset, variable: str | None = None) -> xr.DataArray:
    """The one variable of reflectivity, rain rate or rain amount.

    Args:
        dataset: the event.
        variable: its name; None finds it by name or CF standard name.

    Raises:
        InputError: there is none, or several.
    """
    there = ", ".join(map(str, dataset.data_vars)) or "nothing"
    if variable is not None:
        if variable not in dataset.data_vars:
            raise InputError(f"found {there}, expected the variable {variable!r}")
        return dataset[variable]
    found = [field for field in dataset.data_vars.values() if _names(field)]
    if not found:
        raise InputError(f"found {there}, expected one field of reflectivity or rain")
    if len(found) > 1:
        names = ", ".join(str(field.name) for field in found)
        raise InputError(
            f"found several fields of reflectivity or rain: {names}; expected one, "
            "or its name as `variable`"
        )
    return found[0]


def quantity_and_factor(field: xr.DataArray) -> tuple[Quantity, float]:
    """What a field is, and the factor from its units to dBZ, mm/h or mm.

    Raises:
        InputError: its units are not known, or not those of what it is called.
    """
    units = str(field.attrs.get("units", "")).strip()
    called = {_STANDARD_NAMES[name] for name in _names(field) if name in _STANDARD_NAMES}
    quantity, factor = _UNITS.get(units.replace("**", "").replace("^", ""), (None, 1.0))
    # Other quantities than reflectivity are in dB too, so that its name has to be said.
    if quantity is None or (units == "dB" and not called) or called - {quantity}:
        known = ", ".join(key for key, (of, _) in _UNITS.items() if of in called or not called)
        raise InputError(f"found {field.name} in {units!r}, expected one of {known}")
    return quantity, factor


def accumulation_minutes_of(
    bounds_minutes: float | None, attributes: Mapping[str, Any], stated: float | None
) -> float:
    """Over how many minutes an amount of rain has fallen.

    Args:
        bounds_minutes: length of the cells of time, where the file has them.
        attributes: of the file and the field; `accumulation_minutes` is asked for.
        stated: what to take where the file says nothing.

    Raises:
        InputError: nothing says it, or the file says two things.
    """
    own = attributes.get("accumulation_minutes")
    said = {float(minutes) for minutes in (bounds_minutes, own) if minutes is not None}
    if len(said) > 1:
        raise InputError(
            f"found amounts over {' and over '.join(f'{m:g}' for m in sorted(said))} minutes, "
            "expected one duration"
        )
    minutes = said.pop() if said else stated
    if minutes is None or not 0 < minutes < float("inf"):
        found = "no duration" if minutes is None else f"a duration of {minutes:g} minutes"
        raise InputError(
            f"found amounts of rain over {found}, expected bounds of time or "
            "accumulation_minutes, in the file or stated beside it"
        )
    return minutes


def _names(field: xr.DataArray) -> set[str]:
    """Those of the field's names that are known."""
    names = {str(field.name).lower(), str(field.attrs.get("standard_name"))}
    return names & {*_STANDARD_NAMES, *_SHORT_NAMES}


def stated_relation(zr_a: float | None, zr_b: float | None) -> ZRRelation | None:
    """The Z–R relation Z = a R^b of two numbers; None of none.

    Raises:
        InputError: one stands alone, or they are not above 0.
    """
    if zr_a is None and zr_b is None:
        return None
    if zr_a is None or zr_b is None:
        raise InputError("zr_a, zr_b: found one alone, expected both or none")
    try:
        return ZRRelation(zr_a, zr_b)
    except ValueError as error:
        raise InputError(str(error)) from None
