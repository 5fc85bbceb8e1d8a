"""The part endurance trains for real and says what its steps cost; not how fast."""

import json
import mmap
import os
import signal
import statistics
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import theilslopes
from small_store import write_small_store

from nowcast.benchmarks import endurance
from nowcast.benchmarks.endurance import course_of_memory, course_of_time
from nowcast.benchmarks.trend import trend_of
from nowcast.benchmarks.watched_training import (
    CPU_SECONDS,
    RESIDENT,
    SECONDS,
    LogStepCosts,
    network_of,
    resident_memory,
)
from nowcast.commands.benchmark import main
from nowcast.errors import InputError
from nowcast.models.checkpoint import read_checkpoint
from nowcast.rendering.watched_training import running, window_of, write_endurance
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.data import DataSettings
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import pretrain
from nowcast.training.run_settings import RunSettings

STEPS, WARMUP = 24, 4
TINY = [
    "endurance", "--hidden=[4, 6, 6]", "--batch=2", "--input_frames=3", "--lead_times=4",
    f"--steps={STEPS}", f"--warmup={WARMUP}", "--valid_clips=2", "--matrix_side=8",
    "--device=cpu", "--precision=32-true",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_small_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def trained(monkeypatch):
    """What the trainings of the benchmark left, read before their folders are gone."""
    left = []

    def pretrain_and_look(*arguments, **keywords):
        checkpoint = pretrain(*arguments, **keywords)
        description, content = read_checkpoint(checkpoint)
        curve = read_learning_curve(checkpoint.parent / "metrics.csv")
        left.append((description, content["global_step"], curve))
        return checkpoint

    monkeypatch.setattr(endurance, "pretrain", pretrain_and_look)
    return left


@pytest.mark.parametrize("memel", [True, False])
def test_the_report_is_that_of_a_real_training(store, trained, tmp_path, memel):
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    more = [f"--store={store}", f"--out={out}", f"--plot={plot}", f"--memel={str(memel).lower()}"]
    assert main([*TINY, *more]) == 0
    ((description, steps_done, curve),) = trained
    assert steps_done == STEPS
    assert (description.inhibition is not None) == memel
    assert curve[SECONDS][0] == list(range(STEPS))
    assert curve["valid_loss"][0] == [5, 11, 17, 23]

    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["settings"]["store"] == str(store)
    timed = [value for row in found["rows"] for value in row["seconds"]["rounds"]]
    assert timed == curve[SECONDS][1][WARMUP:]
    assert [row["name"] for row in found["rows"]][::9] == ["steps 5–6", "steps 23–24"]
    facts = found["facts"]
    assert facts["trained in"] == description.run["precision"] == "32-true"
    assert facts["seconds of a step"]["median"] == pytest.approx(statistics.median(timed))
    assert facts["seconds of a step, of all cores together"]["median"] == pytest.approx(
        statistics.median(curve[CPU_SECONDS][1][WARMUP:])
    )
    marks = facts["resident memory"]["MB after steps"]
    assert marks == {
        str(step): pytest.approx(curve[RESIDENT][1][step - 1] / 1e6) for step in (1, 6, 12, 24)
    }
    assert facts["Python's garbage collector"]["on"] is True
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 5


def test_watching_changes_nothing_of_the_outcome_and_misses_no_step_of_a_resumed_run(
    store, tmp_path
):
    data = DataSettings(store, input_frames=3, lead_times=4, batch_size=2, workers=0)

    def train(folder, steps, callbacks):
        run = RunSettings(
            tmp_path / folder, valid_clips=0, checkpoint_every=3, log_every=1, accelerator="cpu",
            devices=1, precision="32-true",
        )  # fmt: skip
        optimization = OptimizationSettings(steps=steps)
        path = pretrain(network_of((4, 6, 6)), data, optimization, run, callbacks=callbacks)
        return read_checkpoint(path)[1]["state_dict"], read_learning_curve(run.learning_curve)

    plain, curve = train("plain", 6, [])
    assert SECONDS not in curve
    train("watched", 4, [LogStepCosts()])
    watched, curve = train("watched", 6, [LogStepCosts()])
    assert plain.keys() == watched.keys()
    for name, weights in plain.items():
        assert torch.equal(weights, watched[name]), name
    for metric in (SECONDS, CPU_SECONDS, RESIDENT):
        assert curve[metric][0] == list(range(6))
        assert min(curve[metric][1]) > 0


def test_a_stopped_run_says_so_and_leaves_nothing(store, tmp_path, monkeypatch, capsys):
    log = LogStepCosts.on_train_batch_end

    def stop_at_step_5(self, trainer, *others):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        log(self, trainer, *others)

    monkeypatch.setattr(LogStepCosts, "on_train_batch_end", stop_at_step_5)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    out = tmp_path / "out.json"
    assert main([*TINY, f"--store={store}", f"--out={out}"]) == 130
    assert capsys.readouterr().err.endswith("stopped; a run of endurance is not kept\n")
    assert list(temporary.iterdir()) == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=23"], "found 23 steps, 4 of them to warm up; expected at least 20 more"),
        (["--warmup=-1"], "found 24 steps, -1 of them"),
        (["--device=tpu"], "device"),
        (["--plot=."], ".: found a folder"),
        (["--batch=0"], "batch_size is 0"),
        (["--lead_times=40"], "found no clip of 43 frames"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(store, tmp_path, capsys, arguments, message):
    out = tmp_path / "out.json"
    assert main([*TINY, f"--store={store}", *arguments, f"--out={out}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()


def test_resident_memory_is_what_linux_says_and_sees_what_is_allocated():
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    before = resident_memory()
    assert before == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), abs=4e6)
    with mmap.mmap(-1, 50_000_000) as held:  # Not from what the C library may have kept.
        held.write(b"x" * len(held))
        assert resident_memory() - before >= len(held) - 4e6


def test_slopes_are_those_of_scipy():
    random = np.random.default_rng(5)
    at = np.cumsum(random.random(90))
    values = 0.3 * at + random.standard_t(2, 90)
    assert trend_of(at, values).slope == pytest.approx(theilslopes(values, at).slope, rel=1e-12)


@pytest.mark.parametrize("count", [2, 37, 100, 2_000])
def test_the_trend_of_a_line_is_its_slope_and_known_exactly(count):
    at = np.arange(count)
    trend = trend_of(at, 7 - 0.25 * at)
    assert [trend.slope, trend.low, trend.high] == pytest.approx([-0.25] * 3, rel=1e-9)


def test_one_slow_step_in_ten_does_not_move_the_trend():
    at = np.arange(2_000)
    values = 1 + 1e-4 * at
    values[9::10] += 50
    trend = trend_of(at, values)
    assert [trend.slope, trend.low, trend.high] == pytest.approx([1e-4] * 3, rel=0.02)


def test_intervals_are_as_wide_as_theory_has_them_for_independent_values():
    """Sen's slope has 3 / π of the efficiency of least squares under normal errors."""
    at = np.arange(100.0)
    error = np.sqrt(np.pi / 3 / ((at - at.mean()) ** 2).sum())
    trends = [
        trend_of(at, np.random.default_rng(seed).standard_normal(100), seed) for seed in range(20)
    ]
    assert all(trend.low < trend.slope < trend.high for trend in trends)
    widths = [(trend.high - trend.low) / 2 for trend in trends]
    assert np.mean(widths) == pytest.approx(1.96 * error, rel=0.15)
    assert sum(trend.low < 0 < trend.high for trend in trends) >= 17


def test_intervals_are_wider_where_neighbouring_values_go_together():
    at, random = np.arange(100.0), np.random.default_rng(0)
    together = np.repeat(random.standard_normal(20), 5)
    shuffled = random.permutation(together)
    wide, narrow = (trend_of(at, values) for values in (together, shuffled))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_courses_of_time_and_memory_follow_from_their_series():
    steps = np.arange(2_000)
    time = course_of_time(np.where(steps < 100, 9.0, 2 + 1e-4 * steps), 100)
    assert time["median"] == pytest.approx(2 + 1e-4 * 1_049.5)
    assert time["last tenth over first, medians"] == pytest.approx(
        (2 + 1e-4 * 1_904.5) / (2 + 1e-4 * 194.5)
    )
    assert time["last tenth over first, means"] == pytest.approx(
        time["last tenth over first, medians"]
    )
    few = course_of_time(np.where((steps % 10 > 0) | (steps < 1_000), 2.0, 52.0), 100)
    assert few["last tenth over first, medians"] == 1
    assert few["last tenth over first, means"] == pytest.approx(7 / 2)
    change = time["change per 1,000 steps, % of the median"]
    assert change["slope"] == pytest.approx(100 * 0.1 / time["median"])
    memory = course_of_memory(1e9 + 3e3 * steps, 100)
    assert memory["MB after steps"] == {
        f"{step:,}": pytest.approx(1_000 + 3e-3 * (step - 1)) for step in (100, 500, 1_000, 2_000)
    }
    assert memory["kB more per step, from first to last"] == pytest.approx(3)
    assert memory["kB more per step, trend"]["slope"] == pytest.approx(3)


def test_moving_statistics_are_those_of_each_window():
    values = np.random.default_rng(0).random(30)
    at, medians = running(range(30), values, 5, np.median)
    assert at.tolist() == list(range(2, 28))
    assert medians.tolist() == [statistics.median(values[i : i + 5]) for i in range(26)]
    assert [window_of(count) for count in (1, 8, 200, 300, 2_000)] == [1, 1, 11, 15, 51]


def test_a_picture_of_other_steps_than_memory_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected as many of each"):
        write_endurance(tmp_path / "a.png", [1, 2, 3], {"resident memory": [1, 2]})
    with pytest.raises(InputError, match="at least one"):
        write_endurance(tmp_path / "a.png", [], {})
    assert list(tmp_path.iterdir()) == []
