"""ROVER, the HKO-7 benchmark's optical-flow opponent (Shi et al., NeurIPS 2017).

Variational flow between the last two frames, along which the last one is moved again and again. As
the benchmark's authors do it: noise is taken out first; the flow is their library's, as
`variational_flow` says; each lead time interpolates the one before it bilinearly at x − flow(x),
zero outside the grid. So the forecast blurs with every step, unlike that of `optical_flow`.
"""

from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.variational_flow import variational_flow
from nowcast.radar.units import dbz_to_pixel, pixel_to_dbz

Transform = Literal["linear", "arctangent"]

NOISE_BELOW = 0.28
"""Echoes of pixel values above 0 and below this are taken for noise, as in the archive's masks.

The benchmark's rule, on values in [0, 1]; on stored ones, 0–255, the archive rounds the bound.
"""

CENTRE_DBZ = 33.0
"""Reflectivity at which the arctangent is steepest."""

WIDTH_DBZ = 4.0
"""How far from there it flattens."""


def arctangent(pixel: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Pixel values in [0, 1] to [0, 1] through arctan((dBZ − 33) / 4); 0 and 1 stay."""
    lowest, highest = _ends()
    return (np.arctan((pixel_to_dbz(pixel) - CENTRE_DBZ) / WIDTH_DBZ) - lowest) / (highest - lowest)


def inverse_arctangent(value: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Back from `arctangent` to pixel values; what is 0 there is exactly 0 here."""
    lowest, highest = _ends()
    pixel = dbz_to_pixel(np.tan(value * (highest - lowest) + lowest) * WIDTH_DBZ + CENTRE_DBZ)
    return np.where(value > 0, pixel, np.zeros_like(value))


def _ends() -> tuple[float, float]:
    """What the arctangent makes of pixel values 0 and 1 before it is rescaled."""
    lowest, highest = (float(np.arctan((pixel_to_dbz(p) - CENTRE_DBZ) / WIDTH_DBZ)) for p in (0, 1))
    return lowest, highest


class Rover:
    """Nowcast by variational flow between the last two frames."""

    def __init__(self, transform: Transform, exclude: NDArray[np.bool_] | None = None) -> None:
        """Choose the brightness that flow and interpolation see.

        Args:
            transform: "linear" for pixel values as they are, "arctangent" for the benchmark's
                nonlinear transform, which spreads the reflectivities around 33 dBZ.
            exclude: pixels (y, x) that are noise whatever their value, such as HKO-7's
                `exclude_mask`; None for none.

        Raises:
            InputError: there is no such transform.
        """
        if transform not in get_args(Transform):
            raise InputError(
                f"ROVER: found the transform {transform!r}, expected linear or arctangent"
            )
        self.transform, self.exclude = transform, exclude

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Move the last frame on along the flow between the last two.

        Args:
            frames: pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first, at least two of
                them; values outside count as the nearest inside, NaN as no echo.
            lead_times: how many frames to forecast.

        Returns:
            `(batch, lead_times, 1, y, x)`, in [0, 1], of the dtype and on the device of `frames`.

        Raises:
            InputError: fewer than two frames, more than one channel, or a side below 2 pixels.
        """
        if (
            frames.ndim != 5
            or frames.shape[1] < 2
            or frames.shape[2] != 1
            or min(frames.shape[3:]) < 2
        ):
            raise InputError(
                f"ROVER: found frames of shape {tuple(frames.shape)}, expected (batch, time, 1, "
                "y, x) with at least 2 frames and 2 pixels on each side"
            )
        last_two = frames[:, -2:, 0].detach().to("cpu", torch.float32).numpy()
        pixels = np.nan_to_num(last_two).clip(0.0, 1.0)
        noise = pixels < NOISE_BELOW
        if self.exclude is not None:
            if self.exclude.shape != pixels.shape[2:]:
                raise InputError(
                    f"ROVER: found frames of {pixels.shape[2:]}, expected {self.exclude.shape} as "
                    "the pixels to exclude"
                )
            noise |= self.exclude
        pixels = np.where(noise, np.float32(0.0), pixels)
        if self.transform == "arctangent":
            pixels = arctangent(pixels).clip(0.0, 1.0)
        shape = (len(pixels), lead_times, *pixels.shape[2:])
        moved = np.empty(shape, dtype=np.float32)
        for (before, last), forecast in zip(pixels, moved, strict=True):
            _advect(last, variational_flow(before, last), forecast)
        if self.transform == "arctangent":
            moved = inverse_arctangent(moved).astype(np.float32, copy=False)
        return torch.from_numpy(moved.clip(0.0, 1.0)[:, :, None]).to(frames)


def _advect(
    field: NDArray[np.float32], flow: NDArray[np.float32], moved: NDArray[np.float32]
) -> None:
    """Fill `moved` `(lead_times, y, x)`: each time step is interpolated from the one before."""
    x, y = np.indices(field.shape, dtype=np.float32)[::-1] - flow
    for frame in moved:
        field = np.asarray(
            cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        )
        frame[:] = field
