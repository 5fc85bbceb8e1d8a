"""GLUE's files as they are around: where they lie, their rows and columns; not what rows mean.

Three forms are known: the tab-separated files of gluebenchmark.com, JSON Lines, and Parquet as in
the hub's repository. Rows are read as the hub's reader does (datasets/glue/glue.py of Hugging Face
datasets): a quote is an ordinary character, blank lines do not count, a field too many is ignored
and one too few is None.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from nowcast.errors import InputError

HUB = "nyu-mll/glue"
"""The data set on the hub; its folders are called as GLUE's tasks are called in this file."""

Row = tuple[Path, int, dict[str, Any]]
"""File, number of the line (in Parquet of the row, from 1), and fields by name of the column."""

_COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "mnli": {"sentence1": ("premise",), "sentence2": ("hypothesis",), "label": ("gold_label",)},
    "qqp": {"sentence1": ("question1",), "sentence2": ("question2",), "label": ("is_duplicate",)},
    "qnli": {"sentence1": ("question",), "sentence2": ("sentence",)},
    "sst2": {"sentence1": ("sentence",)},
    "cola": {"sentence1": ("sentence",)},
    "stsb": {"label": ("score",)},
    "mrpc": {"sentence1": ("#1 String",), "sentence2": ("#2 String",), "label": ("Quality",)},
}
"""What columns are called in files, where it is not, or not only, as they are called here."""

_COLA_HEADER = ("source", "label", "star", "sentence")


def splits(
    root: Path, config: str, needed: Sequence[str], further: Sequence[str]
) -> dict[str, tuple[Path, Iterator[Row]]]:
    """Find a task's files; its folder is `root` or up to two levels below it.

    Args:
        root: folder of the data.
        config: the task's name on the hub; the folder may be called SST-2 for "sst2", too.
        needed: splits that there must be, as they are called on the hub.
        further: splits that there may be; "test_ax" is the diagnostic set.

    Returns:
        by split its first file, and its rows as they stand in the files.

    Raises:
        InputError: if a folder or a split is missing.
    """
    how = f"give the folder of the GLUE files (--data) or fetch {HUB} with --download"
    if not root.is_dir():
        raise InputError(f"{root}: found no folder; {how}")
    for folder in _folders(root, (config,)):
        train = _files(folder, ("train",))
        corpus = _paraphrase_corpus(folder) if config == "mrpc" and not train else {}
        if train or corpus:
            break
    else:
        raise InputError(
            f"{root}: found no folder {config} with train.tsv, train.jsonl or train-*.parquet; "
            f"{how}"
        )
    found: dict[str, tuple[Path, Iterator[Row]]] = {}
    for split in (*needed, *further):
        stems = (split, split.replace("validation", "dev"))
        files = _diagnostic(root, folder) if split == "test_ax" else _files(folder, stems)
        header = _COLA_HEADER if config == "cola" and split != "test" else None
        if files:
            found[split] = files[0], chain(*(_rows(path, header) for path in files))
        elif split in corpus:
            found[split] = folder, iter(corpus[split])
        elif split in needed:
            raise InputError(
                f"{folder}: found no {split}, expected {stems[1]}.tsv, {split}.jsonl or "
                f"{split}-*.parquet; {how}"
            )
    return found


