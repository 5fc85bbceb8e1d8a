"""What happens around the training steps: the learning curve, log lines, a clean stop."""

import csv
import logging
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from nowcast.errors import Stopped
from nowcast.files import replacing

log = logging.getLogger("nowcast")

SECONDS_BETWEEN_LINES = 10.0

SECONDS_BETWEEN_LOOKS = 1.0
"""Reading the loss of a step waits until a GPU has done it."""


class LearningCurve(Logger):
    """Experiment logger that appends to a CSV file with the columns step, metric, value.

    A resumed run first drops what was logged after the step that it resumes from, so that the file
    is that of an unbroken run.

    Args:
        path: of the CSV file.
    """

    COLUMNS = ("step", "metric", "value")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Of the logger."""
        return "learning curve"

    @property
    def version(self) -> str:
        """There is one per run."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Settings stand in the run's config file, not here."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row for each metric."""
        with self.path.open("a", newline="") as file:
            rows = csv.writer(file)
            if not file.tell():
                rows.writerow(self.COLUMNS)
            for metric, value in metrics.items():
                if metric != "epoch":
                    rows.writerow([step, metric, repr(float(value))])

    @rank_zero_only
    def keep_until(self, step: int) -> None:
        """Drop all rows logged after the optimizer step `step`."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            kept = csv.DictWriter(file, self.COLUMNS)
            kept.writeheader()
            kept.writerows(rows)


def read_learning_curve(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Metrics of a learning curve file: name → (steps, values)."""
    curve: dict[str, tuple[list[int], list[float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            steps, values = curve.setdefault(row["metric"], ([], []))
            steps.append(int(row["step"]))
            values.append(float(row["value"]))
    return curve


class DropLaterRows(pl.Callback):
    """Makes the learning curve of a resumed run that of an unbroken one."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step."""
        for logger in trainer.loggers:
            if isinstance(logger, LearningCurve):
                logger.keep_until(trainer.global_step)


class StepBar(TQDMProgressBar):
    """A progress bar over the steps of the training, for runs on a terminal."""

    shown = -math.inf
    loss = ""

    @property
    def total_train_batches(self) -> int | float:
        """The clips have no end; the training has."""
        return self.trainer.max_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Show how far it is, once a second."""
        now = time.monotonic()
        if now - self.shown < SECONDS_BETWEEN_LOOKS and trainer.global_step != trainer.max_steps:
            return
        self.shown = now
        self.loss = f"{float(outputs['loss']):.4g}"
        self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))

    def get_metrics(self, *_: Any) -> dict[str, Any]:
        """What stands behind the bar."""
        return {"loss": self.loss}


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
        if now - self.said < SECONDS_BETWEEN_LINES and step != trainer.max_steps:
            return
        self.said = now
        per_step = (now - self.started) / max(1, step - self.first_step)
        left = per_step * (trainer.max_steps - step)
        log.info(
            "step %s of %s, loss %.4g, %.3g s a step, %.0f s left",
            f"{step:,}",
            f"{trainer.max_steps:,}",
            float(outputs["loss"]),
            per_step,
            left,
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the validation scores."""
        scores = {
            k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("valid_")
        }
        log.info(
            "step %s validation: %s",
            f"{trainer.global_step:,}",
            ", ".join(
                f"{name.removeprefix('valid_')} {value:.4g}" for name, value in scores.items()
            ),
        )


class KeepCheckpoint(pl.Callback):
    """Saves the newest checkpoint: every so many steps, at the end, and when asked to stop.

    On Ctrl-C or SIGTERM the step is finished, the checkpoint saved, and training stops. One file is
    kept; it is written beside, and renamed once the step's metrics are logged, so that there is
    always a complete one and a run that goes on from it misses no row of the learning curve. A
    validation that is due at the same step comes first, so that resuming does not miss it.

    Args:
        path: the file.
        every: steps between savings.
        validate_every: steps between validations; None where there are none.
    """

    def __init__(self, path: Path, every: int, validate_every: int | None) -> None:
        self.path, self.every, self.validate_every = path, every, validate_every
        self.asked_to_stop = False
        self.saved_step: int | None = None
        self._stopping = False
        self._written: Path | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time to, unless a validation comes first."""
        self._agree(trainer)
        if self.validate_every is None or trainer.global_step % self.validate_every:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if it is time to."""
        self._agree(trainer)
        self._save_if_due(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop if asked to, now that the step is logged and its checkpoint saved."""
        self._rename()
        self.stop_if_asked(trainer.global_step)

    def stop_if_asked(self, step: int) -> None:
        """Stop if that was asked for and the checkpoint of a step saved.

        Raises:
            Stopped: saying where.
        """
        if self._stopping and self.saved_step == step:
            raise Stopped(f"stopped after step {step:,}; the same command goes on from there")

    def _agree(self, trainer: pl.Trainer) -> None:
        """Stop all processes after the same step, whichever of them were asked to."""
        self._stopping = self.asked_to_stop
        if trainer.world_size > 1:
            decide = trainer.strategy.reduce_boolean_decision
            self._stopping = decide(self.asked_to_stop, all=False)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if self._stopping or step % self.every == 0 or step == trainer.max_steps:
            partial = self.path.with_name(f".{self.path.name}.partial")
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                self._written = partial
            self.saved_step = step

    def _rename(self) -> None:
        if self._written is not None:
            self._written.replace(self.path)
            self._written = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back, now that the last step is logged."""
        self._rename()
        trainer.strategy.barrier()  # Other processes may read it next.
        self._give_signals_back()

    def on_exception(self, *_: Any) -> None:
        """Give the signals back."""
        self._give_signals_back()

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.asked_to_stop:
            raise KeyboardInterrupt
        self.asked_to_stop = True
        log.info("stopping after this step; once more stops at once")

    def _give_signals_back(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)
