"""GLUE's tasks in Table 1: their classes, their splits, their scores; not their training.

How their files are found and read stands in `glue_files`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_matthews_corrcoef,
    multiclass_accuracy,
)
from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

from nowcast.adapters.extras import require
from nowcast.adapters.glue_files import HUB as HUB
from nowcast.adapters.glue_files import Row, named, splits
from nowcast.errors import InputError

if TYPE_CHECKING:
    import datasets

log = logging.getLogger("nowcast")


@dataclass(frozen=True)
class Task:
    """A task of GLUE, for which one network is finetuned.

    Args:
        name: as in Table 1.
        config: of the hub's data set, also its folder there.
        texts: columns of a loaded split that hold text.
        labels: names of the classes in the order of their numbers; none in a regression.
        dev: split of each column of Table 1.
        test: split of each file of a submission, by the file's name without suffix.
    """

    name: str
    config: str
    texts: tuple[str, ...] = ("sentence1", "sentence2")
    labels: tuple[str, ...] = ()
    dev: Mapping[str, str] = field(default_factory=dict)
    test: Mapping[str, str] = field(default_factory=dict)


def _task(name: str, config: str, *labels: str, texts: int = 2) -> Task:
    names = ("sentence1", "sentence2")[:texts]
    return Task(name, config, names, labels, {name: "validation"}, {name: "test"})


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "MNLI",
            "mnli",
            labels=("entailment", "neutral", "contradiction"),
            dev={"MNLI-m": "validation_matched", "MNLI-mm": "validation_mismatched"},
            test={"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched", "AX": "test_ax"},
        ),
        _task("QQP", "qqp", "not_duplicate", "duplicate"),
        _task("QNLI", "qnli", "entailment", "not_entailment"),
        _task("SST-2", "sst2", "negative", "positive", texts=1),
        _task("CoLA", "cola", "unacceptable", "acceptable", texts=1),
        _task("STS-B", "stsb"),
        _task("MRPC", "mrpc", "not_equivalent", "equivalent"),
        _task("RTE", "rte", "entailment", "not_entailment"),
    )
}
"""The eight, in the order of Table 1; WNLI is left out, as by BERT's authors."""

COLUMNS: tuple[str, ...] = tuple(column for task in TASKS.values() for column in task.dev)
"""The nine of Table 1."""

PAPER: Mapping[str, Mapping[str, float]] = {
    row: dict(zip((*COLUMNS, "average"), values, strict=True))
    for row, values in {
        "Original": (84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4, 79.6),
        "Naive (a)": (84.3, 83.6, 71.7, 90.6, 93.8, 52.1, 85.8, 88.2, 66.4, 79.6),
        "Naive (b)": (84.7, 84.1, 71.6, 90.6, 93.6, 51.8, 86.5, 87.2, 68.0, 79.8),
        "MEmeL": (84.8, 83.9, 71.7, 90.9, 93.6, 54.5, 86.6, 87.6, 66.4, 80.0),
        "MEmeL-Tune": (84.8, 83.9, 71.7, 91.2, 93.7, 55.7, 86.6, 89.0, 68.1, 80.5),
        "MEmeL-T": (84.9, 83.7, 71.5, 90.5, 93.9, 52.1, 85.9, 88.7, 68.1, 79.9),
    }.items()
}
"""Tables 1 and 5, percent, as printed: scores of the server's test splits."""


_FURTHER = {"QQP": "accuracy", "CoLA": "accuracy", "MRPC": "accuracy", "STS-B": "Pearson"}


def further_columns(task: Task) -> tuple[str, ...]:
    """Columns that are shown beside the task's own.

    They are the other score that GLUE gives (QQP, MRPC, STS-B), and CoLA's accuracy, since the
    paper's caption counts CoLA under accuracy while its 52.1 is BERT's published Matthews.
    """
    return tuple(f"{column} ({_FURTHER[column]})" for column in task.dev if column in _FURTHER)


