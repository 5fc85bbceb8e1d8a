"""The part precision trains pairs of runs, scores them alike, and goes on where it was stopped."""

import json
import math
import os
import signal
import statistics

import numpy as np
import pytest
import torch
from PIL import Image
from small_store import write_small_store

from nowcast.benchmarks.precision import compared
from nowcast.benchmarks.verification import plain_sums
from nowcast.benchmarks.watched_training import SECONDS, LogStepCosts
from nowcast.commands.benchmark import main
from nowcast.errors import InputError
from nowcast.models.checkpoint import load, read_checkpoint
from nowcast.radar.clips import sequential
from nowcast.radar.store import FrameStore
from nowcast.rendering.watched_training import write_precisions
from nowcast.training.callbacks import read_learning_curve

STEPS, INPUTS, LEADS, SEEDS = 6, 3, 4, (0, 3)
TINY = [
    "precision", "--hidden=[4, 6, 6]", "--batch=2", f"--input_frames={INPUTS}",
    f"--lead_times={LEADS}", f"--steps={STEPS}", "--seeds=[0, 3]", "--matrix_side=8",
    "--learning_rate=1e-3", "--clips=100", "--device=cpu",
]  # fmt: skip
RUNS = [f"{name}, seed {seed}" for seed in SEEDS for name in ("fp32", "bf16")]
SCORE = "B-MSE + B-MAE, 6 test clips"
LOSS = f"training loss, mean of the last {STEPS} steps"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_small_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def benchmark(store, tmp_path_factory):
    """Folder with runs, JSON and picture of a benchmark that nothing interrupted."""
    folder = tmp_path_factory.mktemp("benchmark")
    assert main([*TINY, *places(store, folder)]) == 0
    return folder


def places(store, folder):
    return [
        f"--store={store}", f"--runs={folder / 'runs'}", f"--out={folder / 'out.json'}",
        f"--plot={folder / 'plot.png'}",
    ]  # fmt: skip


def report(folder):
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def checkpoint(folder, run):
    return folder / "runs" / run / "last.ckpt"


def curve(folder, run):
    return read_learning_curve(folder / "runs" / run / "metrics.csv")


def test_the_runs_of_a_seed_differ_in_nothing_but_precision(benchmark):
    for seed in SEEDS:
        runs = [f"{name}, seed {seed}" for name in ("fp32", "bf16")]
        fp32, bf16 = (read_checkpoint(checkpoint(benchmark, run)) for run in runs)
        assert fp32[1]["global_step"] == bf16[1]["global_step"] == STEPS
        had = [dict(description.run) for description, _ in (fp32, bf16)]
        assert [run.pop("precision") for run in had] == ["32-true", "bf16-mixed"]
        assert had[0] == had[1]
        assert had[0]["seed"] == seed
        losses = [curve(benchmark, run)["train_loss"] for run in runs]
        assert losses[0][0] == losses[1][0] == list(range(STEPS))
        # The same weights and clips, so the same loss, but for rounding to 8 bits; which there is.
        assert losses[1][1][0] == pytest.approx(losses[0][1][0], rel=1e-3)
        assert losses[1][1] != losses[0][1]
    first = [curve(benchmark, f"fp32, seed {seed}")["train_loss"][1][0] for seed in SEEDS]
    assert abs(first[0] / first[1] - 1) > 0.01


def test_scores_are_those_that_plain_numpy_gives_of_the_networks_in_float64(benchmark, store):
    opened = FrameStore(store)
    clips = [
        opened.read(sequence, start, INPUTS + LEADS)
        for sequence in opened.split("test")
        for start, _ in sequential(sequence.times, INPUTS + LEADS, 5, opened.step_minutes)
    ]
    assert len(clips) == 6
    frames = np.stack([clip.frames for clip in clips])[:, :, None].astype(np.float32) / 255
    masks = np.stack([clip.mask for clip in clips])[:, INPUTS:, None]
    found = report(benchmark)["facts"][SCORE]
    for name in ("fp32", "bf16"):
        for seed in SEEDS:
            network = load(checkpoint(benchmark, f"{name}, seed {seed}")).network.double()
            past = torch.from_numpy(frames[:, :INPUTS]).double()
            forecast = network.forecast(past, LEADS).numpy()
            sums = plain_sums(forecast, frames[:, INPUTS:], masks)
            expected = (sums["balanced_mse"] + sums["balanced_mae"]).mean()
            assert found[name][f"seed {seed}"] == pytest.approx(expected, rel=1e-5)


