"""Networks as files to pass on: weights and description alone, in the safetensors format.

A third of the checkpoint that training goes on from, readable by other programs, and
with no code to run. The description stands in the file's metadata as JSON, under the same key and
with the same content as in a checkpoint. What either has to say is known in `checkpoint`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from nowcast.errors import InputError
from nowcast.files import check_place, replacing

SUFFIX = ".safetensors"

KEY = "nowcast"
"""Under which the description stands."""


def is_weights_file(path: Path) -> bool:
    """Whether a file is one of these, or damaged and called so; it may be called anything."""
    with path.open("rb") as file:
        start = file.read(9)
    # Checkpoints are zip archives; here a JSON object follows its length in 8 bytes.
    return start[8:] == b"{" or (path.suffix == SUFFIX and not start.startswith(b"PK"))


def write_weights(path: Path, entry: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write weights and description, complete or not at all.

    Args:
        path: the file; its suffix is `SUFFIX`.
        entry: the description, plain values.
        weights: by name.

    Raises:
        InputError: nothing can be written there, the suffix is another, or weights are no numbers.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: found the suffix {path.suffix!r}, expected {SUFFIX}")
    check_place(path)
    whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    _check_numbers(whole)
    content = save(whole, metadata={KEY: json.dumps(entry, ensure_ascii=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_weights(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Description, not yet checked, and weights of a file.

    Args:
        path: the file.

    Raises:
        InputError: if the file is damaged, or holds weights that are no numbers.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            said = (file.metadata() or {}).get(KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_numbers(weights)
        return None if said is None else json.loads(said), weights
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: found no readable safetensors file ({reason})") from error


def _check_numbers(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights with which every forecast would be none."""
    for name, value in weights.items():
        if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise InputError(f"found {name} as {value.dtype}, expected floating-point weights")
        if not value.isfinite().all():
            raise InputError(f"found weights in {name} that are infinite or no numbers")
