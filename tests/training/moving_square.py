"""A small frame store to train on: a wet square that moves east, one pixel a frame."""

from functools import partial
from pathlib import Path

import numpy as np

from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_writing import write_store

SIDE = 30
LENGTH = 40


def moving_square(references, side=SIDE):
    """Frames and masks of (sequence, time) references; the first column never counts."""
    frames = np.zeros((len(references), side, side), np.uint8)
    for frame, (place, time) in zip(frames, references, strict=True):
        columns = (np.arange(8) + time + 3 * place) % side
        frame[5 + place : 15 + place, columns] = 150 + 10 * place
    mask = np.ones(frames.shape, bool)
    mask[:, :, 0] = False
    return frames, mask


def write_moving_square(path: Path, step_minutes: float = 6, side: int = SIDE) -> FrameStore:
    """Two sequences to train on, one to validate on; one frame is missing in the first."""
    start = np.datetime64("2020-06-01T00:00:00")
    present = [np.delete(np.arange(LENGTH), 20), np.arange(LENGTH), np.arange(LENGTH)]
    sequences = [
        Sequence(
            f"place {place}",
            split,
            start + np.round(times * step_minutes * 60).astype("timedelta64[s]"),
            {},
        )
        for place, (split, times) in enumerate(
            zip(["train", "train", "valid"], present, strict=True)
        )
    ]
    write_store(
        path,
        sequences,
        [(place, int(time)) for place, times in enumerate(present) for time in times],
        partial(moving_square, side=side),
        frame_shape=(side, side),
        step_minutes=step_minutes,
        preparation={"source": "test"},
        fingerprint=f"moving square {step_minutes} {path.name}",
        workers=1,
    )
    return FrameStore(path)
