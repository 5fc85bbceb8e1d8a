"""Forecast cases: clips to forecast and score, with what must be known of them beside the pixels.

Which clips there are, and where they come from, is decided elsewhere.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Cases:
    """A batch of clips to forecast and score.

    Attributes:
        inputs: observed pixel values in [0, 1], `(batch, time, 1, y, x)`, float32.
        targets: what is to be forecast, `(batch, lead_times, 1, y, x)`, float32.
        mask: True where a target counts, of the same shape.
        places: name of the place of each clip, `(batch,)`.
        issue_times: valid time of the last input frame of each clip, datetime64[s] `(batch,)`.
        events: the event that each clip belongs to, `(batch,)`: the unit that is resampled, because
            clips of one event are not independent.
        new_episode: whether a clip is the first of an episode, `(batch,)`.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    places: tuple[str, ...]
    issue_times: NDArray[np.datetime64]
    events: tuple[str, ...]
    new_episode: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.places)
