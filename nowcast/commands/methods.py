"""The nowcast methods that evaluation and rendering compare, by the names that people read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.models.checkpoint import load
from nowcast.models.method import NowcastMethod
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.training.data import DataSettings

Baseline = Literal["persistence", "optical flow"]
BASELINES: dict[str, type[NowcastMethod]] = {
    "persistence": Persistence,
    "optical flow": OpticalFlow,
}


def methods_to_compare(
    baselines: Sequence[Baseline], checkpoints: Mapping[str, Path], data: DataSettings, device: str
) -> dict[str, NowcastMethod]:
    """Baselines and trained networks, ready to forecast clips of `data`.

    Args:
        baselines: names of methods that need no training.
        checkpoints: trained networks by the names to show them under.
        data: what they are to forecast; a network of another time step is refused.
        device: where networks run; "auto" takes a GPU if there is one.

    Raises:
        InputError: for nothing to compare, a file that is no checkpoint, or one that does not fit.
    """
    methods: dict[str, NowcastMethod] = {name: BASELINES[name]() for name in baselines}
    if device not in ("auto", "cpu") and not _is_there(device):
        raise InputError(f"device: found no {device!r} here, expected auto, cpu or one that is")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    height, width = data.open().shape
    keep_freed_memory()
    for name, path in checkpoints.items():
        if name in methods:
            raise InputError(f"{path}: found the name {name!r} twice, expected one per method")
        trained = load(path)
        if trained.description.step_minutes != data.step_minutes:
            raise InputError(
                f"{path}: trained on steps of {trained.description.step_minutes:g} minutes, "
                f"the data is asked for at {data.step_minutes:g}"
            )
        stride = trained.description.network.stride
        if height % stride or width % stride:
            raise InputError(
                f"{data.store}: frames are {height} × {width}, {path} needs sides that are "
                f"multiples of {stride}"
            )
        if trained.description.network.coordinates and trained.description.frame_shape != (
            height,
            width,
        ):
            raise InputError(
                f"{data.store}: frames are {height} × {width}, {path} has coordinate channels of "
                f"{trained.description.frame_shape}; train one with coordinates: false for any grid"
            )
        trained.network.to(device)
        methods[name] = trained
    if not methods:
        raise InputError("methods: found no baseline and no checkpoint, expected at least one")
    return methods


def _is_there(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # An AssertionError where torch is built without it.
        return False
    return True