def test_final_losses_and_times_are_those_of_the_learning_curves(benchmark):
    found = report(benchmark)
    for row, name in zip(found["rows"], ("fp32", "bf16"), strict=True):
        curves = [curve(benchmark, f"{name}, seed {seed}") for seed in SEEDS]
        assert row["name"] == name
        assert row["seconds"]["rounds"] == [statistics.median(of[SECONDS][1]) for of in curves]
        assert list(found["facts"][LOSS][name].values()) == pytest.approx(
            [statistics.fmean(of["train_loss"][1]) for of in curves]
        )
    first = {run: curve(benchmark, run)["train_loss"][1][0] for run in RUNS}
    assert found["facts"]["loss of the first step, largest relative difference"] == max(
        abs(first[f"bf16, seed {seed}"] / first[f"fp32, seed {seed}"] - 1) for seed in SEEDS
    )
    with Image.open(benchmark / "plot.png") as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 5


def test_a_stopped_benchmark_goes_on_and_reports_the_same(
    benchmark, store, tmp_path, monkeypatch, capsys
):
    """Ctrl-C in the middle of the third of four runs."""
    log, steps = LogStepCosts.on_train_batch_end, []

    def count_and_stop(self, trainer, *others):
        steps.append(trainer.global_step)
        if len(steps) == 2 * STEPS + 2:
            os.kill(os.getpid(), signal.SIGINT)
        log(self, trainer, *others)

    monkeypatch.setattr(LogStepCosts, "on_train_batch_end", count_and_stop)
    arguments = [*TINY, *places(store, tmp_path)]
    assert main(arguments) == 130
    said = "stopped after step 2; the same command goes on from there\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "out.json").exists()
    finished = [checkpoint(tmp_path, run) for run in RUNS[:2]]
    before = [path.stat().st_mtime_ns for path in finished]

    assert main(arguments) == 0
    whole_run = list(range(1, STEPS + 1))
    assert steps == [*whole_run, *whole_run, 1, 2, *whole_run[2:], *whole_run]
    assert [path.stat().st_mtime_ns for path in finished] == before
    assert report(tmp_path)["facts"] == report(benchmark)["facts"]


def test_differences_are_set_against_the_spread_of_the_seeds():
    found = compared({"fp32": {0: 10.0, 1: 14.0, 2: 12.0}, "bf16": {0: 11.0, 1: 13.0, 2: 12.3}})
    assert found["bf16 − fp32"] == {
        "seed 0": 1.0, "seed 1": -1.0, "seed 2": pytest.approx(0.3), "mean": pytest.approx(0.1),
        "standard deviation": pytest.approx(math.sqrt((0.9**2 + 1.1**2 + 0.2**2) / 2)),
    }  # fmt: skip
    assert found["fp32 over seeds"] == {"mean": 12, "standard deviation": 2, "range": 4}
    assert list(found["largest |difference|"].values()) == [0.5, 0.25]
    assert list(found["|mean difference|"].values()) == pytest.approx([0.05, 0.025])
    alike = compared({"fp32": {0: 1.0, 1: 1.0}, "bf16": {0: 1.0, 1: 2.0}})
    assert set(alike["largest |difference|"].values()) == {math.inf}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=[0]"], "seeds: found [0], expected at least two different ones"),
        (["--seeds=[1, 1]"], "seeds: found [1, 1]"),
        (["--steps=0"], "steps is 0"),
        (["--clips=0"], "at_most: found 0"),
        (["--split=training"], "split"),
        (["--batch=3"], "found a run with run.data.batch_size = 2, asked for 3"),
    ],
)
def test_wrong_settings_are_one_line_and_change_nothing(
    benchmark, store, tmp_path, capsys, arguments, message
):
    out = tmp_path / "out.json"
    before = {path: path.stat().st_mtime_ns for path in benchmark.rglob("*")}
    more = [*places(store, benchmark), *arguments, f"--out={out}"]
    assert main([*TINY, *more]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()
    assert {path: path.stat().st_mtime_ns for path in benchmark.rglob("*")} == before


def test_a_file_in_the_place_of_the_runs_is_refused(store, tmp_path, capsys):
    (tmp_path / "runs").write_text("mine")
    assert main([*TINY, *places(store, tmp_path)]) == 2
    assert "runs: found a file, expected a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_picture_of_runs_that_are_no_pairs_is_refused(tmp_path):
    scores = {"fp32": {0: 1.0}, "bf16": {0: 1.0}}
    for losses, message in (
        ({"fp32": {0: ([0], [1.0])}}, "found fp32, expected two"),
        ({"fp32": {0: ([0], [1.0])}, "bf16": {1: ([0], [1.0])}}, "of the same seeds"),
        ({"fp32": {0: ([0], [1.0])}, "bf16": {0: ([1], [1.0])}}, "other steps"),
    ):
        with pytest.raises(InputError, match=message):
            write_precisions(tmp_path / "a.png", losses, scores, score_name="score")
    assert list(tmp_path.iterdir()) == []
