"""Coordinates that move with the rain, for networks that see and forecast along the flow.

The motion is that of the optical-flow method: estimated from the input frames (`motion`), followed
backwards by semi-Lagrangian steps (`extrapolation`).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nowcast.models.extrapolation import origins
from nowcast.models.motion import estimate_motion


class Flow:
    """Moves fields on along the motion of a batch of sequences, differentiably in the fields.

    Between pixels it is interpolated (bilinearly), once however far a field is moved; air from
    outside the grid brings what the edge has nearest to where the air was. What that becomes with
    time, a network learns; dry air from everywhere outside is what no weather has.

    Args:
        origins: where the air at each pixel was 1, 2, … time steps before (batch, step, y, x, 2):
            column and row, −1 to 1 from the first to the last.
    """

    def __init__(self, origins: Tensor) -> None:
        self.origins = origins

    @classmethod
    def of(cls, frames: Tensor, steps: int) -> "Flow":
        """The motion in sequences of frames.

        It is estimated on the CPU, for which a GPU is waited for, and has no gradient.

        Args:
            frames: pixel values (batch, time, 1, y, x), oldest first; the motion of a single frame
                is none.
            steps: time steps by which fields are to be moved at most.
        """
        batch, _, _, height, width = frames.shape
        if frames.is_meta:  # To find out shapes.
            return cls(frames.new_empty(batch, steps, height, width, 2))
        found = _origins(frames.detach().to("cpu", torch.float32), steps)
        precise = torch.promote_types(frames.dtype, torch.float32)
        return cls(found.to(frames.device, precise))

    def to_the_last(self, frames: Tensor) -> Tensor:
        """Frames (batch, time, 1, y, x), each moved on to the time of the last."""
        earlier = frames.shape[1] - 1
        if not earlier:
            return frames
        moved = _moved(frames[:, :-1], self.origins[:, :earlier].flip(1))
        return torch.cat([moved.to(frames.dtype), frames[:, -1:]], dim=1)

    def to_their_times(self, forecast: Tensor) -> Tensor:
        """Fields 1, 2, … steps ahead (batch, lead time, 1, y, x), each moved on to its time."""
        return _moved(forecast, self.origins[:, : forecast.shape[1]])


def _moved(fields: Tensor, origins: Tensor) -> Tensor:
    moved = functional.grid_sample(
        fields.flatten(0, 1).to(origins.dtype),
        origins.flatten(0, 1),
        padding_mode="border",
        align_corners=True,
    )
    return moved.unflatten(0, fields.shape[:2])


@torch.compiler.disable
def _origins(frames: Tensor, steps: int) -> Tensor:
    pixels = frames[:, :, 0].numpy().clip(0.0, 1.0)
    batch, time, height, width = pixels.shape
    found = np.empty((batch, steps, 2, height, width), np.float32)
    for sequence, places in zip(pixels, found, strict=True):
        motion = estimate_motion(sequence) if time > 1 else np.zeros((2, height, width), np.float32)
        for place, position in zip(places, origins(motion, steps), strict=True):
            place[:] = position
    last = np.array([width - 1, height - 1], np.float32)
    return torch.from_numpy(np.moveaxis(found, 2, -1) * (2 / last) - 1)
