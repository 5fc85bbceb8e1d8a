"""How training changes the clips that it draws: flips, turns, crops, time, rain rates.

Only what a network sees in training is changed; which clips are drawn is `sampling`.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.settings import NetworkSettings
from nowcast.radar.store import FrameStore
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
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
        Views of the clip's arrays, but for frames whose rain rates are changed.
    """
    down, across, forwards = (1 - 2 * random.integers(2, size=3)).tolist()
    turns = int(random.integers(4))
    factor = settings.rain_factor ** random.uniform(-1, 1)
    height, width = clip[0].shape[-2:]
    side = settings.crop
    if side is not None:
        top, left = random.integers((height - side + 1, width - side + 1)).tolist()

    def change(field: NDArray[Kind]) -> NDArray[Kind]:
        if side is not None:
            field = field[..., top : top + side, left : left + side]
        if settings.flips:
            field = field[..., ::down, ::across]
        if settings.reversals:
            field = field[::forwards]
        return np.rot90(field, turns, axes=(-2, -1)) if settings.quarter_turns else field

    frames, mask = change(clip[0]), change(clip[1])
    return (frames if settings.rain_factor == 1 else with_rain(frames, factor)), mask


def with_rain(stored: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Stored pixel values of rain rates that are multiplied by a factor; no rain stays none."""
    rain_rate = factor * pixel_to_rain_rate(np.arange(1, 256) / 255)
    pixels = np.rint(255 * rain_rate_to_pixel(rain_rate)).clip(0, 255)
    return np.concatenate([[0], pixels]).astype(np.uint8)[stored]


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
        InputError: if the network is told where in the frame a pixel lies.
    """
    if settings.crop is None:
        return
    if network.coordinates:
        raise InputError(
            f"sampling: crop is {settings.crop} for a network with coordinate channels, which must "
            "see whole frames; expected network.coordinates: false"
        )
