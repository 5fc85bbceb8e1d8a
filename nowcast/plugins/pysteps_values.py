"""What the numbers of a pysteps field mean: units, decibels, no rain; to mm/h or dBZ and back.

pysteps passes plain arrays and keeps what they mean in a dictionary beside them, the metadata of
`pysteps.io.importers`. The words and rules here are those of `pysteps.utils.conversion` and
`pysteps.utils.transformation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.units import ZRRelation

UNITS = ("mm/h", "mm", "dBZ")

THRESHOLD_DB = -10.0
"""Less is no rain, in dB of mm/h, of mm or of Z, where nothing else is said; as in pysteps."""

BELOW_THRESHOLD_DB = 5.0
"""How far below the threshold pysteps puts what stands for no rain, where nothing else is said."""

HIGHEST_DB = {"mm/h": 40.0, "mm": 40.0, "dBZ": 100.0}
"""There is no such rain: values above it are no decibels."""


@dataclass(frozen=True)
class FieldValues:
    """What the values of a field mean.

    Attributes:
        unit: "mm/h", "mm" or "dBZ".
        decibels: whether they are 10 log10 of the unit; always for dBZ.
        minutes: over which amounts in mm have fallen.
        relation: Z–R relation of reflectivity.
        threshold: of decibels; less is no rain.
        zerovalue: what stands for no rain in decibels.
    """

    unit: str
    decibels: bool
    minutes: float | None
    relation: ZRRelation | None
    threshold: float
    zerovalue: float

    @classmethod
    def described(cls, said: Mapping[str, Any]) -> "FieldValues":
        """By metadata of pysteps: `unit`, `transform`, `accutime`, `zr_a`, `zr_b` and so on.

        Raises:
            InputError: it leaves open what the values mean, or they are of a kind that is not known
                here.
        """
        unit, transform = said.get("unit", "mm/h"), said.get("transform")
        if unit not in UNITS:
            raise InputError(f"precip: found unit {unit!r}, expected one of {', '.join(UNITS)}")
        if transform not in (None, "dB"):
            raise InputError(f"precip: found transform {transform!r}, expected None or 'dB'")
        minutes = relation = None
        if unit == "mm":
            minutes = _positive(said, "accutime", "over how many minutes the rain has fallen")
        if unit == "dBZ":
            reason = "the Z–R relation of the reflectivity"
            relation = ZRRelation(_positive(said, "zr_a", reason), _positive(said, "zr_b", reason))
        threshold = _finite(said.get("threshold"), THRESHOLD_DB)
        zerovalue = _finite(said.get("zerovalue"), threshold - BELOW_THRESHOLD_DB)
        return cls(
            unit, transform == "dB" or unit == "dBZ", minutes, relation, threshold, zerovalue
        )

    def to_frames(self, values: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], str]:
        """What `nowcast.forecast` takes: rain rates or reflectivity, NaN = not observed, and units.

        Raises:
            InputError: values that cannot be what they are said to be.
        """
        found: NDArray[np.float64] = values.astype(np.float64)
        self._check(found)
        if self.decibels:
            found[found < self.threshold] = -np.inf
        if self.unit == "dBZ":
            return found, "dBZ"
        if self.decibels:
            found = 10.0 ** (found / 10.0)
        if self.minutes is not None:
            found = found * (60.0 / self.minutes)
        return found, "mm/h"

    def of_rain_rate(self, rain_rate_mm_h: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Rain rates in mm/h, NaN = not observed, as values of this kind."""
        values = rain_rate_mm_h.astype(np.float64)
        if self.relation is not None:
            values = self.relation.rain_rate_to_dbz(values)
        else:
            if self.minutes is not None:
                values = values / (60.0 / self.minutes)
            if self.decibels:
                with np.errstate(divide="ignore"):
                    values = 10.0 * np.log10(values)
        if self.decibels:
            values[values < self.threshold] = self.zerovalue
        return values

    def _check(self, values: NDArray[np.float64]) -> None:
        if self.decibels:
            wrong, limit = values > HIGHEST_DB[self.unit], f"at most {HIGHEST_DB[self.unit]:g}"
            unit = "dBZ" if self.unit == "dBZ" else f"dB of {self.unit}"
        else:
            wrong, limit = (values < 0) | np.isinf(values), "0 or more, or NaN"
            unit = f"{self.unit} without transform"
        if wrong.any():
            raise InputError(f"precip: found {values[wrong][0]:g} as {unit}, expected {limit}")


def _positive(said: Mapping[str, Any], key: str, meaning: str) -> float:
    value = said.get(key)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if value is None or not number or not 0 < float(value) < np.inf:
        raise InputError(
            f"precip: found {key}={value!r} for {said['unit']}, expected {meaning}, above 0"
        )
    return float(value)


def _finite(value: Any, otherwise: float) -> float:
    """A value of the metadata, which is NaN where pysteps found no rain at all."""
    return float(value) if value is not None and np.isfinite(value) else otherwise
