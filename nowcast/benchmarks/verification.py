"""Part verification: pixels scored per second, beside a plain way of scoring them in NumPy."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.radar.synthetic import SyntheticRain
from nowcast.verification.accumulator import Accumulator
from nowcast.verification.ensembles import EnsembleScores
from nowcast.verification.fields import threshold_pixels
from nowcast.verification.fractions import FractionsSkill
from nowcast.verification.rain_rate import RainRateErrors
from nowcast.verification.scores import THRESHOLDS_MM_H, Scores
from nowcast.verification.spectra import Spectra
from nowcast.verification.weights import WEIGHT_RISES

HKO7_TEST_SEQUENCES = 6_053
"""Sequences of HKO-7's test days, to say how long scoring them would take."""

SUMS = ("mse", "mae", "balanced_mse", "balanced_mae", "gdl")

OURS = "benchmark scores"
PLAIN = f"{OURS}, plain NumPy"

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


def accumulators(lead_times: int, side: int) -> dict[str, Accumulator]:
    """What is timed, by the name of its row; the benchmark's scores first."""
    return {
        OURS: Scores(lead_times),
        "rain-rate errors": RainRateErrors(lead_times),
        "fractions skill score, 5 thresholds × 5 windows": FractionsSkill(lead_times),
        "power spectra of both": Spectra(lead_times, (side, side)),
    }


def measure_verification(
    side: int = 480,
    lead_times: int = 20,
    clips: int = 3,
    threads: int = 2,
    members: int = 10,
    memory_clips: tuple[int, int] = (5, 100),
    repeats: int = 7,
    warmup: int = 1,
) -> Report:
    """Time scoring forecasts, and look at the memory that scoring many takes.

    Forecasts are the blurred frames before synthetic rain, masked by HKO-7's noise rule. A pixel is
    one pixel of one frame of one lead time. The plain way computes the benchmark's scores with
    NumPy as its authors' evaluation states them, a whole array at a time and in one thread.

    Args:
        side: pixels along each side of a frame.
        lead_times: forecast frames of a clip.
        clips: that are scored in a round, all at once.
        threads: that score.
        members: of the ensemble that is scored as one.
        memory_clips: after how many clips, scored one by one in a process of its own, the peak
            memory is noted.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.

    Raises:
        InputError: for a setting that makes no sense.
    """
    settings = dict(locals())
    if min(side, lead_times, clips, threads, members, *memory_clips) < 1:
        raise InputError(
            f"verification: found side={side}, lead_times={lead_times}, clips={clips}, "
            f"threads={threads}, members={members} and memory_clips={list(memory_clips)}, "
            "expected at least 1"
        )
    keep_freed_memory()
    fields = synthetic_forecasts(clips, lead_times, side)
    scored = accumulators(lead_times, side)
    variants: dict[str, Callable[[], object]] = {PLAIN: partial(plain_sums, *fields)}
    variants |= {name: partial(_score, one, fields, threads) for name, one in scored.items()}
    variants[f"{OURS}, one thread"] = partial(_score, Scores(lead_times), fields, 1)
    ensemble = (np.repeat(fields[0][:, None], members, axis=1), *fields[1:])
    variants[f"ensemble of {members}"] = partial(
        _score, EnsembleScores(lead_times, members), ensemble, threads
    )
    seconds = time_rounds(variants, repeats, warmup, "scoring")
    megapixels = fields[0].size / 1e6
    rows = [
        Row(name, own, megapixels, "Mpixel", None if name == PLAIN else PLAIN)
        for name, own in seconds.items()
    ]
    facts = {
        "largest relative difference of plain NumPy's sums from ours": _difference(fields),
        f"seconds for HKO-7's {HKO7_TEST_SEQUENCES:,} test sequences of this shape": {
            name: median(own) / clips * HKO7_TEST_SEQUENCES for name, own in seconds.items()
        },
        "peak memory after so many clips, MB": _peak_memory(
            memory_clips, lead_times, side, threads
        ),
    }
    return Report("verification", settings, tuple(rows), facts)


