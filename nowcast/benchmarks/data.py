"""Part data: clips from frame stores beside decoding an archive's own files."""

import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.benchmarks.peak_memory import peak_memory
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.radar.archive import frame_path, mask_path
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.clips import Times
from nowcast.radar.codecs import Compression
from nowcast.radar.regrid import average_pixels
from nowcast.radar.store import FrameStore
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive
from nowcast.training.clips import RandomClips, StepBatches, split_clip
from nowcast.training.loading import ClipLoader

DECODING_THREADS = 16
"""Threads that the benchmark's published code decodes with."""

BATCH_SIZE = 4
"""Clips of a training step, as in the paper."""

HKO7_FRAMES = 192_168 + 11_736
"""Frames of HKO-7's train and valid days, to say how large their store would be."""


def measure_data(
    size: int = 480,
    coarse_size: int = 120,
    hours: float = 12.0,
    clip_length: int = 25,
    clips_per_round: int = 24,
    batches_per_round: int = 50,
    compressions: tuple[Compression, ...] = ("lz4", "gzip", "none"),
    repeats: int = 5,
    warmup: int = 1,
    workers: int = 2,
) -> Report:
    """Time reading clips from frame stores and from PNG and mask files, and making the stores.

    A synthetic archive in the layout of HKO-7 is made in a temporary folder. All ways read the same
    clips, other ones in each round, and give the same pixels and masks; at the smaller size
    decoding includes averaging. Decoding takes as many threads as the published code, the stores
    are read by one, and by `workers`. All files are in the page cache after the first rounds.

    Args:
        size: pixels along each side of the archive's frames.
        coarse_size: side of the smaller stores' frames, a divisor of `size`.
        hours: how much synthetic rain the archive holds.
        clip_length: frames of a clip.
        clips_per_round: clips that each way reads in a round.
        batches_per_round: batches of 4 clips that a loader gives in a round.
        compressions: of the stores, the default's first.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        workers: threads that clips are read with, and processes of the conversion whose memory is
            measured; the conversion that is timed is one process's.

    Raises:
        InputError: for a setting that makes no sense.
    """
    settings = dict(locals())
    if min(clips_per_round, clip_length, batches_per_round, workers) < 1 or not compressions:
        raise InputError(
            f"data: found clips_per_round={clips_per_round}, clip_length={clip_length}, "
            f"batches_per_round={batches_per_round}, workers={workers} and {len(compressions)} "
            "compressions, expected at least 1"
        )
    keep_freed_memory()
    rain = SyntheticRain(size=size, missing_fraction=0.0, outages_per_day=0.0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        write_archive(archive, rain, train_days=1, valid_days=0, test_days=0, hours_per_day=hours)
        megabytes = {"PNG and mask files": _megabytes(archive)}
        memory = {}
        for side in (size, coarse_size):
            paths = {way: Path(folder) / f"{side}_{way}.h5" for way in compressions}
            conversions = {
                f"{side}: conversion to {way}": partial(_convert, archive, path, size, side, way)
                for way, path in paths.items()
            }
            seconds = time_rounds(conversions, repeats, 0, f"conversion to {side}")
            stores = {way: FrameStore(path) for way, path in paths.items()}
            frames = len(stores[compressions[0]].sequences[0].times)
            rows += [Row(name, own, frames, "frames") for name, own in seconds.items()]
            megabytes |= {
                f"{side}, {way}": path.stat().st_size / 1e6 for way, path in paths.items()
            }
            rows += _reading(
                archive, stores, size, clip_length, clips_per_round, repeats, warmup, workers
            )
            rows += _loading(
                paths[compressions[0]], clip_length, batches_per_round, repeats, warmup, workers
            )
            largest = peak_memory(_command(archive, Path(folder) / "again.h5", size, side, workers))
            memory[f"to {side}"] = "not known here" if largest is None else largest / 1e6
    facts = {
        "frames": frames,
        "threads that decode": DECODING_THREADS,
        "MB on disk": megabytes,
        f"GB for the {HKO7_FRAMES:,} frames of HKO-7's train and valid days": {
            name: own / 1e3 / frames * HKO7_FRAMES for name, own in megabytes.items()
        },
        f"peak memory of conversion with {workers} workers, MB": memory,
    }
    return Report("data", settings, tuple(rows), facts)


def _convert(archive: Path, path: Path, size: int, side: int, way: Compression) -> None:
    path.unlink(missing_ok=True)
    prepare_hko7(
        archive,
        path,
        size=size,
        downsample_to=side,
        splits=("train",),
        compression=way,
        workers=1,
    )


def _command(archive: Path, path: Path, size: int, side: int, workers: int) -> list[str]:
    """The conversion as a command line."""
    path.unlink(missing_ok=True)
    settings = {
        "root": archive,
        "out": path,
        "size": size,
        "downsample_to": side,
        "workers": workers,
    }
    return ["prepare_data", "hko7", *(f"--{name}={value}" for name, value in settings.items())]


def _reading(
    archive: Path,
    stores: dict[Compression, FrameStore],
    size: int,
    length: int,
    clips: int,
    repeats: int,
    warmup: int,
    workers: int,
) -> list[Row]:
    """Rows of reading the same clips in all ways."""
    default = next(iter(stores.values()))
    side, times = default.shape[0], default.sequences[0].times
    starts = len(times) - length + 1
    if starts < 1:
        raise InputError(f"clip_length: found {length}, the archive has {len(times)} frames")

    def draws() -> Iterator[Times]:
        random = np.random.default_rng(0)
        while True:
            for first in random.integers(starts, size=clips):
                yield times[first : first + length]

    def read(store: FrameStore, wanted: Times) -> None:
        store.read(store.sequences[0], wanted[0], length)

    def read_store(store: FrameStore, wanted: Iterator[Times]) -> None:
        for own in islice(wanted, clips):
            read(store, own)

    def read_in_threads(wanted: Iterator[Times], pool: ThreadPoolExecutor) -> None:
        deque(pool.map(partial(read, default), islice(wanted, clips)), maxlen=0)

    def decode(wanted: Iterator[Times], pool: ThreadPoolExecutor) -> None:
        for own in islice(wanted, clips):
            decode_clip(archive, own, size, size // side, pool)

    base = f"{side}: PNG and mask files"
    in_memory = FrameStore(default.path, in_memory=True)
    with ThreadPoolExecutor(DECODING_THREADS) as pool, ThreadPoolExecutor(workers) as readers:
        variants: dict[str, Callable[[], object]] = {base: partial(decode, draws(), pool)}
        for way, store in stores.items():
            variants[f"{side}: frame store, {way}"] = partial(read_store, store, draws())
        in_threads = f"{side}: frame store, {next(iter(stores))}, {workers} threads"
        variants[in_threads] = partial(read_in_threads, draws(), readers)
        variants[f"{side}: frame store in memory"] = partial(read_store, in_memory, draws())
        seconds = time_rounds(variants, repeats, warmup, f"clips of {side}")
    return [
        Row(name, own, clips, "clips", compared_with=None if name == base else base)
        for name, own in seconds.items()
    ]


def _loading(
    path: Path, length: int, batches: int, repeats: int, warmup: int, workers: int
) -> list[Row]:
    """Rows of a training's loader with nothing to wait for, to inputs and targets in float32."""
    variants: dict[str, Callable[[], object]] = {}
    for in_memory in (False, True):
        store = FrameStore(path, in_memory=in_memory)
        clips = RandomClips([store], "train", length, seed=0)
        steps = StepBatches(0, (repeats + warmup) * batches, BATCH_SIZE)
        given = map(split_clip, ClipLoader(clips, steps, workers), repeat(1))
        # A deque without room takes everything and keeps nothing.
        load = partial(lambda given: deque(islice(given, batches), maxlen=0), given)
        where = ", in memory" if in_memory else ""
        variants[f"{store.shape[0]}: loader, {workers} threads{where}"] = load
    seconds = time_rounds(variants, repeats, warmup, f"batches of {store.shape[0]}")
    return [Row(name, own, batches, f"batches of {BATCH_SIZE}") for name, own in seconds.items()]


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
