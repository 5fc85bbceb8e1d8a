"""MEmeL layers in the networks that are trained: where they go, and with which statistics."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import Description, TrainedNetwork, load_weights, read_checkpoint
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.network import Network

Inhibition = Mapping[str, Any]
"""Settings of `MEmeL`, and `at`: names or globs of the modules that a layer follows."""

HIDDEN_STATES = EncoderForecaster.hidden_states
"""Where the paper puts its six layers (E.1): after each recurrent layer's hidden state.

Asked of a network without recurrence, it means that network's own hidden states: see `places`.
"""


def places(network: Network, at: Sequence[str]) -> Sequence[str]:
    """Names or globs of modules, where `HIDDEN_STATES` stands for any network's hidden states."""
    return network.hidden_states if tuple(at) == HIDDEN_STATES else at


def insert_layers(network: Network, inhibition: Inhibition) -> None:
    """Insert MEmeL layers.

    Raises:
        InputError: for settings that are out of range, or a name that matches no module.
    """
    try:
        memel.insert(network, **{**inhibition, "at": places(network, inhibition["at"])})
    except ValueError as error:
        raise InputError(str(error)) from error


def keep_statistics(
    network: Network,
    checkpoint: Path,
    description: Description,
    store: Path,
    frame_shape: tuple[int, int],
) -> None:
    """Refuse statistics of MEmeL layers that are those of another grid.

    Args:
        network: with the statistics of the checkpoint.
        checkpoint: where they come from.
        description: of the checkpoint.
        store: whose frames the network is to see.
        frame_shape: of these frames.

    Raises:
        InputError: if every activation is a neuron of its own, and the frames are of another shape.
    """
    for layer in memel.inserted(network).values():
        if layer.mean.ndim > 1 and description.frame_shape != frame_shape:
            raise InputError(
                f"{checkpoint}: has MEmeL statistics of frames of {description.frame_shape}, "
                f"{store} has {frame_shape}; finetuning can start them anew (fresh_statistics)"
            )


def load_inhibited(path: str | os.PathLike[str]) -> TrainedNetwork:
    """Load a network whose MEmeL layers stay on in testing (the "-T" rows, F.1).

    Args:
        path: checkpoint of a training with MEmeL.

    Returns:
        The network on the CPU in evaluation mode, with its description; statistics frozen.

    Raises:
        InputError: if the file is no checkpoint, or one of a training without MEmeL.
    """
    description, content = read_checkpoint(path)
    if description.inhibition is None:
        raise InputError(f"{path}: was trained without MEmeL, expected a network with its layers")
    network = build_network(description.network, description.input_frames, description.lead_times)
    insert_layers(network, {**description.inhibition, "in_evaluation": True})
    load_weights(network, content, path)
    return TrainedNetwork(network.eval(), description)


def check_layers(network: Network, batch_size: int, frame_shape: tuple[int, int]) -> None:
    """Refuse MEmeL layers that cannot work, by a forward without numbers.

    Raises:
        InputError: such as for a selection of more activations than there are.
    """
    frames = torch.empty(batch_size, network.input_frames or 1, 1, *frame_shape, device="meta")
    try:
        copy.deepcopy(network).to("meta").train()(frames, lead_times=1)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error
