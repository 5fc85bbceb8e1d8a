"""Persistence: the rain stays as it is. The reference that every forecast has to beat."""

import torch


class Persistence:
    """Repeats the last observed frame at every lead time (Eulerian persistence).

    Attributes:
        still: nothing moves.
    """

    still = True

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Repeat the last frame.

        Args:
            frames: observed pixel values, `(batch, time, 1, y, x)`, oldest first.
            lead_times: how many frames to forecast.

        Returns:
            `(batch, lead_times, 1, y, x)`, memory of its own.
        """
        return frames[:, -1:].repeat(1, lead_times, 1, 1, 1)