def synthetic_forecasts(clips: int, lead_times: int, side: int) -> tuple[Field, Field, Mask]:
    """Forecasts of synthetic rain, what came, and where it counts: (clips, lead_times, 1, y, x)."""
    rain = SyntheticRain(size=side, missing_fraction=0.0, outages_per_day=0.0)
    hours = (lead_times + 1) * rain.step_minutes / 60
    shape = (clips, lead_times, 1, side, side)
    prediction, truth = np.empty((2, *shape), np.float32)
    mask = np.empty(shape, np.bool_)
    for clip in range(clips):
        day = np.datetime64("2015-06-01") + clip
        frames = [(pixels / np.float32(255), own) for _, pixels, own in rain.simulate(day, hours)]
        for lead_time, ((before, _), (frame, counts)) in enumerate(itertools.pairwise(frames)):
            prediction[clip, lead_time, 0] = cv2.blur(before, (5, 5))
            truth[clip, lead_time, 0], mask[clip, lead_time, 0] = frame, counts
    return prediction, truth, mask


def plain_sums(prediction: Field, truth: Field, mask: Mask) -> dict[str, NDArray[np.float64]]:
    """The benchmark's counts and sums per lead time, a whole array at a time.

    Args:
        prediction: pixel values (batch, time, 1, y, x).
        truth: observed pixel values, same shape.
        mask: True where a pixel counts, same shape.

    Returns:
        `hits`, `misses`, `false_alarms`, `correct_negatives` (time, threshold); `mse`, `mae`,
        `balanced_mse`, `balanced_mae`, `gdl` (time,), averaged over clips.
    """
    prediction = np.clip(prediction, 0, 1)
    tables = []
    for threshold in threshold_pixels(THRESHOLDS_MM_H):
        forecast, observed = prediction >= threshold, truth >= threshold
        tables.append(
            [
                _per_lead_time(forecast & observed & mask),
                _per_lead_time(~forecast & observed & mask),
                _per_lead_time(forecast & ~observed & mask),
                _per_lead_time(~forecast & ~observed & mask),
            ]
        )
    names = ("hits", "misses", "false_alarms", "correct_negatives")
    sums = dict(zip(names, np.moveaxis(np.array(tables), 0, -1), strict=True))
    weights: Field = np.ones_like(truth)
    for step, rise in WEIGHT_RISES:
        weights += (truth >= step) * np.float32(rise)
    error = np.where(mask, prediction - truth, np.float32(0))
    terms = (error**2, abs(error), weights * error**2, weights * abs(error))
    clips = len(truth)
    for name, term in zip(SUMS, terms, strict=False):
        sums[name] = _per_lead_time(term) / clips
    sums["gdl"] = np.zeros(truth.shape[1])
    for axis in (3, 4):
        change = abs(abs(np.diff(prediction, axis=axis)) - abs(np.diff(truth, axis=axis)))
        first, second = np.split(mask, [1], axis=axis)[1], np.delete(mask, -1, axis=axis)
        sums["gdl"] += _per_lead_time(np.where(first & second, change, np.float32(0))) / clips
    return sums


def _per_lead_time(values: NDArray[np.generic]) -> NDArray[np.float64]:
    wide = np.int64 if values.dtype == np.bool_ else np.float64
    return np.asarray(values.sum(axis=(0, 2, 3, 4), dtype=wide), np.float64)


def _difference(fields: tuple[Field, Field, Mask]) -> float:
    """How far the plain way's counts and sums are from ours, relative to these, at most."""
    plain = plain_sums(*fields)
    scores = Scores(fields[0].shape[1])
    scores.update(*fields)
    ours = scores.compute()
    return max(
        float((abs(values - ours[name]) / np.maximum(ours[name], 1e-30)).max())
        for name, values in plain.items()
    )


def _score(accumulator: Accumulator, fields: tuple[Field, Field, Mask], threads: int) -> None:
    with _threads(threads):
        accumulator.update(*fields)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _peak_memory(
    clips: Sequence[int], lead_times: int, side: int, threads: int
) -> dict[str, float] | str:
    if not Path("/proc/self/status").exists():
        return "not known here"
    # In a process of its own: this one's peak is that of the plain way.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        peaks = process.submit(_peaks, sorted(clips), lead_times, side, threads).result()
    return {f"{number:,}": peak for number, peak in zip(sorted(clips), peaks, strict=True)}


def _peaks(clips: Sequence[int], lead_times: int, side: int, threads: int) -> list[float]:
    """Peak memory of this process in MB, each time when that many clips were scored by all."""
    fields = synthetic_forecasts(1, lead_times, side)
    scored = accumulators(lead_times, side).values()
    done, peaks = 0, []
    for number in clips:
        for _ in range(number - done):
            for accumulator in scored:
                _score(accumulator, fields, threads)
        done = number
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        peaks.append(peak * 1024 / 1e6)
    return peaks
