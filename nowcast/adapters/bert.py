"""BERT's finetuning on one task of GLUE with transformers' Trainer (E.1).

The layers are the only thing added. Which finetunings there are, and what is chosen among them, is
the business of `glue_experiment`; how a network is opened, of `pretrained`; how Trainer is used, of
`trainer`.
"""

import csv
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nowcast.adapters import glue
from nowcast.adapters.pretrained import open_network
from nowcast.adapters.rows import LayerSettings, insert_layers, layer_refusals
from nowcast.adapters.runs import Outcome, Run
from nowcast.adapters.submission import predictions, write_predictions
from nowcast.files import replacing
from nowcast.memel import MEmeL
from nowcast.memel.variants import FINETUNED_WITH, Inhibition

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("nowcast")


@dataclass(frozen=True)
class Finetuning:
    """How a task is finetuned.

    The paper names batch size and epochs (E.1) and otherwise follows BERT; the rest is what
    google-research/bert does (run_classifier.py, optimization.py). Different from there: Adam
    corrects the bias of its moments; after the warm-up the learning rate falls from its peak, not
    from where it would be without warm-up (0.9 of it); an epoch ends with a smaller batch, where
    theirs runs into the next epoch; sentences are padded to the longest of a batch, not to
    `max_length`, which changes nothing but the time; the head is drawn from a normal distribution,
    not from a truncated one.

    Args:
        batch_size: samples of a step, of all processes together (E.1). With several processes, an
            epoch's last batch is filled up with the first samples of that epoch, so that all have
            the same share; what comes out thus depends on their number.
        epochs: passes over the training set (E.1).
        max_length: tokens of a sample; of a pair, the longer sentence is cut first
            (run_classifier.py).
        warmup: share of the steps in which the learning rate rises from 0 (run_classifier.py);
            then it falls linearly to 0 (optimization.py).
        weight_decay: decoupled, without biases and LayerNorm (optimization.py).
        adam_epsilon: (optimization.py).
        clip: largest norm of the gradient (optimization.py).
        precision: of training and evaluation; "bf16" is autocast, weights and statistics stay fp32.
    """

    batch_size: int = 32
    epochs: int = 3
    max_length: int = 128
    warmup: float = 0.1
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-6
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class Execution:
    """What decides where and how, but not the scores.

    Args:
        device: "auto" is a GPU if there is one. With torchrun each process has its own; else it is
            the first that CUDA_VISIBLE_DEVICES names.
        checkpoint_every: steps after which an interrupted finetuning can go on, beside the ends of
            epochs.
        test_predictions: predict the test splits for the GLUE server, too, where there are any. As
            they cannot be made later, what is done in a folder must have been done with the same.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: int | None = None
    test_predictions: bool = True


@dataclass(frozen=True)
class Tokens:
    """A task's splits as a network takes them.

    Args:
        task: whose they are.
        tokenizer: that made them, and pads their batches.
        splits: by name, with "label" where there are labels, and "idx".
    """

    task: glue.Task
    tokenizer: Any
    splits: "Mapping[str, Dataset]"


def tokenize(
    task: glue.Task, splits: "Mapping[str, Dataset]", tokenizer: Any, length: int
) -> Tokens:
    """Texts to numbers, sentences of a pair one after another.

    Args:
        task: whose splits they are.
        splits: with texts.
        tokenizer: of the network.
        length: tokens of a sample at most.
    """

    def numbers(rows: dict[str, Any]) -> Any:
        return tokenizer(*(rows[text] for text in task.texts), truncation=True, max_length=length)

    how = {"batched": True, "keep_in_memory": True, "load_from_cache_file": False}
    return Tokens(
        task,
        tokenizer,
        {
            name: split.map(numbers, remove_columns=list(task.texts), **how)
            for name, split in splits.items()
        },
    )


def steps_of(samples: int, finetuning: Finetuning) -> int:
    """Optimizer steps of a finetuning."""
    return finetuning.epochs * -(-samples // finetuning.batch_size)


def insert_into(
    model: Any, inhibition: Inhibition, settings: LayerSettings, steps: int
) -> dict[str, MEmeL]:
    """MEmeL layers behind the attention of the middle layers, padding excluded (E.1).

    Raises:
        InputError: for a setting that is out of range, or a name that matches no module.
    """
    return insert_layers(model, inhibition, settings, "attention", steps, mask="attention_mask")


def finetune(
    run: Run,
    folder: Path,
    pretrained: Path,
    tokens: Tokens,
    finetuning: Finetuning,
    settings: LayerSettings,
    execution: Execution,
) -> Outcome:
    """Finetune, or go on from the last checkpoint, and evaluate.

    Leaves in `folder` dev_<column>.tsv with labels and predictions, test_<file>.tsv as the server
    takes them (`_in_testing` in the name where deactivation was kept on), and checkpoints.

    Args:
        run: what to do.
        folder: for checkpoints and predictions.
        pretrained: folder of the network.
        tokens: of the task.
        finetuning: settings that decide the outcome.
        settings: of the layers, where the run has some.
        execution: settings that do not.

    Raises:
        InputError: for settings that are out of range, such as a top above the activations of a
            sample, or a network that cannot be opened.
    """
    from nowcast.adapters.trainer import last_checkpoint, losses, make_trainer, seconds

    train = tokens.splits["train"]
    model = open_network(pretrained, len(tokens.task.labels) or 1, run.seed)
    layers = {}
    if run.inhibition is not None:
        layers = insert_into(model, run.inhibition, settings, steps_of(len(train), finetuning))
    trainer = make_trainer(
        model, tokens.tokenizer, train, folder, run.learning_rate, run.seed, finetuning, execution
    )
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        log.info("going on from %s", checkpoint)
    with layer_refusals():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

        started = time.monotonic()
        scores = _evaluate(trainer, tokens, folder, "", execution.test_predictions)
        scores_in_testing = {}
        if layers:
            for layer in layers.values():
                layer.in_evaluation = True
            # Only the row MEmeL-T shows it.
            test = execution.test_predictions and run.inhibition == FINETUNED_WITH["MEmeL-T"]
            scores_in_testing = _evaluate(trainer, tokens, folder, "_in_testing", test)
    took = seconds(trainer) + time.monotonic() - started
    return Outcome(scores, scores_in_testing, losses(trainer), trainer.state.global_step, took)


def _evaluate(
    trainer: Any, tokens: Tokens, folder: Path, suffix: str, test: bool
) -> dict[str, float]:
    """Scores on dev; predictions of dev and, if `test`, of test in files with a suffix."""
    from nowcast.adapters.trainer import predict

    task, splits = tokens.task, tokens.splits
    scores: dict[str, float] = {}
    for column, name in task.dev.items():
        labels, outputs = np.asarray(splits[name]["label"]), predict(trainer, splits[name])
        scores |= glue.scores(column, outputs, labels)
        if trainer.is_world_process_zero():
            _write_dev(folder / f"dev_{column}{suffix}.tsv", labels, glue.answers(task, outputs))
    for stem, name in task.test.items():
        if test and name in splits:
            said = predictions(task, predict(trainer, splits[name]))
            if trainer.is_world_process_zero():
                write_predictions(folder / f"test_{stem}{suffix}.tsv", splits[name]["idx"], said)
    return scores


def _write_dev(path: Path, labels: np.ndarray, answers: np.ndarray) -> None:
    """Labels and answers as numbers: of the class, or the value of a regression."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["label", "prediction"])
        writer.writerows(zip(labels.tolist(), answers.tolist(), strict=True))
