"""A frame store with places of one's choice; each frame says by its values where and when it is."""

import numpy as np

from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_writing import write_store

START = np.datetime64("2020-06-01T00:00:00", "s")


def frames_of(references):
    random = [np.random.default_rng(reference) for reference in references]
    frames = np.stack([one.integers(0, 256, (6, 6), dtype=np.uint8) for one in random])
    return frames, np.stack([one.random((6, 6)) < 0.8 for one in random])


def write_places(path, places, **preparation):
    """A store of places by name: their split and which of the time steps of 6 minutes they have."""
    write_store(
        path,
        [Sequence(name, split, START + steps * np.timedelta64(360, "s"), {})
         for name, (split, steps) in places.items()],
        [(number, int(step))
         for number, (_, steps) in enumerate(places.values()) for step in steps],
        frames_of,
        frame_shape=(6, 6),
        step_minutes=6,
        preparation={"source": "test", **preparation},
        fingerprint=path.name,
        workers=1,
    )  # fmt: skip
    return FrameStore(path)
