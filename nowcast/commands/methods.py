"""The nowcast methods that evaluation and rendering compare, by the names that people read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.method import NowcastMethod
from nowcast.models.checkpoint import TrainedNetwork, load
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import keep_statistics, load_inhibited

Baseline = Literal["persistence", "optical flow"]
BASELINES: dict[str, type[NowcastMethod]] = {
    "persistence": Persistence,
    "optical flow": OpticalFlow,
}


def methods_to_compare(
    baselines: Sequence[Baseline],
    checkpoints: Mapping[str, Path],
    data: DataSettings,
    device: str,
    memel_in_testing: bool = False,
) -> dict[str, NowcastMethod]:
    """Baselines and trained networks, ready to forecast clips of `data`.

    Args:
        baselines: names of methods that need no training.
        checkpoints: trained networks by the names to show them under.
        data: what they are to forecast; a network of another time step is refused.
        device: where networks run; "auto" takes a GPU if there is one.
        memel_in_testing: add each network that has MEmeL layers a second time, as "NAME-T", with
            its layers on.

    Raises:
        InputError: for nothing to compare, a file that is no checkpoint, or one that does not fit.
    """
    methods: dict[str, NowcastMethod] = {name: BASELINES[name]() for name in baselines}
    place = choose_device(device)
    height, width = data.open().shape
    keep_freed_memory()
    for name, path in checkpoints.items():
        networks = {name: load(path)}
        if memel_in_testing and networks[name].description.inhibition is not None:
            networks[f"{name}-T"] = load_inhibited(path)
        for shown, trained in networks.items():
            if shown in methods:
                raise InputError(f"{path}: found the name {shown!r} twice, expected one per method")
            _check_fit(trained, path, data, (height, width))
            trained.network.to(place)
            methods[shown] = trained
    if memel_in_testing and not any(name.endswith("-T") for name in methods):
        raise InputError(
            "memel_in_testing: found no checkpoint with MEmeL layers, expected at least one"
        )
    if not methods:
        raise InputError("methods: found no baseline and no checkpoint, expected at least one")
    return methods


def _check_fit(
    trained: TrainedNetwork, path: Path, data: DataSettings, shape: tuple[int, int]
) -> None:
    """Refuse a network that cannot forecast frames of a shape and time step."""
    description, (height, width) = trained.description, shape
    if description.step_minutes != data.step_minutes:
        raise InputError(
            f"{path}: trained on steps of {description.step_minutes:g} minutes, "
            f"the data is asked for at {data.step_minutes:g}"
        )
    stride = description.network.stride
    if height % stride or width % stride:
        raise InputError(
            f"{data.store}: frames are {height} × {width}, {path} needs sides that are "
            f"multiples of {stride}"
        )
    if description.network.coordinates and description.frame_shape != shape:
        raise InputError(
            f"{data.store}: frames are {height} × {width}, {path} has coordinate channels of "
            f"{description.frame_shape}; train one with coordinates: false for any grid"
        )
    keep_statistics(trained.network, path, description, data.store, shape)
