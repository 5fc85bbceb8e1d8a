"""Networks as files to pass on: weights and description alone, in the safetensors format.

A tenth to a third of the checkpoint that training goes on from, readable by other programs, and
with no code to run. The description stands in the file's metadata as JSON, under the same key and
with the same content as in a checkpoint.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from nowcast.errors import InputError
from nowcast.files import check_place, replacing

SUFFIX = ".safetensors"


def write_weights(path: Path, key: str, entry: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write weights and description, complete or not at all.

    Args:
        path: the file; its suffix is `SUFFIX`.
        key: under which the description stands.
        entry: the description, plain values.
        weights: by name.

    Raises:
        InputError: nothing can be written there, or the suffix is another.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: found the suffix {path.suffix!r}, expected {SUFFIX}")
    check_place(path)
    whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata={key: json.dumps(entry, ensure_ascii=False)})


def read_weights(path: Path, key: str) -> tuple[Any, dict[str, Tensor]]:
    """Description, not yet checked, and weights of a file.

    Args:
        path: the file.
        key: under which the description stands.

    Raises:
        InputError: if the file is damaged, or holds no description.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            said = (file.metadata() or {}).get(key)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return None if said is None else json.loads(said), weights
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: found no readable safetensors file ({reason})") from error
