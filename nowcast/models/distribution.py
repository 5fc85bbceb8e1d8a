"""Forecasts with the distribution of an observed field ("probability matching")."""

import torch
from torch import Tensor

FIELDS_AT_ONCE = 2
"""Each is sorted by one thread."""


def with_values_of(reference: Tensor, forecast: Tensor) -> Tensor:
    """The values of each field of `reference` in the order of those of `forecast`.

    The largest value goes where most is forecast, and so on; where nothing is forecast nothing is
    (Ebert, Mon. Weather Rev. 129, 2001). Of places with equal forecasts, the first gets the
    smallest value. A forecast with values that are no numbers stays as it is.

    Args:
        reference: pixel values (batch, time, 1, y, x).
        forecast: pixel values of the same shape.
    """
    # A few at a time: places and values in order are several times the memory of the fields.
    parts = (fields.split(FIELDS_AT_ONCE, dim=1) for fields in (reference, forecast))
    return torch.cat([_with_values_of(*part) for part in zip(*parts, strict=True)], dim=1)


def _with_values_of(reference: Tensor, forecast: Tensor) -> Tensor:
    values = reference.flatten(2).sort(dim=-1).values
    order = forecast.flatten(2).argsort(dim=-1, stable=True)
    placed = torch.zeros_like(values).scatter(-1, order, values).view_as(reference)
    known = forecast.isfinite().all(dim=(-1, -2), keepdim=True)
    return torch.where(known & (forecast > 0), placed, torch.where(known, 0.0, forecast))
