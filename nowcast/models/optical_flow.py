"""Optical-flow extrapolation: the rain moves on as it moved last (Lagrangian persistence).

`OpticalFlow` joins the two steps, plain functions on NumPy arrays, to a nowcast method: motion from
the last frames (`motion`), and the last frame moved on along it (`extrapolation`).
"""

import numpy as np
import torch

from nowcast.errors import InputError
from nowcast.models.extrapolation import Inflow, extrapolate
from nowcast.models.motion import estimate_motion
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

__all__ = ["OpticalFlow", "estimate_motion", "extrapolate"]


class OpticalFlow:
    """Nowcast by DIS optical flow and semi-Lagrangian extrapolation."""

    def __init__(self, pairs: int = 4, inflow: Inflow = "dry") -> None:
        """Choose what the motion is estimated from, and what comes in over the edges.

        Args:
            pairs: how many of the last pairs of successive frames to average the motion over;
                fewer if there are fewer.
            inflow: "dry", as is usual; or "edge": rain at an edge keeps coming in over it.
        """
        self.pairs, self.inflow = pairs, inflow

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Move the last frame on along the motion of the last frames.

        Between pixels the rain rate is interpolated, not the pixel value: water is what moves, and
        a mean of logarithms has less of it.

        Args:
            frames: pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first, at least two of
                them; values outside count as the nearest inside. NaN is not observed: no echo, and
                left out of the motion.
            lead_times: how many frames to forecast.

        Returns:
            `(batch, lead_times, 1, y, x)`, in [0, 1] and finite, of the dtype and on the device of
            `frames`.

        Raises:
            InputError: too few frames, more than one channel, or a side below 12 pixels.
        """
        if frames.ndim != 5 or frames.shape[2] != 1:
            raise InputError(
                f"optical flow: found frames of shape {tuple(frames.shape)}, "
                "expected (batch, time, 1, y, x)"
            )
        seen = frames.detach().to("cpu", torch.float32).numpy()[:, :, 0].clip(0.0, 1.0)
        forecasts = np.empty((len(seen), lead_times, 1, *seen.shape[2:]), dtype=np.float32)
        for sequence, forecast in zip(seen, forecasts, strict=True):
            motion = estimate_motion(sequence, self.pairs)
            last = np.nan_to_num(sequence[-1])
            rain_rate_mm_h = np.where(last > 0.0, pixel_to_rain_rate(last), np.float32(0.0))
            moved = extrapolate(rain_rate_mm_h, motion, lead_times, self.inflow)
            for rate, pixels in zip(moved, forecast[:, 0], strict=True):
                rain_rate_to_pixel(rate).clip(0.0, 1.0, out=pixels)
        return torch.from_numpy(forecasts).to(frames)
