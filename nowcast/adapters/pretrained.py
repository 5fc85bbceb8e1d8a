"""Pretrained networks of transformers in a folder: what belongs to one, and opening it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nowcast.errors import InputError

HUB = "google-bert/bert-base-uncased"
"""BERT-base on the hub, as its authors published it."""

FILES = ("config.json", "model*.safetensors*", "tokenizer*", "vocab*", "merges.txt", "*.model",
         "special_tokens_map.json")  # fmt: skip
"""Globs of a network's files."""

NEEDED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json"),
    ("tokenizer.json", "vocab.txt", "vocab.json", "*.model"),
)
"""Configuration, weights and vocabulary: of each, one."""

LOCAL = {"trust_remote_code": False, "local_files_only": True}


def check_folder(folder: Path, copy_of: str | None = None, download: bool = False) -> None:
    """Refuse a folder that holds no network.

    Args:
        folder: to look into.
        copy_of: the repository of the hub of which it is this machine's copy, if it is one.
        download: whether what was missing has been fetched from there.

    Raises:
        InputError: naming the file that is missing and how to get it.
    """
    for names in NEEDED:
        if not any(found for name in names for found in folder.glob(name)):
            beside = " (pytorch_model.bin is not read)" if (
                "model.safetensors" in names and (folder / "pytorch_model.bin").exists()
            ) else ""  # fmt: skip
            how = f"--download without --model fetches {HUB}"
            if copy_of is not None:
                how = (
                    f"{copy_of} on the hub has none"
                    if download
                    else f"fetch what is missing of {copy_of} with --download"
                )
            raise InputError(
                f"{folder}: found no {' or '.join(names)}{beside}, expected a network in "
                f"transformers' form (--model); {how}"
            )


def fingerprint(folder: Path) -> str:
    """What tells a network from others: a hash of its configuration, weights and vocabulary."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_network(folder: Path, classes: int, seed: int) -> Any:
    """A pretrained network with a new head that classifies sequences.

    Args:
        folder: of the network.
        classes: outputs of the head; 1 is a regression.
        seed: of the head.

    Raises:
        InputError: if there is no such network, or weights other than the head's are missing.
    """
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(seed)
    with _one_line(folder):
        model, told = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=classes,
            problem_type="regression" if classes == 1 else "single_label_classification",
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # Of a head for other classes.
            output_loading_info=True,
            **LOCAL,
        )
    prefix = f"{model.base_model_prefix}."
    missing = [n for n in sorted(told["missing_keys"]) if n.startswith(prefix)]
    # A network pretrained without a pooler gets a new one with its head.
    missing = [name for name in missing if ".pooler." not in name]
    for name, found, expected in sorted(told["mismatched_keys"]):
        if name.startswith(prefix):
            raise InputError(
                f"{folder}: found weights of {name} in the shape {tuple(found)}, expected "
                f"{tuple(expected)} as config.json has it"
            )
    if missing:
        raise InputError(
            f"{folder}: found no weights of {missing[0]} ({len(missing)} such), expected all of a "
            f"{type(model).__name__} but its head"
        )
    return model


def open_tokenizer(folder: Path, length: int) -> Any:
    """The network's tokenizer.

    Args:
        folder: of the network.
        length: tokens that a sample may have.

    Raises:
        InputError: if there is no vocabulary, or the network takes fewer tokens.
    """
    from transformers import AutoConfig, AutoTokenizer

    with _one_line(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        config = AutoConfig.from_pretrained(folder, **LOCAL)
    takes = min(
        getattr(config, "max_position_embeddings", tokenizer.model_max_length),
        tokenizer.model_max_length,
    )
    if not 3 <= length <= takes:
        raise InputError(f"max_length: found {length}, expected 3 to {takes}, what {folder} takes")
    return tokenizer


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Say in one line, naming the folder, what transformers refuses in many.

    Raises:
        InputError: if it refuses.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{folder}: found no network that transformers can open ({said[:200]})"
        ) from error
