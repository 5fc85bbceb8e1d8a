"""Part precision: whether training in bfloat16 ends where training in float32 does."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Literal

from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.watched_training import (
    SECONDS,
    Device,
    LogStepCosts,
    accelerator_of,
    network_of,
)
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.files import check_place
from nowcast.models.checkpoint import load
from nowcast.progress import progress
from nowcast.radar.store import FrameStore
from nowcast.rendering.watched_training import write_precisions
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.clips import SequentialClips
from nowcast.training.data import BatchesToScore, DataSettings
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import pretrain
from nowcast.training.run_settings import Precision, RunSettings
from nowcast.verification.scores import Scores

FP32, BF16 = "fp32", "bf16"
PRECISIONS: Mapping[str, Precision] = {FP32: "32-true", BF16: "bf16-mixed"}

LAST_STEPS = 50
"""The mean over so many steps is the final training loss."""

CHECKPOINT_EVERY = 20

BySeed = dict[int, float]


def measure_precision(
    store: Path,
    runs: Path,
    hidden: tuple[int, ...] = (64, 192, 192),
    steps: int = 300,
    seeds: tuple[int, ...] = (0, 1, 2),
    batch: int = 4,
    learning_rate: float = 1e-4,
    input_frames: int = 5,
    lead_times: int = 20,
    split: Literal["train", "valid", "test"] = "test",
    clips: int = 64,
    stride: int = 5,
    device: Device = "auto",
    plot: Path | None = None,
) -> Report:
    """Train in float32 and under bfloat16 autocast as `pretrain` does, and compare what comes out.

    The two runs of a seed have the same initial weights and see the same clips. Their networks are
    scored in float32 on the same clips: B-MSE + B-MAE, sums per frame, averaged over lead times.
    Differences of the two are set against how far the seeds are apart. A round of the table is a
    seed, its seconds are the median of the steps of a run, and runs follow one another: `train`
    compares their speed.

    Args:
        store: frame store with clips to train on and to score; at its own time step.
        runs: folder for the runs. Runs that are there and finished are not repeated, an unfinished
            one goes on.
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        steps: of each run.
        seeds: of the runs, at least two.
        batch: clips in a step.
        learning_rate: of Adam.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        split: whose clips are scored.
        clips: how many of them, spread evenly; fewer where there are fewer.
        stride: frames between the starts of clips to score.
        device: where networks are trained and scored.
        plot: PNG file to draw losses and scores into.

    Raises:
        InputError: for a setting that makes no sense, a store that does not fit, or a folder with
            runs of other settings.
        Stopped: when asked to stop; the same call goes on.
    """
    settings = {**locals(), "store": str(store), "runs": str(runs), "plot": plot and str(plot)}
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: found {list(seeds)}, expected at least two different ones")
    check_place(runs, folder=True)
    if plot is not None:
        check_place(plot)
    opened = FrameStore(store)
    data = DataSettings(
        store,
        step_minutes=opened.step_minutes,
        input_frames=input_frames,
        lead_times=lead_times,
        batch_size=batch,
    )
    optimization = OptimizationSettings(steps=steps, learning_rate=learning_rate)
    scored = SequentialClips(opened, split, data.length, stride, clips)
    place = choose_device(device)
    losses: dict[str, dict[int, tuple[list[int], list[float]]]] = {FP32: {}, BF16: {}}
    seconds: dict[str, list[float]] = {FP32: [], BF16: []}
    scores: dict[str, BySeed] = {FP32: {}, BF16: {}}
    both = [(seed, name) for seed in seeds for name in PRECISIONS]
    for seed, name in progress(both, "precision", unit="runs"):
        run = RunSettings(
            runs / f"{name}, seed {seed}",
            seed=seed,
            valid_clips=0,
            checkpoint_every=CHECKPOINT_EVERY,
            log_every=1,
            accelerator=accelerator_of(device),
            devices=1,
            precision=PRECISIONS[name],
        )
        checkpoint = pretrain(
            network_of(hidden), data, optimization, run, callbacks=[LogStepCosts()]
        )
        curve = read_learning_curve(run.learning_curve)
        losses[name][seed] = curve["train_loss"]
        seconds[name].append(median(curve[SECONDS][1]))
        scores[name][seed] = _score(checkpoint, scored, data, str(place))
    score_name = f"B-MSE + B-MAE, {len(scored)} {split} clips"
    if plot is not None:
        title = f"{steps:,} steps in {FP32} and in {BF16}"
        write_precisions(plot, losses, scores, score_name=score_name, title=title)
    last = {
        name: {seed: fmean(values[-LAST_STEPS:]) for seed, (_, values) in of.items()}
        for name, of in losses.items()
    }
    first = {
        name: {seed: values[0] for seed, (_, values) in of.items()} for name, of in losses.items()
    }
    facts = {
        score_name: compared(scores),
        f"training loss, mean of the last {min(LAST_STEPS, steps)} steps": compared(last),
        "loss of the first step, largest relative difference": max(
            abs(first[BF16][seed] / first[FP32][seed] - 1) for seed in seeds
        ),
    }
    rows = (
        Row(FP32, tuple(seconds[FP32]), batch, "clips"),
        Row(BF16, tuple(seconds[BF16]), batch, "clips"),
    )
    return Report("precision", settings, rows, facts)


def compared(found: Mapping[str, BySeed]) -> dict[str, Any]:
    """Differences between the precisions by seed, beside how far the seeds are apart.

    Args:
        found: by precision, of the same seeds, at least two.

    Returns:
        What was found; the differences bf16 − fp32 with mean and standard deviation (of one of
        them, n − 1), which tell of a bias, however small; of fp32 mean, standard deviation and
        range over seeds; and the largest difference and the mean one, without sign, over those two,
        which tell whether it matters.
    """
    differences = {seed: found[BF16][seed] - value for seed, value in found[FP32].items()}
    base, apart = list(found[FP32].values()), list(differences.values())
    spread, width = stdev(base), max(base) - min(base)
    largest, mean = max(map(abs, apart)), abs(fmean(apart))
    return {
        **{name: _by_seed(values) for name, values in found.items()},
        f"{BF16} − {FP32}": {
            **_by_seed(differences),
            "mean": fmean(apart),
            "standard deviation": stdev(apart),
        },
        f"{FP32} over seeds": {
            "mean": fmean(base),
            "standard deviation": spread,
            "range": width,
        },
        "largest |difference|": _over(largest, spread, width),
        "|mean difference|": _over(mean, spread, width),
    }


def _over(difference: float, spread: float, width: float) -> dict[str, float]:
    """A difference over the spread of the seeds; infinite where only they do not differ."""
    return {
        f"over the seeds' {name}": difference / of if of else math.inf if difference else 0.0
        for name, of in (("standard deviation", spread), ("range", width))
    }


def _by_seed(values: BySeed) -> dict[str, float]:
    return {f"seed {seed}": value for seed, value in values.items()}


def _score(checkpoint: Path, clips: SequentialClips, data: DataSettings, device: str) -> float:
    """B-MSE + B-MAE of a network that forecasts in float32, averaged over lead times."""
    network = load(checkpoint, device, "fp32")
    scores = Scores(data.lead_times)
    for cases in BatchesToScore(clips, data):
        forecast = network.forecast(cases.inputs, data.lead_times)
        scores.update(forecast, cases.targets, cases.mask)
    found = scores.summary()
    return float(found["balanced_mse"] + found["balanced_mae"])