def named(config: str, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[Row]:
    """Rows with their columns called the same for all tasks and forms, and with "idx".

    Args:
        config: the task's name on the hub.
        rows: as they stand in files.
        columns: such as "sentence1", "label".

    Raises:
        InputError: if one of them is missing.
    """
    other = _COLUMNS.get(config, {})
    for number, (path, line, fields) in enumerate(rows):
        row = {}
        for name in columns:
            try:
                row[name] = next(
                    fields[called] for called in (name, *other.get(name, ())) if called in fields
                )
            except StopIteration:
                found = ", ".join(called for called in fields if called) or "none"
                raise InputError(
                    f"{path}, line {line}: found columns {found}, expected "
                    f"{' or '.join((*other.get(name, ()), name))}"
                ) from None
        # In train and dev, the column index of some tasks is the number of something else.
        called = ("idx",) if "label" in columns else ("idx", "index", "id")
        row["idx"] = next((fields[name] for name in called if name in fields), number)
        yield path, line, row


def _folders(root: Path, names: Sequence[str]) -> list[Path]:
    levels = [[root]]
    for _ in range(2):
        levels.append(
            sorted(path for folder in levels[-1] if folder.is_dir() for path in folder.iterdir())
        )
    return [
        path
        for level in levels
        for path in level
        if re.sub("[^a-z0-9]", "", path.name.lower()) in names and path.is_dir()
    ]


def _files(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of one split, in the first form that is there; several if it is in shards."""
    there = sorted(path for path in folder.iterdir() if path.is_file())
    for stem in stems:
        for suffix in ("parquet", "jsonl", "tsv"):
            shard = re.compile(rf"{re.escape(stem)}-(\d+)-of-(\d+)\.{suffix}", re.IGNORECASE)
            shards = [found for path in there if (found := shard.fullmatch(path.name))]
            if shards and len(shards) != int(shards[0][2]):
                raise InputError(
                    f"{folder}: found {len(shards)} of {int(shards[0][2])} files {stem}-*.{suffix}"
                    ", expected all; fetch the others"
                )
            whole = [path for path in there if path.name.lower() == f"{stem}.{suffix}"]
            if files := [folder / found[0] for found in shards] or whole[:1]:
                return files
    return []


def _diagnostic(root: Path, mnli: Path) -> list[Path]:
    """The diagnostic set: the hub's ax, the site's AX.tsv, or diagnostic.tsv beside MNLI."""
    own = _folders(root, ("ax", "diagnostic", "diagnostics"))
    for folder in (*own, mnli, root):
        stems = ("ax", "diagnostic", *(["test"] if folder in own else []))
        if files := _files(folder, stems):
            return files
    return []


def _rows(path: Path, header: Sequence[str] | None = None) -> Iterator[Row]:
    read = {".parquet": _parquet, ".jsonl": _json_lines}.get(path.suffix.lower())
    try:
        yield from read(path) if read else _tab_separated(path, header)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are no UTF-8 ({error.reason})") from error


def _tab_separated(path: Path, header: Sequence[str] | None) -> Iterator[Row]:
    # A mark at the head of MRPC's files (byte order mark) would become part of a column's name.
    with path.open(encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, header, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            for row in reader:
                yield path, reader.line_num, row
        except csv.Error as error:
            raise InputError(
                f"{path}, line {reader.line_num + 1}: found no tab-separated fields ({error})"
            ) from error


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: found no JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(
                    f"{path}, line {number}: found {type(row).__name__}, expected an object of "
                    "columns"
                )
            yield path, number, row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield path, number, row
    except (pyarrow.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: found no Parquet file ({said})") from error


def _paraphrase_corpus(folder: Path) -> dict[str, list[Row]]:
    """MRPC as Microsoft distributes it, its rows split as GLUE does by a list of identifiers."""
    train, test = (folder / f"msr_paraphrase_{split}.txt" for split in ("train", "test"))
    if not train.is_file():
        return {}
    lists = [folder / name for name in ("dev_ids.tsv", "mrpc_dev_ids.tsv")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{folder}: found {train.name} without dev_ids.tsv, expected GLUE's list of the pairs "
            "that are for validation"
        )
    ids = ("#1 ID", "#2 ID")
    held_out = {tuple(row[name] for name in ids) for _, _, row in _rows(found, ids)}
    corpus: dict[str, list[Row]] = {"train": [], "validation": []}
    for number, row in enumerate(_rows(train)):
        row[2]["idx"] = number
        is_held_out = tuple(row[2].get(name) for name in ids) in held_out
        corpus["validation" if is_held_out else "train"].append(row)
    if test.is_file():
        corpus["test"] = list(_rows(test))
    return corpus
