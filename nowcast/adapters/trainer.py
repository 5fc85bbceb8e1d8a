"""transformers' Trainer as the finetunings use it: its arguments, its checkpoints, its progress.

Imported where a network is finetuned, not before: it needs transformers.
"""

import json
import logging
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from nowcast.adapters.processes import processes
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.progress import progress

if TYPE_CHECKING:
    from datasets import Dataset

    from nowcast.adapters.bert import Execution, Finetuning

log = logging.getLogger("nowcast")

EVALUATION_BATCH = 128
"""Samples of a batch that is only predicted, of each process.

What comes out depends on it by rounding alone, but where layers are kept on in testing (MEmeL-T)
that select once per batch (`LayerSettings.per`).
"""

BATCHES_WORTH_A_LINE = 200
"""A prediction of so many batches shows its progress."""


def make_trainer(
    model: Any,
    tokenizer: Any,
    train: "Dataset",
    folder: Path,
    learning_rate: float,
    seed: int,
    finetuning: "Finetuning",
    execution: "Execution",
) -> Trainer:
    """A Trainer for one finetuning; it writes checkpoints at the ends of epochs.

    Args:
        model: with its layers.
        tokenizer: that pads batches.
        train: tokens and labels.
        folder: for checkpoints.
        learning_rate: peak.
        seed: of the order of the data and of dropout.
        finetuning: what decides the outcome.
        execution: what does not.

    Raises:
        InputError: if the device cannot do it.
    """
    from transformers import DataCollatorWithPadding

    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=finetuning.batch_size // processes(),
            per_device_eval_batch_size=EVALUATION_BATCH,
            num_train_epochs=finetuning.epochs,
            learning_rate=learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=finetuning.warmup,
            weight_decay=finetuning.weight_decay,
            adam_epsilon=finetuning.adam_epsilon,
            max_grad_norm=finetuning.clip,
            bf16=finetuning.precision == "bf16",
            use_cpu=choose_device(execution.device).type == "cpu",
            seed=seed,
            # With several processes Trainer multiplies the loss by their number, for models that
            # divide it by the samples of all; BERT's classifier takes the mean of its own.
            average_tokens_across_devices=False,
            ddp_find_unused_parameters=False,
            log_level="error",
            log_level_replica="error",
            logging_strategy="epoch",
            logging_nan_inf_filter=False,
            save_strategy="epoch",
            save_total_limit=1,
            disable_tqdm=True,
            report_to="none",
        )
    except ValueError as error:
        raise InputError(f"device and precision: {' '.join(str(error).split())}") from error
    # Several GPUs without torchrun: nn.DataParallel would train copies, whose layers' statistics
    # are lost after each step. Trainer itself sets this where a model brings its own parallelism.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=train,
        callbacks=[Progress(execution.checkpoint_every)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Progress(TrainerCallback):
    """Shows how far it is, saves between the ends of epochs, keeps the time in the log history.

    Args:
        checkpoint_every: steps.
    """

    def __init__(self, checkpoint_every: int | None) -> None:
        self.checkpoint_every = checkpoint_every
        self._steps: Iterator[int] = iter(())
        self._batches: Iterator[int] | None = None
        self._since = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to count."""
        self._since = time.monotonic()
        if state.is_world_process_zero:
            steps = range(state.global_step, state.max_steps)
            self._steps = progress(steps, "training", unit="steps")
            next(self._steps, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step further."""
        next(self._steps, None)
        if self.checkpoint_every and state.global_step % self.checkpoint_every == 0:
            # The loss so far is logged with it, or the epoch's mean would lose it.
            control.should_save = control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep how long it took, for a training that goes on in another process."""
        if "loss" in kwargs["logs"]:
            now = time.monotonic()
            state.log_history[-1]["seconds"] = now - self._since
            self._since = now

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One batch further."""
        if self._batches is None:
            batches = range(len(kwargs["eval_dataloader"]))
            shown = state.is_world_process_zero and len(batches) >= BATCHES_WORTH_A_LINE
            self._batches = progress(batches, "prediction", unit="batches") if shown else iter(())
            next(self._batches, None)
        next(self._batches, None)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        """Done."""
        self._batches = None


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete; one that is damaged is passed over."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        if _complete(path):
            return path
        log.info("%s: found a damaged checkpoint, passed over", path)
    return None


def _complete(checkpoint: Path) -> bool:
    """Whether all files of a checkpoint are there and whole; Trainer writes its state last."""
    from safetensors import SafetensorError, safe_open

    torch_files = [checkpoint / name for name in ("optimizer.pt", "scheduler.pt")]
    torch_files += checkpoint.glob("rng_state*.pth")
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        with safe_open(checkpoint / "model.safetensors", "pt"):
            pass
    except (OSError, ValueError, SafetensorError):
        return False
    # PyTorch's files are zip files, whose contents stand at their end.
    return len(torch_files) > 2 and all(map(zipfile.is_zipfile, torch_files))


def losses(trainer: Trainer) -> tuple[float, ...]:
    """Mean training loss of each epoch, whose steps may have been logged in several parts."""
    epochs = round(trainer.state.num_train_epochs)
    per_epoch = trainer.state.max_steps // epochs
    means = [0.0] * epochs
    before = 0
    for entry in trainer.state.log_history:
        if "loss" in entry:
            step = int(entry["step"])
            means[(step - 1) // per_epoch] += float(entry["loss"]) * (step - before) / per_epoch
            before = step
    return tuple(means)


def seconds(trainer: Trainer) -> float:
    """Time of the training, in all the processes that had a part in it one after another."""
    return float(sum(entry.get("seconds", 0.0) for entry in trainer.state.log_history))


def predict(trainer: Trainer, rows: "Dataset") -> np.ndarray:
    """The network's outputs (n, classes) for a split, in its order.

    Batches are of rows of like length, so that little is padding.
    """
    lengths = [len(tokens) for tokens in rows[:]["input_ids"]]
    order = np.argsort(lengths, kind="stable")[::-1]
    unlabelled = rows.select(order).remove_columns(
        [name for name in ("label",) if name in rows.column_names]
    )
    found = trainer.predict(unlabelled).predictions
    # Some models put hidden states out, too.
    found = found[0] if isinstance(found, tuple) else found
    outputs = np.empty_like(found)
    outputs[order] = found
    return outputs
