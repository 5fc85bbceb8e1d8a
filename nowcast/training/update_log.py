"""Logging, while a network trains with MEmeL, what its steps do to the neurons it selects."""

from contextlib import AbstractContextManager
from typing import Any

import lightning.pytorch as pl
import torch

from nowcast import memel
from nowcast.training.data import Clip, split_clip
from nowcast.training.module import NowcastModule


class LogUpdateEffects(pl.Callback):
    """Logs the decrease ratio and the total update ratio (4.3) of every so many steps.

    A second forward pass on the step's own clips shows where the selected neurons have gone. It
    changes neither weights nor statistics. Logged are the mean and the median of both ratios over
    all that was selected.

    Args:
        every: steps between probes; the first steps, when statistics are not yet used, have none.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._probe: memel.UpdateProbe | None = None
        self._watching: AbstractContextManager[None] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Clip, batch_index: int
    ) -> None:
        """Watch what the layers select, if it is time to."""
        if (trainer.global_step + 1) % self.every:
            return
        assert isinstance(pl_module, NowcastModule)
        layers = memel.inserted(pl_module.network).values()
        if layers and all(layer.calls >= max(1, layer.late_start) for layer in layers):
            self._probe = memel.UpdateProbe(pl_module.network)
            self._watching = self._probe.before_step()
            self._watching.__enter__()

    def on_before_backward(self, *_: Any) -> None:
        """The forward pass is over."""
        self._look_away()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Clip,
        batch_index: int,
    ) -> None:
        """The step is taken: look again, and log."""
        if self._probe is None:
            return
        assert isinstance(pl_module, NowcastModule)
        inputs, _, _ = split_clip(batch, pl_module.description.input_frames)
        probe, self._probe = self._probe, None
        with probe.after_step(), torch.no_grad(), trainer.precision_plugin.forward_context():
            pl_module.network(inputs, pl_module.description.lead_times)
        effect = probe.effect()
        if not len(effect.z):  # A threshold may select nothing.
            return
        values = {
            "decrease_ratio": float(effect.decrease_ratio.mean()),
            "decrease_ratio_median": float(effect.decrease_ratio.median()),
            "update_ratio": float(effect.update_ratio.mean()),
            "update_ratio_median": float(effect.update_ratio.median()),
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)

    def on_exception(self, *_: Any) -> None:
        """Leave the layers as they were."""
        self._look_away()

    def _look_away(self) -> None:
        if self._watching is not None:
            self._watching.__exit__(None, None, None)
            self._watching = None
