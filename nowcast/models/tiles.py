"""Large grids forecast tile by tile, blended where the tiles overlap: for the sake of memory."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

LARGEST_SIDE = 1280
"""Pixels of a grid's side that are forecast at once; larger ones are cut into tiles."""

OVERLAP = 240
"""Pixels that neighbouring tiles have in common, at least."""


def forecast_in_tiles(
    forecast: Callable[[Tensor, int], Tensor],
    frames: Tensor,
    lead_times: int,
    largest_side: int = LARGEST_SIDE,
    overlap: int = OVERLAP,
) -> Tensor:
    """Forecast a grid of any size in tiles of equal size; one that fits is forecast as it is.

    Where tiles overlap, the forecast goes over from one to the other linearly, in rain rate, so
    that there is no seam. What a tile cannot see is rain farther away than the overlap.

    Args:
        forecast: of frames and lead times, as of a `NowcastMethod`.
        frames: pixel values (batch, time, 1, y, x).
        lead_times: how many frames to forecast.
        largest_side: of a tile, in pixels.
        overlap: of tiles, in pixels, less than `largest_side`.

    Returns:
        Pixel values (batch, lead_times, 1, y, x).
    """
    spans = [_spans(side, largest_side, overlap) for side in frames.shape[-2:]]
    if all(len(axis) == 1 for axis in spans):
        return forecast(frames, lead_times)
    shape = (frames.shape[0], lead_times, 1, *frames.shape[-2:])
    rain_rate, total = torch.zeros(shape), torch.zeros(shape[-2:])
    for rows in spans[0]:
        for columns in spans[1]:
            weight = torch.outer(_weights(rows, spans[0]), _weights(columns, spans[1]))
            tile = forecast(frames[..., rows, columns], lead_times).to(rain_rate)
            rate = torch.where(tile <= 0, 0.0, pixel_to_rain_rate(tile))
            rain_rate[..., rows, columns] += weight * rate
            total[rows, columns] += weight
    return rain_rate_to_pixel(rain_rate / total).clamp(0.0, 1.0).to(frames)


def _spans(side: int, largest: int, overlap: int) -> list[slice]:
    """Tiles along a side, equal in length and evenly spread."""
    if side <= largest:
        return [slice(0, side)]
    count = -(-(side - overlap) // (largest - overlap))
    length = -(-(side + (count - 1) * overlap) // count)
    firsts = np.linspace(0, side - length, count).round().astype(int)
    return [slice(int(first), int(first) + length) for first in firsts]


def _weights(span: slice, spans: list[slice]) -> Tensor:
    """How much a tile counts along a side: rising from where its neighbour ends, and falling."""
    place = torch.arange(span.start, span.stop) + 0.5
    weights = torch.ones(len(place))
    number = spans.index(span)
    if number > 0:
        before = spans[number - 1].stop
        weights = weights.minimum((place - span.start) / (before - span.start))
    if number + 1 < len(spans):
        after = spans[number + 1].start
        weights = weights.minimum((span.stop - place) / (span.stop - after))
    return weights