def scores(column: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The column's score under its name and, where it has one, its further score.

    Accuracy; for QQP and MRPC F1 of the class 1, for CoLA Matthews correlation, for STS-B
    Spearman's with the mean rank for ties. What is undefined is 0: a correlation with
    something that is everywhere the same, F1 without a true positive.

    Args:
        column: of Table 1.
        outputs: (n, classes) logits, or (n) or (n, 1) values in a regression; see `answers`.
        labels: (n).
    """
    task = next(task for task in TASKS.values() if column in task.dev)
    found = torch.from_numpy(answers(task, outputs))
    true = torch.from_numpy(np.asarray(labels).astype(np.int64 if task.labels else np.float64))
    if not task.labels:
        values = [_correlation(spearman_corrcoef, found, true)]
        values.append(_correlation(pearson_corrcoef, found, true))
    else:
        values = [float(multiclass_accuracy(found, true, len(task.labels), average="micro"))]
        if column == "CoLA":
            values.insert(0, _correlation(binary_matthews_corrcoef, found, true))
        elif column in _FURTHER:
            values.insert(0, float(binary_f1_score(found, true)))
    return dict(zip((column, *further_columns(task)), values, strict=True))


def answers(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What a network answers: (n) numbers of classes, of equals the first, or (n) values.

    An output that is not finite counts as 0, so that a network that diverged scores like one
    that answers everywhere the same.

    Args:
        task: that it was finetuned for.
        outputs: (n, classes) logits, or (n) or (n, 1) values in a regression.
    """
    finite = np.nan_to_num(np.asarray(outputs, dtype=np.float64), nan=0, posinf=0, neginf=0)
    return finite.argmax(axis=1) if task.labels else finite.reshape(len(finite))


def _correlation(of: Callable[[Tensor, Tensor], Tensor], found: Tensor, true: Tensor) -> float:
    # torchmetrics answers NaN (Pearson) or, for Matthews, up to 1 where the one or other is
    # constant.
    if (found == found[0]).all() or (true == true[0]).all():
        return 0.0
    return float(of(found, true).nan_to_num(0.0))


def task_patterns(task: Task) -> tuple[str, ...]:
    """Globs of the task's files in the hub's repository."""
    folder = (f"{task.config}/*.parquet",)
    return (*folder, "ax/*.parquet") if "AX" in task.test else folder


def load_task(task: Task, root: Path) -> "dict[str, datasets.Dataset]":
    """Read a task's splits from files, whose form is found by what is there; see `glue_files`.

    Rows of train and dev without text or label are skipped, as by the hub's reader, with a line
    in the log; in test they are refused, since the server wants every row predicted. Labels of
    test, which some copies have for MRPC, are left out.

    Args:
        task: which.
        root: folder of the data; the task's own is it or up to two levels below it.

    Returns:
        by name of the split ("train", those of `task.dev` and `task.test`) its columns:
        `task.texts`, "label" (int64; float32 in a regression; not in test) and "idx" (int64),
        the number by which a submission names a row, in train and dev the row's place in its
        file. Test splits only where there are files.

    Raises:
        InputError: for what is missing or cannot be understood, naming file and line.
    """
    require("glue", "glue", "datasets")
    from datasets import Dataset, Features, Value

    labelled = ("train", *task.dev.values())
    loaded = {}
    for split, (path, rows) in splits(root, task.config, labelled, [*task.test.values()]).items():
        columns = _columns(task, path, rows, split in labelled)
        types = {"label": "int64" if task.labels else "float32", "idx": "int64"}
        features = Features({name: Value(types.get(name, "string")) for name in columns})
        loaded[split] = Dataset.from_dict(columns, features=features)
    return loaded


def _columns(task: Task, path: Path, rows: Iterable[Row], labelled: bool) -> dict[str, list[Any]]:
    wanted = (*task.texts, "label") if labelled else task.texts
    columns: dict[str, list[Any]] = {name: [] for name in (*wanted, "idx")}
    skipped = []
    for path, line, row in named(task.config, rows, wanted):
        if any(row[name] is None for name in wanted) or row.get("label") == "":
            if not labelled:
                raise InputError(
                    f"{path}, line {line}: found a row without text, expected text in every row, "
                    "since the server wants all predicted"
                )
            skipped.append(line)
            continue
        try:
            if not str(row["idx"]).isdecimal():
                raise ValueError(f"found index {row['idx']!r}, expected a whole number from 0")
            row["idx"] = int(row["idx"])
            if labelled:
                row["label"] = _label(task, row["label"])
            for name in task.texts:
                if not isinstance(row[name], str):
                    raise ValueError(f"found {name} {row[name]!r}, expected text")
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        for name, values in columns.items():
            values.append(row[name])
    count = len(columns["idx"])
    if not count:
        raise InputError(f"{path}: found no row with {' and '.join(wanted)}, expected some")
    if skipped:
        log.warning(
            "%s: skipped %d of %d rows without text or label, the first in line %d",
            *(path, len(skipped), count + len(skipped), skipped[0]),
        )
    return columns


def _label(task: Task, found: Any) -> int | float:
    """Number of the class that a word or a number names, or the value of a regression."""
    if task.labels:
        if found in task.labels:
            return task.labels.index(found)
        if str(found).isdecimal() and int(found) < len(task.labels):
            return int(found)
    else:
        with suppress(ValueError, TypeError):
            if 0 <= (value := float(found)) <= 5:
                return value
    expected = " or ".join(task.labels) or "a number from 0 to 5"
    raise ValueError(f"found label {found!r}, expected {expected}")
