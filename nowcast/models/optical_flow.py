"""Optical-flow extrapolation: the rain moves on as it moved last (Lagrangian persistence).

Motion comes from dense inverse search (DIS; Kroeger et al., ECCV 2016) as OpenCV computes it, the
forecast from backward semi-Lagrangian extrapolation (Germann and Zawadzki, Mon. Weather Rev. 130,
2002). The two steps are plain functions on NumPy arrays; `OpticalFlow` joins them to a nowcast
method. A motion field is `(2, y, x)`: the displacement of the rain to the right (x) and downwards
(y, as rows count), in pixels per time step.
"""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel

FAINTEST_PIXEL = float(rain_rate_to_pixel(0.1))
"""Pixel value that DIS sees as black: 0.1 mm/h."""

BRIGHTEST_PIXEL = float(rain_rate_to_pixel(100.0))
"""Pixel value that DIS sees as white: 100 mm/h."""

SMALLEST_SIDE = 12
"""Shorter sides leave DIS without a single patch."""


def estimate_motion(frames: NDArray[np.floating[Any]], pairs: int = 1) -> NDArray[np.float32]:
    """Estimate how the rain moves, in pixels per time step.

    The pixel scale is logarithmic in rain rate already; only its part from 0.1 to 100 mm/h is
    stretched to the 8 bits that DIS takes. The flow runs from the later frame back to the earlier
    one, so that the motion stands where the rain has arrived.

    Args:
        frames: pixel values in [0, 1], `(time, y, x)`, oldest first; NaN counts as no echo.
        pairs: how many of the last pairs of successive frames to average over. A pair counts at
            a pixel where one of its frames has rain; where none has, all count alike.

    Returns:
        `(2, y, x)`: motion along x and along y.

    Raises:
        InputError: fewer than `pairs` + 1 frames, or a side below 12 pixels.
    """
    if pairs < 1:
        raise InputError(f"optical flow: found pairs={pairs}, expected at least 1")
    if frames.ndim != 3 or frames.shape[0] <= pairs or min(frames.shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"optical flow: found frames of shape {frames.shape}, expected (time, y, x) with at "
            f"least {pairs + 1} frames and {SMALLEST_SIDE} pixels on each side"
        )
    stretched = (np.nan_to_num(frames[-pairs - 1 :]) - FAINTEST_PIXEL) * (
        255.0 / (BRIGHTEST_PIXEL - FAINTEST_PIXEL)
    )
    images = stretched.clip(0.0, 255.0).astype(np.uint8)
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    motions = np.empty((pairs, 2, *images.shape[1:]), dtype=np.float32)
    for motion, earlier, later in zip(motions, images[:-1], images[1:], strict=True):
        motion[:] = -np.moveaxis(flow.calc(later, earlier, None), -1, 0)
    if pairs == 1:
        return motions[0]
    # The small constant decides nothing but the pixels where no pair has rain.
    weights = np.maximum(images[:-1], images[1:]).astype(np.float32)[:, None].clip(1e-3, 1.0)
    return (motions * weights).sum(axis=0) / weights.sum(axis=0)


def extrapolate(
    field: NDArray[np.floating[Any]], motion: NDArray[np.floating[Any]], lead_times: int
) -> NDArray[np.float32]:
    """Move a field along a steady motion.

    For every pixel the path of its air is followed backwards, one midpoint iteration per time
    step; the field is interpolated (bilinearly) once per lead time, at the end of the path, so
    that it does not blur with every step. Air from outside the grid brings zero.

    Args:
        field: what is moved, `(y, x)`; pixel values or anything else that zero is dry for. NaN
            spreads to the pixels interpolated from it.
        motion: displacement along x and y in pixels per time step, `(2, y, x)`.
        lead_times: how many time steps.

    Returns:
        The field after 1, 2, … time steps, `(lead_times, y, x)`.

    Raises:
        InputError: `motion` does not fit `field`.
    """
    if field.ndim != 2 or motion.shape != (2, *field.shape):
        raise InputError(
            f"extrapolation: found a field of shape {field.shape} with motion of shape "
            f"{motion.shape}, expected (y, x) with (2, y, x)"
        )
    field = np.ascontiguousarray(field, dtype=np.float32)
    motion = np.ascontiguousarray(motion, dtype=np.float32)
    origin = np.indices(field.shape, dtype=np.float32)[::-1].copy()
    moved = np.empty((lead_times, *field.shape), dtype=np.float32)
    for frame in moved:
        middle = origin - np.float32(0.5) * _sample_motion(motion, origin)
        origin -= _sample_motion(motion, middle)
        x, y = origin[0], origin[1]
        frame[:] = cv2.remap(
            field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0
        )
    return moved


def _sample_motion(
    motion: NDArray[np.float32], position: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Motion at positions `(2, y, x)` in pixels; outside the grid that of the nearest pixel."""
    x, y = position[0], position[1]
    return np.stack(
        [
            cv2.remap(component, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for component in motion
        ]
    ).astype(np.float32, copy=False)


class OpticalFlow:
    """Nowcast by DIS optical flow and semi-Lagrangian extrapolation."""

    def __init__(self, pairs: int = 1) -> None:
        """Choose what the motion is estimated from.

        Args:
            pairs: how many of the last pairs of successive frames to average the motion over.
        """
        self.pairs = pairs

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Move the last frame on along the motion of the last frames.

        Args:
            frames: pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first, at least
                `pairs` + 1 of them.
            lead_times: how many frames to forecast.

        Returns:
            `(batch, lead_times, 1, y, x)`, of the dtype and on the device of `frames`.

        Raises:
            InputError: too few frames, more than one channel, or a side below 12 pixels.
        """
        if frames.ndim != 5 or frames.shape[2] != 1:
            raise InputError(
                f"optical flow: found frames of shape {tuple(frames.shape)}, "
                "expected (batch, time, 1, y, x)"
            )
        observed = frames.detach().to("cpu", torch.float32).numpy()[:, :, 0]
        moved = np.empty((len(observed), lead_times, 1, *observed.shape[2:]), dtype=np.float32)
        for sequence, forecast in zip(observed, moved, strict=True):
            motion = estimate_motion(sequence, self.pairs)
            forecast[:, 0] = extrapolate(sequence[-1], motion, lead_times)
        return torch.from_numpy(moved).to(frames)
