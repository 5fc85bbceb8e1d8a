"""Writing synthetic rain as an archive in the layout of HKO-7, which `archive` reads.

What the rain is like is in `synthetic`. Days are made in parallel and appear whole; a run that was
interrupted goes on where it stopped.
"""

import dataclasses
import json
import math
import os
import shutil
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.progress import progress
from nowcast.radar.archive import SPLITS, frame_path, mask_path
from nowcast.radar.archive_files import read_frame
from nowcast.radar.synthetic import SyntheticRain, static_masks
from nowcast.radar.units import pixel_to_rain_rate

SETTINGS_FILE = "synthetic_rain.json"
"""What an archive was made with, in its root."""

FIRST_DAY = np.datetime64("2013-01-01")
"""Date of the first train day. Every second day is used, so that no clip runs over midnight from
one event into another."""

GENERATOR = 1
"""Raised when the same settings give other rain than before."""

RAIN_RATE_MM_H = np.array([0.0, *pixel_to_rain_rate(np.arange(1, 256) / 255.0)])
"""Rain rate of every stored pixel value; 0 is no echo, hence no rain."""


def write_archive(
    root: str | os.PathLike[str],
    rain: SyntheticRain,
    *,
    train_days: int,
    valid_days: int,
    test_days: int,
    hours_per_day: float = 24.0,
    workers: int | None = None,
) -> None:
    """Write days of synthetic rain in the layout of HKO-7.

    The same settings give the same bytes, whatever the number of workers. Days that are there
    already are kept; day lists come last.

    Args:
        root: folder of the archive; made if it is not there.
        rain: what the rain is like, its grid and its seed.
        train_days: days in `hko7_rainy_train_days.txt`.
        valid_days: days in `hko7_rainy_valid_days.txt`.
        test_days: days in `hko7_rainy_test_days.txt`; a split without days gets no list.
        hours_per_day: how much of every day there is, from 00:00 UTC.
        workers: days made at the same time; one per processor if not given.

    Raises:
        InputError: the folder holds something else or an archive with other settings, a setting
            is out of range, or a finished day has a damaged frame.
    """
    root = Path(root)
    counts = dict(zip(SPLITS, (train_days, valid_days, test_days), strict=True))
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise InputError(f"{root}: found {counts} days, expected at least one and none negative")
    if not rain.step_minutes / 60 <= hours_per_day <= 24:
        raise InputError(f"{root}: found hours_per_day={hours_per_day}, expected one frame to 24 h")
    if workers is not None and workers < 1:
        raise InputError(f"{root}: found workers={workers}, expected at least 1")
    settings = {
        "generator": GENERATOR,
        **dataclasses.asdict(rain),
        **{f"{split}_days": count for split, count in counts.items()},
        "hours_per_day": float(hours_per_day),
    }
    _claim(root, settings)
    static = root / "mask_dat.npz"
    if not static.exists():  # Written anew, it would make stores prepared from here look outdated.
        masks: dict[str, Any] = {**static_masks(rain.size)}
        with replacing(static) as partial:
            np.savez_compressed(partial, **masks)
    days = FIRST_DAY + 2 * np.arange(sum(counts.values()))
    rainfall_mm = _make_days(root, rain, days, hours_per_day, workers or os.cpu_count() or 1)
    first = 0
    for split, count in counts.items():
        if count:
            with replacing(root / f"hko7_rainy_{split}_days.txt") as partial:
                lines = [
                    f"{day:%Y%m%d}, {rainfall_mm[day]:.2f}\n"
                    for day in days[first : first + count].tolist()
                ]
                partial.write_text("".join(lines), encoding="ascii")
        first += count


def _claim(root: Path, settings: dict[str, object]) -> None:
    """Leave the settings in a new folder; refuse one that holds something else."""
    path = root / SETTINGS_FILE
    # Through JSON and back, so that pairs compare as they are read.
    settings = json.loads(json.dumps(settings))
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = sorted(
                name for name in found | settings if found.get(name) != settings.get(name)
            )
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: cannot be read as settings of synthetic rain") from error
        if differing:
            name = differing[0]
            raise InputError(
                f"{path}: found {name}={found.get(name)}, expected {settings.get(name)}; "
                "choose another folder or delete this one"
            )
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f"{root}: found other files, expected no folder, an empty one or synthetic rain"
        )
    with replacing(path) as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _make_days(
    root: Path,
    rain: SyntheticRain,
    days: NDArray[np.datetime64],
    hours: float,
    workers: int,
) -> dict[object, float]:
    """Make the days that are not there yet; daily rainfall in mm of all, by date."""
    stopped = threading.Event()
    # Threads do: nearly all time goes into NumPy, OpenCV and zlib, which let others run.
    with ThreadPoolExecutor(workers) as pool:
        futures = {
            pool.submit(_make_day, root, rain, day, hours, stopped): day.item() for day in days
        }
        try:
            done = progress(
                as_completed(futures), "synthetic rain", total=len(futures), unit="days"
            )
            return {futures[future]: future.result() for future in done}
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _make_day(
    root: Path, rain: SyntheticRain, day: np.datetime64, hours: float, stopped: threading.Event
) -> float:
    """Write the frames and masks of a day, unless they are there; rainfall of the day in mm."""
    midnight = int(day.astype("datetime64[s]").astype(np.int64))
    frames_folder = frame_path(root, midnight).parent
    masks_folder = mask_path(root, midnight).parent
    excluded = static_masks(rain.size)["exclude_mask"] > 0
    rates: list[float] = []
    if frames_folder.exists():
        for path in sorted(frames_folder.iterdir()):
            rates.append(_mean_rain_rate(read_frame(path, rain.size), excluded))
        return hours * float(np.mean(rates)) if rates else 0.0
    partial = root / f".{day}.partial"
    for leftover in (partial, masks_folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial_frames, partial_masks = partial / "frames", partial / "masks"
    partial_frames.mkdir(parents=True)
    partial_masks.mkdir()
    try:
        for time, pixels, mask in rain.simulate(day, hours):
            if stopped.is_set():
                # Nobody waits for the number any more.
                return math.nan
            second = int(time.astype("datetime64[s]").astype(np.int64))
            _, png = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
            (partial_frames / frame_path(root, second).name).write_bytes(png.tobytes())
            content = zlib.compress(np.ascontiguousarray(mask).tobytes(), 1)
            (partial_masks / mask_path(root, second).name).write_bytes(content)
            rates.append(_mean_rain_rate(pixels, excluded))
        # The folder of frames comes last: where it stands, the day is whole.
        for written, folder in ((partial_masks, masks_folder), (partial_frames, frames_folder)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            written.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return hours * float(np.mean(rates)) if rates else 0.0


def _mean_rain_rate(pixels: NDArray[np.uint8], excluded: NDArray[np.bool_]) -> float:
    """Mean rain rate in mm/h of stored pixel values within the static mask."""
    return float(RAIN_RATE_MM_H[pixels[~excluded]].mean())
