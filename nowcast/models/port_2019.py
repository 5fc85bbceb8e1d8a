"""Checkpoints of the 2019 PyTorch port: its TrajGRU's weights under the names that ours have.

The port (Hzzone/Precipitation-Nowcasting) saves a bare state dict. What it holds is the TrajGRU of
`PORT_2019_TRAJGRU`, or one of other channels, kernels and links in the same form: these are read
from the shapes. It computes what ours computes, with two things to know:

- The port was made for PyTorch 1.0, whose `grid_sample` takes the middles of the outermost pixels
  for the ends of the grid, as ours does. Run under PyTorch 1.3 or later the port's code samples
  otherwise, and weights that were trained so mean another network; a file does not tell.
- Its coarsest forecaster layer has weights for an input that it never gets. They are left out.

The port's stages and layers are numbered from the finest level up in both halves, but its
deconvolutions and the convolutions beside them from the coarsest.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nowcast.errors import InputError
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.settings import PORT_2019_TRAJGRU, NetworkSettings

LEVELS = 3
"""The port's forecaster is written for so many."""

RECURRENT = {
    "i2h": "i2h",
    "i2f_conv1": "i2f",
    "h2f_conv1": "cell.h2f",
    "flows_conv": "cell.flows",
    "ret": "cell.ret",
}
"""Modules of the port's TrajGRU, and ours."""

UNUSED = tuple(
    f"forecaster.rnn{LEVELS}.{module}.{kind}"
    for module in ("i2h", "i2f_conv1")
    for kind in ("weight", "bias")
)
"""Weights for the input that the coarsest forecaster layer never gets."""


def port_state(content: Any) -> dict[str, Any] | None:
    """The state dict of one of the port's recurrent networks, or None where there is none.

    It may stand under a key of its own, and its names may have the prefix "module." that training
    on several GPUs leaves.

    Args:
        content: what the file holds.
    """
    if not isinstance(content, Mapping):
        return None
    for candidate in (content, *content.values()):
        if isinstance(candidate, Mapping) and all(isinstance(name, str) for name in candidate):
            state = {name.removeprefix("module."): value for name, value in candidate.items()}
            if any(name.startswith("encoder.rnn1.") for name in state):
                return state
    return None


def convert(state: Mapping[str, Any]) -> tuple[NetworkSettings, dict[str, Tensor]]:
    """Settings and weights of our network from the port's weights.

    Args:
        state: from `port_state`.

    Returns:
        Settings, and a state dict of `EncoderForecaster` with them.

    Raises:
        InputError: if it is not the port's TrajGRU, a name is missing or too many, or a shape does
            not fit the others; the first that is wrong is named.
    """
    if "encoder.rnn1._conv.weight" in state:
        raise InputError("found a ConvLSTM of the 2019 port, expected its TrajGRU")
    names = dict(_names())
    for name in names:
        _check_entry(name, state.get(name))
    for name in state:
        if name not in names and name not in UNUSED:
            raise InputError(f"found {name}, which the 2019 port's TrajGRU has not")
    settings = _settings_of(state)
    with torch.device("meta"):
        network = EncoderForecaster(settings)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    converted = {}
    for name, ours in names.items():
        value = state[name]
        if tuple(value.shape) != expected[ours]:
            raise InputError(f"found {name} {tuple(value.shape)}, expected {expected[ours]}")
        if name.endswith("ret.weight"):
            # The port's input channels: all state channels of the first link, then of the second.
            links = expected[ours][1] // (expected[ours][0] // 3)
            value = value.unflatten(1, (links, -1)).transpose(1, 2).flatten(1, 2)
        converted[ours] = value
    return settings, converted


def _names() -> Iterator[tuple[str, str]]:
    """The port's names and ours, in the order in which the port saves them."""
    modules: list[tuple[str, str]] = []
    for n in range(1, LEVELS + 1):
        ours = f"encoder.stages.{n - 1}"
        modules.append((f"encoder.stage{n}.conv{n}_leaky_1", f"{ours}.down"))
        modules += [(f"encoder.rnn{n}.{a}", f"{ours}.rnn.{b}") for a, b in RECURRENT.items()]
    for n in range(LEVELS, 0, -1):
        ours = f"forecaster.stages.{n - 1}"
        modules += [(f"forecaster.rnn{n}.{a}", f"{ours}.rnn.{b}") for a, b in RECURRENT.items()]
        modules.append(
            (f"forecaster.stage{n}.deconv{LEVELS + 1 - n}_leaky_1", f"{ours}.up"),
        )
    modules.append((f"forecaster.stage1.conv{LEVELS}_leaky_2", "forecaster.head.0"))
    modules.append((f"forecaster.stage1.conv{LEVELS}_3", "forecaster.head.2"))
    for port, ours in modules:
        for kind in ("weight", "bias"):
            if f"{port}.{kind}" not in UNUSED:
                yield f"{port}.{kind}", f"{ours}.{kind}"


def _check_entry(name: str, value: Any) -> None:
    if value is None:
        raise InputError(f"found no {name}, expected the 2019 port's TrajGRU")
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise InputError(f"found no numbers as {name}, expected a tensor of them")
    dimensions = 4 if name.endswith("weight") else 1
    if value.ndim != dimensions or not value.numel():
        raise InputError(f"found {name} {tuple(value.shape)}, expected {dimensions} dimensions")


def _settings_of(state: Mapping[str, Tensor]) -> NetworkSettings:
    """The settings that the shapes mean; every deconvolution's kernel is its stride and two."""
    levels = range(1, LEVELS + 1)
    down = [state[f"encoder.stage{n}.conv{n}_leaky_1.weight"].shape for n in levels]
    up = [state[f"forecaster.stage{n}.deconv{LEVELS + 1 - n}_leaky_1.weight"].shape for n in levels]
    links = {
        part: tuple(state[f"{part}.rnn{n}.flows_conv.weight"].shape[0] // 2 for n in levels)
        for part in ("encoder", "forecaster")
    }
    return NetworkSettings(
        recurrence="TrajGRU",
        hidden=tuple(state[f"encoder.rnn{n}.ret.weight"].shape[0] // 3 for n in levels),
        features=tuple(shape[0] for shape in down),
        up_features=tuple(shape[1] for shape in up),
        strides=tuple(shape[2] - 2 for shape in up),
        down_kernels=tuple(shape[2] for shape in down),
        up_kernels=tuple(shape[2] for shape in up),
        encoder_links=links["encoder"],
        forecaster_links=links["forecaster"],
        coordinates=PORT_2019_TRAJGRU.coordinates,
        deconvolution_bias=PORT_2019_TRAJGRU.deconvolution_bias,
        initial_weights=PORT_2019_TRAJGRU.initial_weights,
    )
