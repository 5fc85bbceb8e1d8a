"""`nowcast glue` as a user runs it: GLUE's files and a tiny BERT in, Table 1 out."""

import csv
import io
import json
import logging
import os
import re
import shutil
import signal
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
import torch
from made_up_glue import write_glue
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tiny_bert import write_bert

from nowcast.adapters import bert, trainer
from nowcast.adapters.glue import COLUMNS, TASKS
from nowcast.adapters.rows import ROWS
from nowcast.commands import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

SMALL = (
    "--batch_size=16",
    "--epochs=1",
    "--max_length=48",
    "--device=cpu",
    "--learning_rates=[5e-4]",
)
FURTHER = {"QQP": "QQP (accuracy)", "CoLA": "CoLA (accuracy)", "MRPC": "MRPC (accuracy)",
           "STS-B": "STS-B (Pearson)"}  # fmt: skip


class Said(NamedTuple):
    status: int
    out: str
    err: str
    log: list[str]


def glue(*arguments):
    """Run the command; what it prints, and its log lines."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("nowcast").addHandler(handler)
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["glue", *(str(argument) for argument in arguments)])
    finally:
        logging.getLogger("nowcast").removeHandler(handler)
    return Said(status, out.getvalue(), err.getvalue(), lines)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read_tsv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """`--data` and `--model` of a user."""
    root = tmp_path_factory.mktemp("glue")
    write_glue(root / "data", "tsv", sizes=(32, 24, 8))
    texts = [line for path in (root / "data").rglob("*.tsv") for line in path.open()]
    write_bert(root / "bert", texts, layers=4)
    return root, ("--data", root / "data", "--model", root / "bert")


@pytest.fixture(scope="module")
def done(places):
    """All tasks and all rows."""
    root, of_user = places
    given = (*of_user, *SMALL, "--tune_tops=[2]", "--tune_deltas=[5]", "--out", root / "out")
    return given, root / "out", glue(*given)


def folder_of(out, row, task, table):
    """Folder of the finetuning that a row shows."""
    how = table["rows"][row]["chosen"][task]
    name = "original" if "top" not in how else f"top{how['top']}_delta{how['delta']:g}"
    return out / "runs" / task / name / f"lr{how['learning_rate']:g}_seed0"


def test_the_table_has_every_row_and_column_beside_the_paper_s(done):
    _, out, said = done
    assert (said.status, said.err) == (0, "")
    assert said.log[1].startswith("5 finetunings of each of MNLI, QQP, QNLI, SST-2, CoLA, STS-B")
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert tuple(table["rows"]) == ROWS
    columns = [name for column in COLUMNS for name in (column, FURTHER.get(column)) if name]
    lines = [re.split(r"  +", line) for line in said.out.splitlines()]
    measured, paper = lines.index(["measured", *columns, "average"]), lines.index(["paper"])
    for start in (measured + 1, paper + 1):
        assert tuple(line[0] for line in lines[start : start + 6]) == ROWS
    for place, row in enumerate(ROWS):
        scores = table["rows"][row]["scores"]
        assert list(scores) == [*columns, "average"]
        assert scores["average"]["mean"] == pytest.approx(
            sum(scores[column]["mean"] for column in COLUMNS) / 9, rel=1e-12
        )
        printed = [f"{100 * scores[column]['mean']:.1f}" for column in scores]
        assert lines[measured + 1 + place][1:] == printed
    assert " ".join(lines[paper + 4]) == "MEmeL 84.8 83.9 71.7 90.9 93.6 54.5 86.6 87.6 66.4 80.0"
    assert "dev sets" in said.out
    assert "Matthews" in said.out
    assert "best of 2 pairs of top and Δ, MEmeL's own among them, on the same dev" in said.out
    assert said.out.splitlines()[0].endswith("/bert on GLUE, 1 epoch, batch 16; percent")
    with (out / "table.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == len(ROWS) * 14
    assert {cell["seed"] for cell in cells} == {"0"}


def test_scores_equal_those_of_scikit_learn_and_scipy_on_the_predictions_left_behind(done):
    _, out, _ = done
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    compared = varied = 0
    for row in ROWS:
        for task in TASKS.values():
            folder = folder_of(out, row, task.name, table)
            for column in task.dev:
                suffix = "_in_testing" if row == "MEmeL-T" else ""
                rows = read_tsv(folder / f"dev_{column}{suffix}.tsv")
                assert len(rows) == 24
                labels, found = ([float(r[name]) for r in rows] for name in ("label", "prediction"))
                if column == "STS-B":
                    expected = {column: spearmanr(labels, found).statistic,
                                FURTHER[column]: pearsonr(labels, found).statistic}  # fmt: skip
                else:
                    expected = {FURTHER.get(column, column): accuracy_score(labels, found)}
                if column in ("QQP", "MRPC"):
                    expected[column] = f1_score(labels, found, zero_division=0)
                if column == "CoLA":
                    expected[column] = matthews_corrcoef(labels, found)
                varied += len(set(found)) > 1
                for name, value in expected.items():
                    score = table["rows"][row]["scores"][name]
                    assert score["mean"] == pytest.approx(value, abs=1e-6), (row, name)
                    assert score["values"] == {"0": score["mean"]}
                    compared += 1
    assert compared == 6 * 13
    assert varied > 6 * 9 / 2  # Else the comparison would say little.


def test_memel_tune_takes_the_best_of_its_grid_and_memel(done):
    _, out, _ = done
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    tried = {(1, 1.0), (2, 5.0)}
    for task in TASKS.values():
        means = {}
        for top, delta in tried:
            name = f"runs/{task.name}/top{top}_delta{delta:g}/lr0.0005_seed0/outcome.json"
            scores = json.loads((out / name).read_text())["outcome"]["scores"]
            means[top, delta] = sum(scores[column] for column in task.dev) / len(task.dev)
        how = table["rows"]["MEmeL-Tune"]["chosen"][task.name]
        assert means[how["top"], how["delta"]] == max(means.values())
        assert table["rows"]["Naive (b)"]["chosen"][task.name]["delta"] == -1


def test_a_submission_holds_the_predictions_of_the_finetunings_that_the_row_shows(done):
    _, out, said = done
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert f"{out / 'submission'}: a zip of test predictions for each row" in said.log[-1]
    for row in ROWS:
        suffix = "_in_testing" if row == "MEmeL-T" else ""
        with zipfile.ZipFile(out / "submission" / f"{row}.zip") as archive:
            for task in TASKS.values():
                folder = folder_of(out, row, task.name, table)
                for stem in task.test:
                    found = archive.read(f"{stem}.tsv")
                    assert found == (folder / f"test_{stem}{suffix}.tsv").read_bytes()
                    assert len(found.splitlines()) == 1 + 8


def test_what_is_done_is_neither_done_again_nor_mixed_with_other_settings(
    done, tmp_path, monkeypatch
):
    given, out, _ = done
    before = contents(out)
    other = shutil.copytree(given[1] / "SST-2", tmp_path / "SST-2") / "test.tsv"
    other.write_text(other.read_text().replace("1\t", "1\tnot ", 1))

    def refuse(*arguments, **settings):
        raise AssertionError("a finetuning was begun")

    monkeypatch.setattr("transformers.Trainer.train", refuse)
    again = glue(*given)
    assert (again.status, again.err) == (0, "")
    assert again.log.count("  done before") == 8 * 5
    for name, content in contents(out).items():
        assert content == before[name] or name.startswith("submission")
    for setting, found in (
        ("--epochs=2", "epochs=1"),
        ("--layers.epsilon=0.5", "layers.epsilon=0.001, now asked for 0.5"),
        ("--test_predictions=false", "test_predictions=of test with SHA-256"),
        (f"--data={tmp_path}", "test_predictions=of test with SHA-256"),
        ("two processes", "processes=1"),
    ):
        if setting == "two processes":
            monkeypatch.setenv("WORLD_SIZE", "2")
            setting = "--seeds=[0]"
        refused = glue(*given, "--tasks=[SST-2]", setting)
        assert refused.status == 2
        assert len(refused.err.splitlines()) == 1
        assert found in refused.err
        assert "--out" in refused.err
    assert contents(out).keys() == before.keys()


def test_of_learning_rates_the_best_mean_over_seeds_is_shown_with_its_spread(places, tmp_path):
    _, of_user = places
    said = glue(*of_user, *SMALL, "--learning_rates=[1e-5, 3e-3]", "--seeds=[3, 7]", "--epochs=2",
                "--rows=[Original]", "--tasks=[SST-2]", "--out", tmp_path)  # fmt: skip
    assert (said.status, said.err) == (0, "")
    tried = {
        rate: [
            json.loads((tmp_path / f"runs/SST-2/original/lr{rate}_seed{seed}/outcome.json")
                       .read_text())["outcome"]["scores"]["SST-2"]
            for seed in (3, 7)
        ]
        for rate in ("1e-05", "0.003")
    }  # fmt: skip
    best = max(tried, key=lambda rate: sum(tried[rate]))
    row = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"]["Original"]
    assert row["chosen"]["SST-2"]["learning_rate"] == float(best)
    score = row["scores"]["SST-2"]
    assert score["values"] == dict(zip("37", tried[best], strict=True))
    low, high = sorted(tried[best])
    assert score["deviation"] == pytest.approx((high - low) / 2**0.5, abs=1e-12)
    assert f"± {100 * score['deviation']:.1f}" in said.out
    assert "average" not in said.out
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [cell["seed"] for cell in csv.DictReader(file)] == ["3", "7"]
    better = 3 if tried[best][0] >= tried[best][1] else 7
    with zipfile.ZipFile(tmp_path / "submission/Original.zip") as archive:
        folder = tmp_path / f"runs/SST-2/original/lr{best}_seed{better}"
        assert archive.read("SST-2.tsv") == (folder / "test_SST-2.tsv").read_bytes()


@pytest.fixture
def networks(monkeypatch):
    """Every network that is finetuned, in their order."""
    opened = []
    open_network = bert.open_network

    def keep(*arguments):
        opened.append(open_network(*arguments))
        return opened[-1]

    monkeypatch.setattr(bert, "open_network", keep)
    return opened


STOPS = (("on_step_begin", 4, 4), ("on_step_begin", 7, 6), ("on_prediction_step", 8, 8))
"""What Trainer is at, after which step, and the last checkpoint."""


def test_an_interrupted_finetuning_goes_on_as_if_nothing_had_been(
    places, tmp_path, monkeypatch, networks
):
    """Stopped after the first epoch, within the second, and while the dev set is predicted."""
    _, of_user = places
    given = (*of_user, *SMALL, "--epochs=2", "--batch_size=8", "--rows=[MEmeL, MEmeL-T]",
             "--tasks=[RTE]", "--checkpoint_every=3")  # fmt: skip
    run = "runs/RTE/top1_delta1/lr0.0005_seed0"
    assert glue(*given, "--out", tmp_path / "whole").status == 0
    whole = contents(tmp_path / "whole" / run)
    assert not any("checkpoint" in name for name in whole)

    loads = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: loads.append(k) or load(*a, **k))
    for event, at, saved in STOPS:

        def stop(self, args, state, control, at=at, **kwargs):
            if state.global_step == at:
                os.kill(os.getpid(), signal.SIGTERM)

        out = tmp_path / f"stopped after {at} steps"
        with monkeypatch.context() as interrupting:
            interrupting.setattr(trainer.Progress, event, stop)
            stopped = glue(*given, "--out", out)
        assert stopped.status == 130
        assert stopped.out == ""
        assert stopped.err == "interrupted; the same command goes on from what it has saved\n"
        assert [p.name for p in (out / run).glob("checkpoint-*")] == [f"checkpoint-{saved}"]
        assert not (out / "table.json").exists()
        (out / run / "checkpoint-9").mkdir()  # As a stop while it is written leaves one.

        other = glue(*given, "--out", out, "--layers.late_start=0.3")
        assert other.status == 2
        assert "layers.late_start=" in other.err
        loads.clear()
        again = glue(*given, "--out", out)
        assert again.status == 0, again.err
        assert f"going on from {out / run / f'checkpoint-{saved}'}" in again.log
        assert loads
        assert all(load["weights_only"] for load in loads)
        expected, found = networks[0].state_dict(), networks[-1].state_dict()
        assert expected.keys() == found.keys()
        assert sum("memel" in name for name in found) == 4 * 4
        for name in expected:
            assert torch.equal(expected[name], found[name]), name
        left = contents(out / run)
        assert left.keys() == whole.keys()
        for name in left:
            if name != "outcome.json":
                assert left[name] == whole[name], name
        outcomes = [json.loads(files["outcome.json"])["outcome"] for files in (whole, left)]
        assert all(outcome.pop("seconds") > 0 for outcome in outcomes)
        assert outcomes[0] == outcomes[1]


def test_as_tasks_finish_the_table_so_far_stands(places, tmp_path, monkeypatch):
    _, of_user = places
    given = (*of_user, *SMALL, "--rows=[Original]", "--tasks=[RTE, SST-2]", "--out", tmp_path,
             "--test_predictions=false")  # fmt: skip
    finetune = bert.finetune

    def stop(run, *rest):
        if run.task == "RTE":
            raise KeyboardInterrupt
        return finetune(run, *rest)

    with monkeypatch.context() as interrupting:
        interrupting.setattr("nowcast.adapters.glue_experiment.finetune", stop)
        assert glue(*given).status == 130
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert list(rows["Original"]["scores"]) == ["SST-2"]
    said = glue(*given)
    assert said.status == 0
    assert said.log.count("  done before") == 1
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert list(rows["Original"]["scores"]) == ["SST-2", "RTE"]
    assert not (tmp_path / "submission").exists()
    assert not list(tmp_path.rglob("test_*"))
    # The networks are gone, and with them what they would predict.
    said = glue(*given, "--test_predictions=true")
    assert said.status == 2
    assert "test_predictions=none, now asked for of test with" in said.err
