"""The paper's precipitation experiments as a user runs them: tiny networks, synthetic rain."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch
from as_user import DATA, EXPERIMENT, ROOT, RUN, nowcast, write_experiment

SECTION = {
    "out": "runs/experiments",
    "seeds": [0, 1],
    "tune_tops": [1, 5],
    "tune_deltas": [100.0],
    "network": EXPERIMENT["pretrain"]["network"],
    "data": DATA,
    "pretraining": {"steps": 4, "learning_rate": 3e-3},
    "finetuning": {"steps": 3, "learning_rate": 3e-3},
    "run": {name: value for name, value in RUN.items() if name != "validate_every"}
    | {"validate_every": 4, "precision": "32-true"},
    "inhibition": {"late_start": 3},
    "at_most": 4,
}


@pytest.fixture(scope="module")
def here(chain, tmp_path_factory):
    """A folder with rain and an experiment of all four kinds."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "data").mkdir()
    shutil.copy2(chain[0] / "data/rain.h5", folder / "data")
    write_experiment(folder / "experiment.yaml", {"reproduce": SECTION})
    return folder


@pytest.fixture
def home(here, monkeypatch):
    monkeypatch.chdir(here)
    return here


def reproduce(experiment, *more):
    return nowcast("reproduce", experiment, "--config", "experiment.yaml", *more)


@pytest.fixture(scope="module")
def table4(here):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        done = reproduce("table4")
    assert done.status == 0, done.err
    return json.loads((here / "runs/experiments/table4.json").read_text()), done.out


def values(table, row, column):
    return {int(seed): value for seed, value in table["rows"][row][column]["values"].items()}


def test_every_row_is_there_with_what_an_evaluation_of_its_network_gives(home, table4, tmp_path):
    table, said = table4
    folders = {
        "P-Original": "pretraining/plain",
        "P-MEmeL": "pretraining/top1_delta1",
        "T-Original": "finetuning/plain_from_plain",
        "T-MEmeL": "finetuning/plain_from_top1_delta1",
    }
    assert list(table["rows"]) == list(folders)
    seen = set()
    for row, place in folders.items():
        assert f"\n{row}" in said
        for seed in (0, 1):
            checkpoint = f"runs/experiments/{place}_seed{seed}/last.ckpt"
            out = tmp_path / f"{row}_{seed}"
            done = nowcast(
                "evaluate", "--data.store=data/rain.h5", "--data.batch_size=2", "--at_most=4",
                f"--checkpoints.net={checkpoint}", "--baselines=[]", "--animations=0",
                "--data.workers=0", "--out", out,
            )  # fmt: skip
            assert done.status == 0, done.err
            wanted = json.loads((out / "scores.json").read_text())["methods"]["net"]["mean"]
            for column, name in (
                ("B-MAE", "balanced_mae"), ("B-MSE", "balanced_mse"),
                ("B-MAE/pixel", "balanced_mae_per_pixel"),
                ("B-MSE/pixel", "balanced_mse_per_pixel"),
            ):  # fmt: skip
                assert values(table, row, column)[seed] == pytest.approx(wanted[name], rel=1e-6)
            seen.add(wanted["balanced_mse"])
    # Each row and seed has a network of its own.
    assert len(seen) == 8
    assert table["opponents"].keys() == {"persistence", "optical flow"}


def test_differences_are_the_first_rows_values_minus_the_seconds(table4):
    table, _ = table4
    assert [(d["row"], d["minus"]) for d in table["differences"]] == [
        ("P-MEmeL", "P-Original"), ("T-MEmeL", "T-Original"),
        ("T-Original", "P-Original"), ("T-MEmeL", "P-MEmeL"),
    ]  # fmt: skip
    for difference in table["differences"]:
        first, second = (values(table, difference[name], "B-MAE") for name in ("row", "minus"))
        found = difference["scores"]["B-MAE"]["values"]
        assert {int(k): v for k, v in found.items()} == {s: first[s] - second[s] for s in first}


