"""What is not observed moves with the air: no forecast can be made of air that no radar saw."""

from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.extrapolation import origins

Coverage = Literal["moves", "stays"]
"""Where a forecast is missing: where the air comes from that was not observed, or stays there."""


def check_coverage(coverage: str) -> None:
    """Refuse what is none of `Coverage`."""
    if coverage not in get_args(Coverage):
        raise InputError(
            f"coverage: found {coverage!r}, expected {' or '.join(get_args(Coverage))}"
        )


def covered_ahead(
    covered: NDArray[np.bool_], motion: NDArray[np.floating[Any]], lead_times: int
) -> NDArray[np.bool_]:
    """Where the air that arrives was observed when the forecast was made.

    Air from beyond the grid was not.

    Args:
        covered: True where the last frame was observed, (y, x).
        motion: displacement along x and y in pixels per time step, (2, y, x).
        lead_times: how many time steps.

    Returns:
        (lead_times, y, x).
    """
    now = covered.astype(np.float32)
    ahead = np.empty((lead_times, *covered.shape), dtype=bool)
    for frame, (x, y) in zip(ahead, origins(motion, lead_times), strict=True):
        known = cv2.remap(now, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, borderValue=0.0)
        frame[:] = known >= 0.5
    return ahead
