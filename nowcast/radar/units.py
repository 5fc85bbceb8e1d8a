"""What a pixel means: pixel value, reflectivity (dBZ) and rain rate (mm/h).

A pixel value p lies in [0, 1] (stored as uint8 0–255) and stands for a reflectivity of
70 p − 10 dBZ, the scale of the HKO-7 dataset (Shi et al., NeurIPS 2017). Reflectivity and rain
rate are tied by a Z–R relation Z = a R^b. Every function takes NumPy arrays, Python floats and
torch tensors alike and keeps dtype, device and shape.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Values = TypeVar("Values", bound=Any)

DBZ_PER_PIXEL = 70.0
"""Reflectivity between pixel value 0 and pixel value 1, in dB."""

DBZ_AT_ZERO = -10.0
"""Reflectivity of pixel value 0, in dBZ."""


def _log10(values: Values) -> Values:
    """Logarithm that stays with the array's own library."""
    return values.log10() if hasattr(values, "log10") else np.log10(values)


def pixel_to_dbz(pixel: Values) -> Values:
    """Reflectivity in dBZ of pixel values in [0, 1]."""
    return pixel * DBZ_PER_PIXEL + DBZ_AT_ZERO


def dbz_to_pixel(reflectivity_dbz: Values) -> Values:
    """Pixel value of a reflectivity in dBZ, not clipped to [0, 1]."""
    return (reflectivity_dbz - DBZ_AT_ZERO) / DBZ_PER_PIXEL


@dataclass(frozen=True)
class ZRRelation:
    """Z = a R^b between reflectivity factor Z (mm⁶ m⁻³) and rain rate R (mm/h)."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(
                f"Z–R relation: a and b must be positive, found a={self.a}, b={self.b}"
            )

    def dbz_to_rain_rate(self, reflectivity_dbz: Values) -> Values:
        """Rain rate in mm/h of a reflectivity in dBZ; −inf dBZ is 0 mm/h."""
        return 10.0 ** ((reflectivity_dbz / 10.0 - float(np.log10(self.a))) / self.b)

    def rain_rate_to_dbz(self, rain_rate_mm_h: Values) -> Values:
        """Reflectivity in dBZ of a rain rate in mm/h; 0 mm/h is −inf dBZ."""
        with np.errstate(divide="ignore"):
            return _log10(rain_rate_mm_h) * (10.0 * self.b) + 10.0 * float(np.log10(self.a))


HKO7 = ZRRelation(a=58.53, b=1.56)
"""The HKO-7 benchmark's relation, dBZ = 10 log10(58.53) + 15.6 log10(R)."""


def pixel_to_rain_rate(pixel: Values, relation: ZRRelation = HKO7) -> Values:
    """Rain rate in mm/h of pixel values in [0, 1]; pixel value 0 is 0.017 mm/h with HKO-7's Z–R."""
    return relation.dbz_to_rain_rate(pixel_to_dbz(pixel))


def rain_rate_to_pixel(rain_rate_mm_h: Values, relation: ZRRelation = HKO7) -> Values:
    """Pixel value of a rain rate in mm/h, not clipped: 0 mm/h is −inf, to be stored as 0."""
    return dbz_to_pixel(relation.rain_rate_to_dbz(rain_rate_mm_h))