def test_trainings_are_as_the_rows_say(home, table4):
    content = {
        path.parent.name: torch.load(path, weights_only=True)
        for path in (home / "runs/experiments").glob("*/*/last.ckpt")
    }
    for name, found in content.items():
        description = next(v for k, v in found.items() if isinstance(v, dict) and "network" in v)
        seed = int(name[-1])
        assert found["global_step"] == (3 if "_from_" in name else 4), name
        assert description["run"]["seed"] == (1000 + seed if "_from_" in name else seed)
        inhibited = description["inhibition"]
        if name.startswith("top"):
            assert (inhibited["top"], inhibited["delta"]) == (1, 1.0)
            assert inhibited["late_start"] == 3
        else:
            assert inhibited is None


def test_learning_curves_of_all_rows_are_kept(table4):
    table, _ = table4
    for row in table["rows"]:
        for seed in ("0", "1"):
            curve = table["learning_curves"][row][seed]
            assert len(curve["train_loss"]["values"]) == (4 if row.startswith("P-") else 3)


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_what_is_done_is_not_done_again_and_other_experiments_share_it(home, table4):
    experiments = home / "runs/experiments"
    before = files(experiments)
    again = reproduce("table4")
    assert again.status == 0, again.err
    assert again.out == table4[1]
    tables = {experiments / f"table4.{kind}" for kind in ("json", "csv", "txt")}
    after = files(experiments)
    assert {path for path in after if after[path] != before.get(path)} == tables

    done = reproduce("table7", "--seeds=[0]")
    assert done.status == 0, done.err
    new = {path for path in files(experiments) if path not in before}
    # Original is there; MEmeL-T is MEmeL, tested twice.
    trained = {path.parent.name for path in new if path.name == "last.ckpt"}
    assert trained == {"top1_delta1_from_plain_seed0"}
    table = json.loads((experiments / "table7.json").read_text())
    assert list(table["rows"]) == ["Original", "MEmeL", "MEmeL-T"]
    assert values(table, "Original", "B-MAE")[0] == values(table4[0], "T-Original", "B-MAE")[0]
    assert values(table, "MEmeL", "B-MAE") != values(table, "MEmeL-T", "B-MAE")
    assert table["rows"]["MEmeL"]["B-MAE"]["low"] is None


def test_what_is_tuned_is_chosen_on_validation_clips_and_tested_once(home, table4):
    experiments = home / "runs/experiments"
    done = reproduce("table2")
    assert done.status == 0, done.err
    table = json.loads((experiments / "table2.json").read_text())
    assert list(table["rows"]) == ["Original", "Naive (a)", "Naive (b)", "MEmeL", "MEmeL-Tune"]
    losses = {}
    for name in ("top1_delta1", "top1_delta100", "top5_delta100"):
        folders = [experiments / f"finetuning/{name}_from_plain_seed{seed}" for seed in (0, 1)]
        if all((f / "valid/diverged.json").exists() for f in folders):
            losses[name] = math.inf
            continue
        scores = [json.loads((f / "valid/scores.json").read_text()) for f in folders]
        means = [s["methods"]["network"]["mean"] for s in scores]
        losses[name] = sum(m["balanced_mse"] + m["balanced_mae"] for m in means)
        assert all(s["settings"]["split"] == "valid" for s in scores)
    assert len(set(losses.values())) == 3
    best = min(losses, key=losses.get)
    said = best.replace("top", "top ").replace("_delta", ", Δ ")
    assert table["chosen"] == {"MEmeL-Tune": said}
    tested = {p.parent.name for p in experiments.glob("finetuning/*/test")}
    for name in losses:
        wanted = name in (best, "top1_delta1")  # MEmeL is a row of its own.
        assert (f"{name}_from_plain_seed0" in tested) == wanted
    assert f"MEmeL-Tune ({said})" in done.out


