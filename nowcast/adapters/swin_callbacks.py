"""What happens around the steps of a finetuning on images: checkpoints, a clean stop, log lines."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_only

from nowcast import memel
from nowcast.adapters.swin_training import Finetuning
from nowcast.errors import InputError, Stopped

log = logging.getLogger("nowcast")

SECONDS_BETWEEN_LINES = 10.0
OWN = "finetuning"
"""Under this name our own entries stand in Lightning's checkpoint."""


def is_first_process() -> bool:
    """Whether this is the process that writes files and says what is done.

    Lightning starts further ones by itself, without what torchrun would tell them.
    """
    return getattr(rank_zero_only, "rank", 0) == 0


class KeepEpochs(Checkpoint):
    """Saves a checkpoint at the end of each epoch; there is one file, which is always complete.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """That the finetuning took so far, in all its parts."""
        return self.seconds_before + time.monotonic() - self.started

    def resumes(self) -> bool:
        """Whether there is a checkpoint to go on from.

        Raises:
            InputError: if it is damaged.
        """
        if not self.path.exists():
            return False
        try:
            torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)[OWN]
        except Exception as error:  # Of many kinds, by what is wrong with it.
            raise InputError(
                f"{self.path}: found no checkpoint of a finetuning; remove it to start anew"
            ) from error
        return True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; Lightning calls checkpoints last, so the epoch's loss is among it."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not know of."""
        assert isinstance(pl_module, Finetuning)
        checkpoint[OWN] = {"losses": pl_module.losses, "seconds": self.seconds}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it back."""
        assert isinstance(pl_module, Finetuning)
        pl_module.losses = list(checkpoint[OWN]["losses"])
        self.seconds_before = checkpoint[OWN]["seconds"]


class Stopping(pl.Callback):
    """On Ctrl-C or SIGTERM the step is finished and training stops, in all processes alike."""

    def __init__(self) -> None:
        self.asked, self._process = False, os.getpid()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop if asked to."""
        # Where one process stopped alone, the others would wait for it.
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self._stop(trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop if asked to; of several processes, some may have a batch more than others."""
        if self.asked and trainer.world_size == 1:
            self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            raise SystemExit(130)
        raise Stopped(
            f"stopped in epoch {trainer.current_epoch + 1}; the same command goes on from its start"
            if trainer.current_epoch < (trainer.max_epochs or 0)
            else "stopped after the last epoch; the same command goes on from there"
        )

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if os.getpid() == self._process:  # Processes that read images have this handler, too.
            log.info("stopping after this step; once more stops at once")


class EpochBar(TQDMProgressBar):
    """A progress bar over each epoch, for runs on a terminal; epochs count from 1, as elsewhere."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Name the epoch."""
        super().on_train_epoch_start(trainer)
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self.train_progress_bar.set_description(epoch)


class LogLines(pl.Callback):
    """A line every ten seconds and for each validation, for runs without a terminal."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.said = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Say how far it is."""
        now, step = time.monotonic(), trainer.global_step
        if now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        steps = int(trainer.estimated_stepping_batches)
        per_step = (now - self.started) / (step - self.first_step)
        log.info(
            "epoch %d of %s, step %s of %s, loss %.4g, %.3g s a step, %.0f s left",
            *(trainer.current_epoch + 1, trainer.max_epochs, f"{step:,}", f"{steps:,}"),
            *(float(outputs["loss"]), per_step, per_step * (steps - step)),
        )


class LogScores(pl.Callback):
    """A line for each epoch and for each validation after the training."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the scores."""
        assert isinstance(pl_module, Finetuning)
        said = ", ".join(f"{name} {100 * score:.2f} %" for name, score in pl_module.scores.items())
        what = "after the last epoch"
        if trainer.state.fn == "fit":
            what = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        elif any(layer.in_evaluation for layer in memel.inserted(pl_module.model).values()):
            what += ", with deactivation kept on"
        log.info("%s: %s", what, said)
