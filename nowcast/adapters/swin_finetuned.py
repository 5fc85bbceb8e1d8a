"""What a finetuning left behind, opened again: a network with its head, statistics of layers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nowcast import memel
from nowcast.adapters.swin import build_model
from nowcast.adapters.swin_run import STATISTICS
from nowcast.adapters.swin_weights import read_weights

log = logging.getLogger("nowcast")


def open_network(
    name: str,
    classes: Sequence[str],
    weights: Path | None,
    drop_path: float | None = None,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A network, with its own head where it has been finetuned for as many classes.

    Args:
        name: timm's.
        classes: names of the classes.
        weights: file of a finetuning, or pretrained weights, which get a new head; None for initial
            weights.
        drop_path: see `Recipe`.
        config: further arguments of the model.

    Raises:
        InputError: for an unknown model or argument, or weights that do not fit.
    """
    config = config or {}
    if weights is not None:
        network = build_model(name, classes, None, drop_path, **config)
        state = read_weights(weights)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        if {key: value.shape for key, value in state.items()} == shapes:
            network.load_state_dict(state)
            return network
    return build_model(name, classes, weights, drop_path, **config)


def load_statistics(layers: Mapping[str, memel.MEmeL], weights: Path) -> bool:
    """Take the statistics of MEmeL layers from the file that a finetuning wrote beside its weights.

    Args:
        layers: by the names of the modules that they follow.
        weights: file of the weights.

    Returns:
        False where there is no such file, or it is of other layers.

    Raises:
        InputError: if it is damaged.
    """
    path = weights.with_name(STATISTICS)
    if not path.is_file():
        return False
    state = read_weights(path)
    if {key.rpartition(".")[0] for key in state} != set(layers):
        log.info("%s: found statistics of other layers", path)
        return False
    for name, layer in layers.items():
        start = f"{name}."
        own = {key.removeprefix(start): s for key, s in state.items() if key.startswith(start)}
        layer.load_state_dict(own)
    log.info("%s: found statistics of %d layers", path, len(layers))
    return True