def test_a_network_that_diverges_is_a_row_without_numbers(home, tmp_path):
    """It stops nothing, and is not evaluated a second time."""
    strong = ("--seeds=[0]", "--tune_tops=[5]", "--tune_deltas=[1e30]",
              "--out", tmp_path)  # fmt: skip
    for _ in range(2):
        done = reproduce("search", *strong)
        assert done.status == 0, done.err
        table = json.loads((tmp_path / "search.json").read_text())
        assert table["rows"]["top 5, Δ 1e+30"]["B-MAE"]["values"] == {"0": None}
        assert table["rows"]["Original"]["B-MAE"]["mean"] > 0
        assert table["diverged"] == {"top 5, Δ 1e+30": [0]}
        (line,) = (x for x in done.out.splitlines() if x.startswith("top 5, Δ 1e+30, "))
        assert line.split("  ")[0] == "top 5, Δ 1e+30, diverged with seed 0"
        assert line.split()[-6:] == ["–"] * 6
        marks = files(tmp_path / "finetuning/top5_delta1e+30_from_plain_seed0")
        assert not list(tmp_path.glob("finetuning/top5*/valid/scores.json"))
    assert files(tmp_path / "finetuning/top5_delta1e+30_from_plain_seed0") == marks


def test_the_search_scores_validation_clips_alone(home, tmp_path):
    done = reproduce("search", "--out", tmp_path, "--seeds=[0]", "--tune_tops=[2]")
    assert done.status == 0, done.err
    table = json.loads((tmp_path / "search.json").read_text())
    assert list(table["rows"]) == ["Original", "top 1, Δ 1", "top 2, Δ 100"]
    assert not list(tmp_path.glob("*/*/test"))
    assert (tmp_path / "opponents/valid/scores.json").exists()


def test_dependence_trains_each_pretraining_with_one_setting_changed(home, table4):
    experiments = home / "runs/experiments"
    done = reproduce(
        "dependence", "--seeds=[0]", "--tune_tops=[5]", "--tune_deltas=[1]", "--late_starts=[0]"
    )
    assert done.status == 0, done.err
    table = json.loads((experiments / "dependence.json").read_text())
    changed = {
        "P-MEmeL": {},
        "top 5, Δ 1": {"top": 5},
        "top 1, Δ 0": {"delta": 0.0},
        "top 1, Δ -1": {"delta": -1.0},
        "top 1, Δ 1, late start 0": {"late_start": 0},
        "top 1, Δ 1, a neuron every channel": {"neurons": "channel"},
    }
    assert list(table["rows"]) == ["P-Original", *changed]
    assert values(table, "P-MEmeL", "B-MAE") == {0: values(table4[0], "P-MEmeL", "B-MAE")[0]}
    layers = []
    for path in experiments.glob("pretraining/top*_seed0/last.ckpt"):
        content = torch.load(path, weights_only=True)
        description = next(v for v in content.values() if isinstance(v, dict) and "network" in v)
        names = ("top", "delta", "late_start", "neurons")
        layers.append({name: description["inhibition"].get(name) for name in names})
    usual = {"top": 1, "delta": 1.0, "late_start": 3, "neurons": "element"}
    for settings in changed.values():
        assert {**usual, **settings} in layers
    assert len(layers) == len(changed)


