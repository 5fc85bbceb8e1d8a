"""Gradient norms in the learning curve."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from nowcast.training.module import NowcastModule


class LogGradientNorms(pl.Callback):
    """Logs the largest gradient norms, before clipping, of the steps since the last row.

    The gradients of a recurrent network explode in single batches, to a thousand times their usual
    norm. Adam divides by the root of their mean square, which one such batch rules for hundreds of
    steps, in which next to nothing is learnt: with these norms a run can be seen to stand still,
    and `clip_norm` be chosen.

    Args:
        every: steps from row to row.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.largest: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Take in a step."""
        assert isinstance(pl_module, NowcastModule)
        for part, norm in pl_module.gradient_norms.items():
            before = self.largest.get(part, norm).to(norm.device)
            self.largest[part] = torch.maximum(norm, before)
            pl_module.log(f"gradient_norm/{part}", self.largest[part])
        if trainer.global_step % self.every == 0:
            self.largest = {}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint between two rows."""
        return dict(self.largest)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.largest = dict(state_dict)
