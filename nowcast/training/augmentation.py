"""How training changes the clips that it draws: flips, quarter turns, crops.

Only what a network sees in training is changed; which clips are drawn is `sampling`.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.settings import NetworkSettings
from nowcast.radar.store import FrameStore
from nowcast.training.sampling import SamplingSettings

Fields = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Frames and mask of a clip, (time, y, x) each."""

Kind = TypeVar("Kind", bound=np.generic)


def augment(clip: Fields, settings: SamplingSettings, random: np.random.Generator) -> Fields:
    """A clip as training sees it: frames and mask changed alike, each frame as the others.

    What is drawn for one change does not depend on whether the others are asked for.

    Args:
        clip: frames and mask, left as they are.
        settings: what may be changed.
        random: decides what is.

    Returns:
        Views of the clip's arrays.
    """
    down, across = (1 - 2 * random.integers(2, size=2)).tolist()
    turns = int(random.integers(4))
    height, width = clip[0].shape[-2:]
    side = settings.crop
    if side is not None:
        top, left = random.integers((height - side + 1, width - side + 1)).tolist()

    def change(field: NDArray[Kind]) -> NDArray[Kind]:
        if side is not None:
            field = field[..., top : top + side, left : left + side]
        if settings.flips:
            field = field[..., ::down, ::across]
        return np.rot90(field, turns, axes=(-2, -1)) if settings.quarter_turns else field

    frames, mask = clip
    return change(frames), change(mask)


def shape_in_training(store: FrameStore, settings: SamplingSettings) -> tuple[int, int]:
    """Shape (y, x) of the frames that a network sees while it trains.

    Raises:
        InputError: if a crop is larger than the frames, or what is to be turned is not square.
    """
    height, width = store.shape
    if settings.crop is not None:
        if settings.crop > min(store.shape):
            raise InputError(
                f"{store.path}: frames are {height} × {width}, expected at least the "
                f"{settings.crop} × {settings.crop} of sampling.crop"
            )
        return settings.crop, settings.crop
    if settings.quarter_turns and height != width:
        raise InputError(
            f"{store.path}: frames are {height} × {width}, expected square ones for "
            "sampling.quarter_turns"
        )
    return store.shape


def check_crop(network: NetworkSettings, settings: SamplingSettings) -> None:
    """Refuse crops that a network cannot be trained on.

    Raises:
        InputError: if the network's levels do not divide the crop's side, or the network is told
            where in the frame a pixel lies.
    """
    if settings.crop is None:
        return
    if network.coordinates:
        raise InputError(
            f"sampling: crop is {settings.crop} for a network with coordinate channels, which must "
            "see whole frames; expected network.coordinates: false"
        )
    if settings.crop % network.stride:
        raise InputError(
            f"sampling: crop is {settings.crop}, the network needs a side that is a multiple of "
            f"{network.stride}"
        )
