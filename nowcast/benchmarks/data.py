"""Part data: clips from the frame store beside decoding an archive's own files."""

import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.errors import InputError
from nowcast.radar.archive import frame_path, mask_path
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.clips import Times
from nowcast.radar.regrid import average_pixels
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

DECODING_THREADS = 16
"""Threads that the benchmark's published code decodes with."""


def measure_data(
    size: int = 480,
    coarse_size: int = 120,
    hours: float = 12.0,
    clip_length: int = 25,
    clips_per_round: int = 4,
    repeats: int = 5,
    warmup: int = 1,
    workers: int | None = None,
) -> Report:
    """Time reading clips from frame stores and from PNG and mask files, and making the stores.

    A synthetic archive in the layout of HKO-7 is made in a temporary folder. Both ways read the
    same clips, other ones in each round, and give the same pixels and masks; at the smaller size
    decoding includes averaging. All files are in the page cache after the first rounds, for both.

    Args:
        size: pixels along each side of the archive's frames.
        coarse_size: side of the smaller store's frames, a divisor of `size`.
        hours: how much synthetic rain the archive holds.
        clip_length: frames of a clip.
        clips_per_round: clips that each way reads in a round.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        workers: processes that prepare the stores; None takes as many as there are CPU cores.

    Raises:
        InputError: for a setting that makes no sense.
    """
    settings = dict(locals())
    if clips_per_round < 1 or clip_length < 1:
        raise InputError(
            f"clips: found clips_per_round={clips_per_round} and clip_length={clip_length}, "
            "expected at least 1"
        )
    rain = SyntheticRain(size=size, missing_fraction=0.0, outages_per_day=0.0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        write_archive(archive, rain, train_days=1, valid_days=0, test_days=0, hours_per_day=hours)
        megabytes = {"PNG and mask files": _megabytes(archive)}
        for side in (size, coarse_size):
            path = Path(folder) / f"{side}.h5"
            convert = partial(
                prepare_hko7,
                archive,
                path,
                size=size,
                downsample_to=side,
                splits=("train",),
                workers=workers,
            )
            seconds = time_rounds(
                {"convert": partial(_anew, path, convert)}, repeats, 0, f"conversion to {side}"
            )
            store = FrameStore(path)
            (sequence,) = store.sequences
            rows.append(
                Row(f"{side}: conversion", seconds["convert"], len(sequence.times), "frames")
            )
            megabytes[f"frame store, {side}"] = path.stat().st_size / 1e6
            rows += _reading(
                archive, store, sequence, size, clip_length, clips_per_round, repeats, warmup
            )
    facts = {
        "frames": len(sequence.times),
        "threads that decode": DECODING_THREADS,
        "MB on disk": megabytes,
    }
    return Report("data", settings, tuple(rows), facts)


def _anew(path: Path, convert: Callable[[], object]) -> None:
    path.unlink(missing_ok=True)
    convert()


def _reading(
    archive: Path,
    store: FrameStore,
    sequence: Sequence,
    size: int,
    length: int,
    clips: int,
    repeats: int,
    warmup: int,
) -> list[Row]:
    """Rows of reading the same clips in both ways."""
    side, starts = store.shape[0], len(sequence.times) - length + 1
    if starts < 1:
        raise InputError(
            f"clip_length: found {length}, the archive has {len(sequence.times)} frames"
        )

    def draws() -> Iterator[Times]:
        random = np.random.default_rng(0)
        while True:
            for first in random.integers(starts, size=clips):
                yield sequence.times[first : first + length]

    def read_store(times: Iterator[Times]) -> None:
        for _ in range(clips):
            store.read(sequence, next(times)[0], length)

    def decode(times: Iterator[Times], pool: ThreadPoolExecutor) -> None:
        for _ in range(clips):
            decode_clip(archive, next(times), size, size // side, pool)

    base, name = f"{side}: PNG and mask files", f"{side}: frame store"
    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        variants = {base: partial(decode, draws(), pool), name: partial(read_store, draws())}
        seconds = time_rounds(variants, repeats, warmup, f"clips of {side}")
    return [
        Row(base, seconds[base], clips, "clips"),
        Row(name, seconds[name], clips, "clips", compared_with=base),
    ]


def decode_clip(
    archive: Path, times: Times, size: int, factor: int, pool: ThreadPoolExecutor
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Frames and masks of a clip from an archive's own files, the way of the published code.

    Args:
        archive: folder that holds radarPNG.
        times: of the frames, none of them missing.
        size: pixels along each side of a frame.
        factor: pixels along each side of a cell that is averaged.
        pool: threads that decode, one frame each.

    Returns:
        Stored pixel values and masks (time, y, x).
    """
    frames = np.empty((len(times), size // factor, size // factor), dtype=np.uint8)
    masks = np.empty(frames.shape, dtype=bool)

    def decode(number: int) -> None:
        second = int(times[number].astype("datetime64[s]").astype(np.int64))
        path = frame_path(archive, second)
        frame = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        content = zlib.decompress(mask_path(archive, second).read_bytes())
        mask = np.frombuffer(content, dtype=bool).reshape(size, size)
        if factor > 1:
            frame, mask = average_pixels(frame, mask, factor)
        frames[number], masks[number] = frame, mask

    list(pool.map(decode, range(len(times))))
    return frames, masks


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file()) / 1e6
