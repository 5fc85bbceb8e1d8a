"""Predictions for GLUE's test splits, in the form that gluebenchmark.com takes.

The server's own page could not be read when this was written; what stands here is how GLUE's
authors write predictions (jiant, `GLUE_NAME_MAP` and `_write_glue_preds`), and what BERT's
(arXiv:1810.04805, B.1) and others who submitted report.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nowcast.adapters.glue import TASKS, Task, answers
from nowcast.errors import InputError
from nowcast.files import replacing

PLACEHOLDER = "WNLI"
"""Is no task of Table 1, but a file of every submission."""

FILES = (*(name for task in TASKS.values() for name in task.test), PLACEHOLDER)
"""The eleven files of a submission, without suffix; AX is the diagnostic set."""

_PLACEHOLDER_ROWS = 146


def predictions(task: Task, outputs: np.ndarray) -> list[str] | list[float]:
    """What a network's outputs say, as the server wants it.

    Args:
        task: that the network was finetuned for.
        outputs: (n, classes) logits, or (n) or (n, 1) values in a regression; see
            `glue.answers`.

    Returns:
        the class: its name where the classes are about entailment (MNLI, QNLI, RTE), elsewhere
        its number; in STS-B the value, moved into the range of the labels, 0 to 5.
    """
    found = answers(task, outputs)
    if not task.labels:
        return [float(value) for value in found.clip(0, 5)]
    words = task.labels if "entailment" in task.labels else range(len(task.labels))
    return [str(words[number]) for number in found]


def write_predictions(path: Path, idx: Sequence[int], predictions: Sequence[str | float]) -> None:
    """Write one file of a submission: "index" and "prediction" in tab-separated columns.

    Rows are sorted by index; numbers that are no classes have three decimals.

    Args:
        path: of the file, such as MNLI-m.tsv.
        idx: of the rows.
        predictions: one for each.

    Raises:
        InputError: if an index comes twice.
    """
    by_index = dict(zip(map(int, idx), predictions, strict=True))
    if len(by_index) < len(predictions):
        raise InputError(
            f"{path}: found {len(predictions)} predictions for {len(by_index)} indices, expected "
            "each index of the test file once"
        )
    lines = ["index\tprediction"]
    for index, found in sorted(by_index.items()):
        lines.append(f"{index}\t{found if isinstance(found, str) else f'{found:.3f}'}")
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_submission(path: Path, files: Mapping[str, Path]) -> tuple[str, ...]:
    """Zip files of predictions for the server.

    The server refuses an archive that lacks one of its eleven files, so those who submitted
    report. No network here answers WNLI, which Table 1 leaves out; its file is filled with the
    majority class, "not entailment", as BERT's authors did (65.1 % of it is right).

    Args:
        path: of the zip; replaced if it is there.
        files: as `write_predictions` writes them, by name without suffix, such as "MNLI-m".

    Returns:
        names of the files that are missing: what the server refuses the archive for, until they
        are added, such as from the sample submission that it offers.

    Raises:
        InputError: for a file that is not there, or that the server does not know.
    """
    for name, file in files.items():
        if name not in FILES:
            raise InputError(f"{file}: found the name {name!r}, expected {', '.join(FILES)}")
        if not file.is_file():
            raise InputError(f"{file}: found no file, expected predictions for {name}")
    rows = "".join(f"{index}\t0\n" for index in range(_PLACEHOLDER_ROWS))
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in FILES:
            if name in files:
                archive.write(files[name], f"{name}.tsv")
        if PLACEHOLDER not in files:
            archive.writestr(f"{PLACEHOLDER}.tsv", f"index\tprediction\n{rows}")
    return tuple(name for name in FILES if name not in (*files, PLACEHOLDER))
