"""Rain between two frames of a forecast, interpolated along its motion.

Two fields one time step apart, mixed where they stand, show a moving shower twice at half its
strength. So both are moved to the time in between first, the earlier one forwards and the later
one backwards, and mixed by how near each is in time: the interpolation of Anagnostou and Krajewski
(J. Atmos. Oceanic Technol. 16, 1999) for accumulations, also found in pysteps.
"""

import numpy as np
from numpy.typing import NDArray

from nowcast.models.optical_flow import extrapolate


def between(
    earlier: NDArray[np.float32],
    later: NDArray[np.float32],
    motion: NDArray[np.float32],
    fraction: float,
) -> NDArray[np.float32]:
    """The field between two, `fraction` of a time step after the earlier one.

    What the grid's edges have comes in over them.

    Args:
        earlier: rain rate (y, x).
        later: the same, one time step later.
        motion: displacement along x and y in pixels per time step, (2, y, x).
        fraction: between 0 and 1.
    """
    share = np.float32(fraction)
    forwards = extrapolate(earlier, share * motion, 1, "edge")[0]
    backwards = extrapolate(later, (share - 1) * motion, 1, "edge")[0]
    return (1 - share) * forwards + share * backwards
