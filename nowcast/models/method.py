"""What every nowcast method can do, whether it learns or not.

Persistence, optical flow, the networks and foreign packages are all used through this one
protocol; none of them inherits from anything here.
"""

from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class NowcastMethod(Protocol):
    """Something that continues a sequence of radar frames."""

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Forecast the frames that follow.

        Args:
            frames: observed pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first, evenly
                spaced in time.
            lead_times: how many frames to forecast; the first is one time step after the last
                observed one.

        Returns:
            Forecast pixel values, `(batch, lead_times, 1, y, x)`, on the device of `frames`.
        """
        ...
