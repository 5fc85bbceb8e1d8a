"""What an experiment has left in its folder, gathered into its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nowcast.experiments.plan import Plan
from nowcast.experiments.results import Results, cells, paired
from nowcast.experiments.steps import Evaluation, Training
from nowcast.experiments.tables import TUNED, Table
from nowcast.experiments.work import NETWORK, Diverged, Work
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.resuming import plain
from nowcast.verification import THRESHOLDS_MM_H, Report

COLUMNS = {
    "B-MAE": "balanced_mae",
    "B-MSE": "balanced_mse",
    "B-MAE/pixel": "balanced_mae_per_pixel",
    "B-MSE/pixel": "balanced_mse_per_pixel",
}
"""Columns of the tables and the scores that they show, beside the CSI at each threshold."""

POINTS = 200
"""Of a learning curve, at most so many are kept; each is the mean of those around it."""


def scores_of(report: Report | Diverged, method: str) -> dict[str, float]:
    """Scores of a method by column; NaN of a network that diverged."""
    if isinstance(report, Diverged):
        skill = [f"CSI {threshold:g}" for threshold in THRESHOLDS_MM_H]
        return dict.fromkeys([*COLUMNS, *skill], math.nan)
    mean: Any = report["methods"][method]["mean"]
    of_thresholds = zip(report["thresholds_mm_h"], mean["csi"], strict=True)
    return {column: float(mean[name]) for column, name in COLUMNS.items()} | {
        f"CSI {threshold:g}": float(csi) for threshold, csi in of_thresholds
    }


def gather(
    table: Table,
    plan: Plan,
    work: Work,
    rows: Mapping[str, Mapping[int, Evaluation]],
    chosen: Mapping[str, str],
    opponents: Report | None,
) -> Results:
    """Results of an experiment that is done.

    Args:
        table: what it fills.
        plan: seeds.
        work: where what is done is found.
        rows: evaluations by row and seed.
        chosen: what was chosen for a row.
        opponents: scores of methods without training.
    """
    scores: dict[str, dict[int, dict[str, float]]] = {}
    commits: set[str] = set()
    clips = 0
    diverged: dict[str, list[int]] = {}
    for row, evaluations in rows.items():
        scores[row] = {}
        for seed, evaluation in evaluations.items():
            report = work.report(evaluation)
            method = f"{NETWORK}-T" if evaluation.layers_on else NETWORK
            scores[row][seed] = scores_of(report, method)
            if isinstance(report, Diverged):
                diverged.setdefault(row, []).append(seed)
            else:
                commits.add(_short(report["commit"]))
                clips = report["methods"][method]["clips"]
    columns = tuple(next(iter(next(iter(scores.values())).values())))
    return Results(
        table.title,
        table.split,
        columns,
        {row: cells(of_seeds, columns) for row, of_seeds in scores.items()},
        {
            (first, second): paired(scores[first], scores[second], columns)
            for first, second in table.compared
            if first in scores
        },
        {name: scores_of(opponents, name) for name in opponents["methods"]} if opponents else {},
        chosen,
        diverged,
        {
            row: {seed: _curve(work, e.training) for seed, e in evaluations.items()}
            for row, evaluations in rows.items()
        },
        _notes(table, plan, work, clips, sorted(commits), bool(chosen)),
        _settings(plan, work),
    )


def _curve(work: Work, training: Training) -> dict[str, Any]:
    """Losses of a training by step; none of one that was shorter than a row."""
    path = work.learning_curve(training)
    found = read_learning_curve(path) if path.exists() else {}
    return {
        metric: _thinned(*found[metric])
        for metric in ("train_loss", "valid_loss")
        if metric in found
    }


def _thinned(steps: list[int], values: list[float]) -> dict[str, list[float]]:
    parts = np.array_split(np.array([steps, values], float), min(POINTS, len(steps)), axis=1)
    means = [part.mean(1) for part in parts]
    return {
        "steps": [float(f"{step:.6g}") for step, _ in means],
        "values": [float(f"{value:.6g}") for _, value in means],
    }


def _notes(
    table: Table,
    plan: Plan,
    work: Work,
    clips: int,
    commits: Sequence[str],
    tuned: bool,
) -> tuple[str, ...]:
    height, width = work.data.open().shape
    seeds = f"{len(plan.seeds)} seeds" if len(plan.seeds) > 1 else "one seed"
    notes = [
        f"{work.data.store.name}: {clips:,} {table.split} clips of {height} × {width}; "
        f"{work.pretraining.steps:,} + {work.finetuning.steps:,} steps of "
        f"{work.data.batch_size} clips; {seeds}; commit {', '.join(commits)}.",
        "B-MAE and B-MSE: sums over the pixels of a frame, the benchmark's scale, as the paper's "
        "values; per pixel: means, as its E.2 writes them.",
    ]
    if len(plan.seeds) > 1:
        notes.append(
            "±: standard deviation of one seed. Differences are taken seed by seed; in brackets "
            "their 95 % interval (Student's t)."
        )
    else:
        notes.append("One seed says nothing of what another would give.")
    if tuned:
        notes.append(f"{TUNED}: chosen by B-MSE + B-MAE on validation clips.")
    if table.split == "test":
        notes.append(
            "The paper's values are of HKO-7 at 120 × 120, 20,000 + 2,000 steps, one run each."
        )
    return tuple(notes)


def _short(commit: str | None) -> str:
    """A commit as people write it, with what says that files were changed."""
    if commit is None:
        return "unknown"
    name, changed, _ = commit.partition("-")
    return name[:12] + (" with changes" if changed else "")


def _settings(plan: Plan, work: Work) -> dict[str, Any]:
    store = work.data.open()
    return {
        "plan": plain(asdict(plan)),
        "store": {"name": work.data.store.name, "fingerprint": store.fingerprint},
        "data": _names(asdict(work.data)),
        "finetuning_data": _names(asdict(work.finetuning_data)),
        "network": plain(asdict(work.network)),
        "pretraining": plain(asdict(work.pretraining)),
        "finetuning": plain(asdict(work.finetuning)),
        "run": {k: v for k, v in plain(asdict(work.run)).items() if k not in ("out", "seed")},
        "layers": plain(work.layers),
        "sampling": plain(asdict(work.sampling)),
        "stride": work.stride,
        "at_most": work.at_most,
    }


def _names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of paths only the names."""

    def name(value: Any) -> Any:
        if isinstance(value, Path):
            return value.name
        return [name(one) for one in value] if isinstance(value, tuple) else value

    return {key: name(value) for key, value in settings.items()}
