"""Made-up archives, events and stores for the tests of this folder."""

import os
import signal
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

import cv2
import numpy as np
import xarray as xr

from nowcast.radar.archive import frame_path, mask_path
from nowcast.radar.store import Sequence
from nowcast.radar.store_writing import write_store

SIZE = 12


def at(day, hour=0, minute=0):
    return int(datetime(2015, 5, day, hour, minute, tzinfo=UTC).timestamp())


def write_frame(root, second, frame, mask=None):
    path = frame_path(root, second)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), frame)
    if mask is not None:
        path = mask_path(root, second)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zlib.compress(mask.astype(np.uint8).tobytes()))
    return path


FIRST_TIME = np.datetime64("2016-09-28T15:00", "ns")
FIELD = np.array([[[-32.0, 20.0, 40.0], [np.nan, 78.0, 60.0]]] * 3)


def write_event(path, field=FIELD, *, minutes=(0, 5, 15), name="reflectivity", **changes):
    """An event with three frames, the third after a gap; `changes` replace parts of it."""
    number = len(minutes)
    dataset = xr.Dataset(
        {name: (("time", "y", "x"), field[:number], {"units": changes.get("units", "dBZ")})},
        coords={
            "time": np.array(minutes) * np.timedelta64(60, "s") + FIRST_TIME,
            "y": ("y", changes.get("y", [2000.0, 1000.0]), {"units": "m"}),
            "x": ("x", changes.get("x", [1000.0, 2000.0, 3000.0]), {"units": "m"}),
        },
        attrs={"zr_a": 223.0, "zr_b": 1.53, "time_step_minutes": 5.0, "license": "CC BY 4.0"},
    )
    for attribute in changes.get("without", ()):
        del dataset.attrs[attribute]
    if "dims" in changes:  # The field as (time, x, y), with the axes called so.
        x, y = changes["dims"]
        dataset = dataset.transpose("time", "x", "y").rename(x=x, y=y)
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


HEIGHT, WIDTH = 6, 13
START = np.datetime64("2015-05-23T00:00:00", "s")


@dataclass(frozen=True)
class MadeUpFrames:
    """Frames that follow from their number alone."""

    def __call__(self, numbers):
        made = [np.random.default_rng(number) for number in numbers]
        frames = np.stack([r.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for r in made])
        return frames, np.stack([r.random((HEIGHT, WIDTH)) < 0.7 for r in made])


class Interrupted(MadeUpFrames):
    def __call__(self, numbers):
        if 20 in numbers:
            raise KeyboardInterrupt
        return super().__call__(numbers)

    def __repr__(self):
        return repr(MadeUpFrames())


class Killed(MadeUpFrames):
    def __call__(self, numbers):
        os.kill(os.getpid(), signal.SIGKILL)


class Counting(MadeUpFrames):
    asked = ()

    def __call__(self, numbers):
        type(self).asked += tuple(numbers)
        return super().__call__(numbers)

    def __repr__(self):
        return repr(MadeUpFrames())


PRESENT = [n for n in range(40) if n not in (3, 4, 20, 39)]
SEQUENCES = [
    Sequence(
        "first place", "train", START + np.array(PRESENT[:30]) * 360, {"licence": "CC BY 4.0"}
    ),
    Sequence("second place", "valid", START + np.array(PRESENT[:6]) * 360, {"grid": [4.0, None]}),
]
NUMBERS = [n + 1 for n in PRESENT[:30]] + [n + 101 for n in PRESENT[:6]]


def write(out, read=None, workers=1, fingerprint="abc", numbers=None):
    write_store(
        out,
        SEQUENCES,
        NUMBERS if numbers is None else numbers,
        MadeUpFrames() if read is None else read,
        frame_shape=(HEIGHT, WIDTH),
        step_minutes=6,
        preparation={"source": "made up"},
        fingerprint=fingerprint,
        workers=workers,
        frames_per_block=10,
    )
