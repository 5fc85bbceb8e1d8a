"""Pixel values to the rain rates that pysteps takes, in mm/h or in dB, and back.

Pixel value 0 is no rain, and so are rates below 0.1 mm/h in dB; NaN, not observed, stays NaN on the
way there and is 0 on the way back.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

LOWEST_RAIN_RATE_MM_H = 0.1
"""Less is dry where rain rates are in dB."""

THRESHOLD_DBR = -10.0
"""The lowest rain rate as 10 log10(R)."""

DRY_DBR = -15.0
"""What stands for no rain where rain rates are in dB."""

HIGHEST_RAIN_RATE_MM_H = float(pixel_to_rain_rate(1.0))


def to_rain_rates(pixels: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rain rates in mm/h."""
    rates = pixel_to_rain_rate(pixels.astype(np.float64))
    rates[pixels <= 0] = 0.0
    return rates


def to_pixels(rates: NDArray[np.float64]) -> NDArray[np.float32]:
    """Pixel values in [0, 1] of rain rates in mm/h."""
    return rain_rate_to_pixel(np.nan_to_num(rates)).clip(0.0, 1.0).astype(np.float32)


def to_dbr(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """10 log10(R) of rain rates in mm/h, −15 where less than 0.1."""
    rainy = rates >= LOWEST_RAIN_RATE_MM_H
    decibels = 10.0 * np.log10(np.where(rainy, rates, 1.0))
    return np.where(rainy, decibels, np.where(np.isnan(rates), np.nan, DRY_DBR))


def from_dbr(decibels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rain rates in mm/h, 0 below the threshold."""
    return np.where(decibels < THRESHOLD_DBR, 0.0, 10.0 ** (decibels / 10.0))
