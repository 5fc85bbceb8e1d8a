"""Part endurance: whether the steps of a long training grow slower, and whether memory grows."""

import gc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.trend import trend_of
from nowcast.benchmarks.watched_training import (
    CPU_SECONDS,
    ON_GPU,
    RESIDENT,
    SECONDS,
    Device,
    LogStepCosts,
    accelerator_of,
    network_of,
)
from nowcast.errors import InputError, Stopped
from nowcast.files import check_place
from nowcast.models.checkpoint import read_checkpoint
from nowcast.radar.store import FrameStore
from nowcast.rendering.watched_training import write_endurance
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import pretrain
from nowcast.training.run_settings import Precision, RunSettings

PARTS = 10

MEMORY_AT = (0.05, 0.25, 0.5, 1.0)
"""Shares of the run after which memory is stated: of 2,000 steps, 100, 500, 1,000 and all."""

MEMORY_NAMES = {RESIDENT: "resident memory", ON_GPU: "memory allocated on the GPU"}


def measure_endurance(
    store: Path,
    hidden: tuple[int, ...] = (16, 32, 32),
    steps: int = 2_000,
    warmup: int = 100,
    memel: bool = True,
    batch: int = 4,
    input_frames: int = 5,
    lead_times: int = 20,
    precision: Precision = "auto",
    valid_clips: int = 4,
    device: Device = "auto",
    plot: Path | None = None,
) -> Report:
    """Train for many steps as `pretrain` does, and watch the time of the steps and the memory.

    Clips are read from the store, MEmeL layers inhibit from the first step on, the learning curve
    is written, and after each quarter of the run the network is validated and a checkpoint saved.
    The run is in a temporary folder. A row of the report is a tenth of the steps after the warm-up,
    a round is a step. Trends are Theil–Sen slopes; their intervals come from resampling blocks of a
    tenth of the steps.

    Args:
        store: frame store with clips to train and validate on; at its own time step.
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        steps: of the run.
        warmup: the first of them, which are left out of all but the picture.
        memel: train with a MEmeL layer behind every ConvGRU.
        batch: clips in a step.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        precision: see `RunSettings`.
        valid_clips: clips of each validation; 0 goes without.
        device: where the network is trained.
        plot: PNG file to draw the course into.

    Raises:
        InputError: for a setting that makes no sense, or a store that does not fit.
        Stopped: when asked to stop.
    """
    settings = {**locals(), "store": str(store), "plot": plot and str(plot)}
    if warmup < 0 or steps - warmup < 2 * PARTS:
        raise InputError(
            f"endurance: found {steps} steps, {warmup} of them to warm up; expected at least "
            f"{2 * PARTS} more"
        )
    if plot is not None:
        check_place(plot)
    data = DataSettings(
        store,
        step_minutes=FrameStore(store).step_minutes,
        input_frames=input_frames,
        lead_times=lead_times,
        batch_size=batch,
    )
    inhibition = {"at": HIDDEN_STATES, "late_start": 0} if memel else None
    collections = _collections()
    with TemporaryDirectory() as folder:
        run = RunSettings(
            Path(folder) / "run",
            validate_every=max(1, steps // 4),
            valid_clips=valid_clips,
            checkpoint_every=max(1, steps // 4),
            accelerator=accelerator_of(device),
            devices=1,
            precision=precision,
        )
        optimization = OptimizationSettings(steps=steps)
        try:
            checkpoint = pretrain(
                network_of(hidden), data, optimization, run, inhibition, callbacks=[LogStepCosts()]
            )
        except Stopped:
            raise Stopped("stopped; a run of endurance is not kept") from None
        curve = read_learning_curve(run.learning_curve)
        trained_in = read_checkpoint(checkpoint)[0].run["precision"]
    seconds = np.array(curve[SECONDS][1])
    memory = {
        name: np.array(curve[metric][1]) for metric, name in MEMORY_NAMES.items() if metric in curve
    }
    if plot is not None:
        named = {name: held / 1e6 for name, held in memory.items()}
        write_endurance(plot, seconds, named, title=f"{steps:,} training steps")
    facts: dict[str, Any] = {
        "trained in": trained_in,
        "seconds of a step": course_of_time(seconds, warmup),
        "seconds of a step, of all cores together": course_of_time(
            np.array(curve[CPU_SECONDS][1]), warmup
        ),
        **{name: course_of_memory(held, warmup) for name, held in memory.items()},
    }
    if not memory:
        facts["memory"] = "not known here"
    facts["Python's garbage collector"] = {
        "on": gc.isenabled(),
        "collections of each generation": [
            after - before for after, before in zip(_collections(), collections, strict=True)
        ],
    }
    return Report("endurance", settings, _tenths(seconds, warmup, batch), facts)


def _tenths(seconds: np.ndarray, warmup: int, batch: int) -> tuple[Row, ...]:
    numbers = np.array_split(np.arange(warmup, len(seconds)), PARTS)
    return tuple(
        Row(
            f"steps {part[0] + 1:,}–{part[-1] + 1:,}",
            tuple(seconds[part].tolist()),
            batch,
            "clips",
        )
        for part in numbers
    )


def course_of_time(seconds: np.ndarray, warmup: int) -> dict[str, Any]:
    """Median, ratio and trend of the seconds of the steps after the warm-up."""
    timed = seconds[warmup:]
    middle = float(np.median(timed))
    tenths = np.array_split(timed, PARTS)
    slope = trend_of(np.arange(len(timed)), timed)
    return {
        "median": middle,
        "last tenth over first, medians": float(np.median(tenths[-1]) / np.median(tenths[0])),
        # Tells of steps that are few and slow, too, such as those with a checkpoint.
        "last tenth over first, means": float(np.mean(tenths[-1]) / np.mean(tenths[0])),
        "change per 1,000 steps, % of the median": slope.times(1e3 * 100 / middle),
    }


def course_of_memory(held: np.ndarray, warmup: int) -> dict[str, Any]:
    """Memory after some of the steps, and its growth after the warm-up; `held` is in bytes."""
    marks = sorted({max(1, round(len(held) * share)) for share in MEMORY_AT})
    after = held[warmup:]
    return {
        "MB after steps": {f"{mark:,}": float(held[mark - 1]) / 1e6 for mark in marks},
        "kB more per step, from first to last": float(after[-1] - after[0])
        / (len(after) - 1)
        / 1e3,
        "kB more per step, trend": trend_of(np.arange(len(after)), after).times(1e-3),
    }


def _collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]
