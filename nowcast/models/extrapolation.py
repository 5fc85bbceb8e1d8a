"""Backward semi-Lagrangian extrapolation: a field moved along a steady motion.

After Germann and Zawadzki (Mon. Weather Rev. 130, 2002). Where the motion comes from is no matter
here; `motion` estimates it from frames.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError

Inflow = Literal["dry", "edge"]
"""What air from outside the grid brings: zero, or what the edge has nearest to where it was."""


def extrapolate(
    field: NDArray[np.floating[Any]],
    motion: NDArray[np.floating[Any]],
    lead_times: int,
    inflow: Inflow = "dry",
) -> NDArray[np.float32]:
    """Move a field along a steady motion.

    For every pixel the path of its air is followed backwards, one midpoint iteration per time
    step; the field is interpolated (bilinearly) once per lead time, at the end of the path, so
    that it does not blur with every step.

    Args:
        field: what is moved, `(y, x)`; rain rate or anything else that zero is dry for. NaN
            spreads to the pixels interpolated from it.
        motion: displacement along x and y in pixels per time step, `(2, y, x)`.
        lead_times: how many time steps.
        inflow: what air from outside the grid brings.

    Returns:
        The field after 1, 2, … time steps, `(lead_times, y, x)`.

    Raises:
        InputError: `motion` does not fit `field`, or there is no such inflow.
    """
    if inflow not in get_args(Inflow):
        raise InputError(
            f"extrapolation: found inflow {inflow!r}, expected {' or '.join(get_args(Inflow))}"
        )
    if field.ndim != 2 or motion.shape != (2, *field.shape):
        raise InputError(
            f"extrapolation: found a field of shape {field.shape} with motion of shape "
            f"{motion.shape}, expected (y, x) with (2, y, x)"
        )
    field = np.ascontiguousarray(field, dtype=np.float32)
    moved = np.empty((lead_times, *field.shape), dtype=np.float32)
    border = cv2.BORDER_CONSTANT if inflow == "dry" else cv2.BORDER_REPLICATE
    for frame, (x, y) in zip(moved, origins(motion, lead_times), strict=True):
        cv2.remap(field, x, y, cv2.INTER_LINEAR, frame, border, borderValue=0.0)
    return moved


def origins(motion: NDArray[np.floating[Any]], steps: int) -> Iterator[NDArray[np.float32]]:
    """Where the air that arrives at each pixel was 1, 2, … time steps before.

    Args:
        motion: steady displacement along x and y in pixels per time step, `(2, y, x)`.
        steps: how many.

    Yields:
        Column and row, `(2, y, x)`, outside the grid where air comes from there; overwritten by
        the next.
    """
    motion = np.ascontiguousarray(motion, dtype=np.float32)
    position = np.indices(motion.shape[1:], dtype=np.float32)[::-1].copy()
    # Steady motion: what one midpoint iteration from a pixel gives is the same at every step.
    step = _motion_at(motion, position - np.float32(0.5) * motion)
    for _ in range(steps):
        position -= _motion_at(step, position)
        yield position


def _motion_at(motion: NDArray[np.float32], position: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion at positions, both `(2, y, x)`; outside the grid that of the nearest pixel."""
    sampled = np.empty_like(motion)
    x, y = position
    # One by one: OpenCV takes twice as long for both components in one array.
    for component, out in zip(motion, sampled, strict=True):
        cv2.remap(component, x, y, cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE)
    return sampled