@pytest.mark.slow
def test_killed_between_and_in_steps_it_ends_with_the_very_same_table(home, table4, tmp_path):
    """SIGKILL and Ctrl-C, each at another moment, until there is nothing left to interrupt."""
    command = [
        sys.executable, "-c", "import sys; from nowcast.commands import main; sys.exit(main())",
        "reproduce", "table4", "--config", "experiment.yaml", "--out", tmp_path / "out",
    ]  # fmt: skip
    moments = [
        ("pretraining/plain_seed0/metrics.csv", signal.SIGKILL),
        ("pretraining/plain_seed0/test/scores.json", signal.SIGKILL),
        ("finetuning/plain_from_plain_seed0/metrics.csv", signal.SIGINT),
        ("pretraining/top1_delta1_seed1/last.ckpt", signal.SIGKILL),
    ]
    for file, number in moments:
        child = subprocess.Popen(
            command, cwd=home, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "out" / file).exists() and time.monotonic() < deadline:
                if child.poll() is not None:
                    break
                time.sleep(0.002)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            _, err = child.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        assert "Traceback" not in err, err
        assert child.returncode in (130, -signal.SIGKILL), file
    done = reproduce("table4", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert done.out.splitlines()[:-1] == table4[1].splitlines()[:-1]
    found = json.loads((tmp_path / "out/table4.json").read_text())
    assert found == table4[0]


@pytest.mark.slow
def test_two_processes_train_together_and_one_of_them_evaluates(home, tmp_path):
    """As the engine starts them; its second process takes part in every training."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/reproduce.py", "table7", "--config", "experiment.yaml",
         "--out", tmp_path / "out", "--seeds=[0]", "--run.devices=2"],
        cwd=home, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("measured") == 1
    table = json.loads((tmp_path / "out/table7.json").read_text())
    assert list(table["rows"]) == ["Original", "MEmeL", "MEmeL-T"]
    assert all(of["B-MAE"]["mean"] > 0 for of in table["rows"].values())
    steps = [line for line in done.stderr.splitlines() if line.startswith("step 2 of ")]
    assert len(steps) == 1
    for path in (tmp_path / "out").glob("*/*/last.ckpt"):
        assert torch.load(path, weights_only=True)["global_step"] in (3, 4)


def test_the_plan_says_what_is_to_do_and_does_nothing(home, tmp_path, caplog):
    with caplog.at_level("INFO", logger="nowcast"):
        done = reproduce("table2", "--only_plan", "--out", tmp_path / "out", "--seeds=[7]")
    assert (done.status, done.out) == (0, "")
    assert not (tmp_path / "out").exists()
    plan = caplog.messages
    assert plan[0].startswith("Table 2")
    assert "1 pretrainings (1 to do), 6 finetunings (6 to do), 7 evaluations (7 to do)" in plan[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table5"], "found no experiment 'table5', expected table2, table4, table7, search"),
        (["table4", "--seeds=[1, 1]"], "seeds: found [1, 1], expected different numbers from 0"),
        (["table4", "--seeds=[]"], "seeds: found [], expected different numbers from 0"),
        (["table2", "--tune_deltas=[0]"], "expected at least one of each, all above 0"),
        (["table4", "--inhibition.top=2"], "inhibition.top"),
        (["table4", "--run.out=x"], "run.out"),
        (["table4", "--data.store=none.h5"], "none.h5"),
        (["table4", "--pretraining.learning_rate=1"], "pretraining/plain_seed0/last.ckpt: found a "
         "run with run.optimization.learning_rate = 0.003, asked for 1.0"),
        (["table4", "--inhibition.at=[]"], "inhibition.at: found no module"),
    ],
)  # fmt: skip
def test_wrong_input_is_said_in_one_line(home, table4, arguments, said):
    before = files(home / "runs/experiments")
    done = reproduce(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
    assert said in done.err
    assert files(home / "runs/experiments") == before


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--inhibition.epsilon=-1", "epsilon must be at least 0.0, found -1.0"),
        ("--inhibition.at=[nowhere]", "nowhere"),
        ("--stride=0", "stride: found 0, expected at least 1"),
        ("--at_most=0", "at_most: found 0, expected at least 1 clip"),
        ("--device=abacus", "abacus"),
        ("--network.strides=[5,3,7]", "network settings: stride 7"),
        ("--tune_tops=[100000]", "top=100000 of"),
    ],
)
def test_what_only_a_later_step_would_refuse_is_said_before_any_work(
    home, tmp_path, argument, said
):
    done = reproduce("table2", "--out", tmp_path / "out", argument)
    assert done.status == 2
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_other_baselines_are_scored_anew(home, table4):
    done = reproduce("table4", "--baselines=[optical flow]")
    assert done.status == 0, done.err
    assert "persistence" not in done.out
    line = next(x for x in table4[1].splitlines() if x.startswith("optical flow"))
    assert line.split() in [x.split() for x in done.out.splitlines()]
