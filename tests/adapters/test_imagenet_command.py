"""`nowcast imagenet finetune` as a user runs it: every row of Table 2 on images it can learn."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import made_up_images
import numpy as np
import pytest
import timm
import torch
from made_up_images import SYNSETS
from safetensors.torch import load_file
from sklearn.metrics import top_k_accuracy_score

from nowcast.adapters.augmentation import View
from nowcast.adapters.imagenet import open_images, val_loader
from nowcast.adapters.rows import ROWS, LayerSettings
from nowcast.adapters.swin import insert
from nowcast.commands import main
from nowcast.memel.variants import Inhibition

ROOT = Path(__file__).resolve().parents[2]

NAME = "swin_tiny_patch4_window7_224"
CONFIG = {"img_size": 32, "window_size": 4, "embed_dim": 12, "depths": [1, 1, 3, 1],
          "num_heads": [1, 2, 2, 4]}  # fmt: skip
TINY = ["--models", f"[{NAME}]", "--weights", "none", "--model_settings", json.dumps(CONFIG),
        "--precision", "32-true", "--workers", "0", "--accelerator", "cpu",
        "--learning_rates", "[0.1]", "--batch_size", "14"]  # fmt: skip
QUICK = ["--epochs", "2", "--warmup_epochs", "1", "--auto_augment", "null", "--color_jitter", "0",
         "--erasing", "0", "--mixup", "0", "--cutmix", "0", "--drop_path", "0",
         "--label_smoothing", "0", "--tune_tops", "[1, 4]", "--tune_deltas", "[1.0]"]  # fmt: skip


def imagenet(*arguments):
    """Run the command; returns status and what stands in the terminal."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(["imagenet", *map(str, arguments)])
        except SystemExit as exit_:
            status = exit_.code
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_up_images.write_imagenet(tmp_path_factory.mktemp("imagenet"), 18, 6)


@pytest.fixture(scope="module")
def table(data, tmp_path_factory):
    """Every row, once; returns the folder and the status and text of the command."""
    out = tmp_path_factory.mktemp("runs") / "imagenet"
    return out, imagenet("finetune", "--data", data, "--out", out, *TINY, *QUICK)


def finetunings(out):
    """Folders of the finetunings, and what stands in their outcome.json."""
    return {path.parent: json.loads(path.read_text()) for path in sorted(out.rglob("outcome.json"))}


def test_every_row_is_there(table):
    out, (status, text, err) = table
    assert (status, err) == (0, "")
    lines = text.splitlines()
    assert lines[0].startswith("Table 2")
    assert lines[2].split() == ["measured", NAME, "top-1", NAME, "top-5"]
    assert [line.split("  ")[0] for line in lines[3:9]] == list(ROWS)
    assert "Trained from initial weights" in text
    assert "42 validation images of 7 classes after the last of 2 epochs; 14 images a step" in text
    assert "on these same validation images: top and Δ of MEmeL-Tune" in text
    assert "Tables 2 and 6" not in text  # Which are of other networks.
    done = finetunings(out)
    names = sorted(folder.parent.name for folder in done)
    assert names == ["original", "top1_delta-1", "top1_delta0", "top1_delta1", "top4_delta1"]
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert list(rows) == list(ROWS)
    scores = {row: {c: s["mean"] for c, s in content["scores"].items()}
              for row, content in rows.items()}  # fmt: skip
    outcomes = {folder.parent.name: content["outcome"] for folder, content in done.items()}
    for row, name in (("Original", "original"), ("Naive (a)", "top1_delta0"),
                      ("Naive (b)", "top1_delta-1"), ("MEmeL", "top1_delta1")):  # fmt: skip
        assert scores[row] == outcomes[name]["scores"]
    assert scores["MEmeL-T"] == outcomes["top1_delta1"]["scores_in_testing"]
    best = max(("top1_delta1", "top4_delta1"), key=lambda n: outcomes[n]["scores"][f"{NAME} top-1"])
    assert scores["MEmeL-Tune"] == outcomes[best]["scores"]
    assert rows["MEmeL-Tune"]["chosen"][NAME]["top"] == int(best[3])


def test_networks_learn_and_rows_differ(table):
    weights = set()
    for folder, content in finetunings(table[0]).items():
        outcome = content["outcome"]
        assert outcome["steps"] == 2 * 9
        assert len(outcome["loss"]) == 2
        assert outcome["loss"][1] < 0.8 * outcome["loss"][0]
        assert outcome["scores"][f"{NAME} top-1"] > 3 / 7
        weights.add((folder / "weights.safetensors").read_bytes())
        assert not (folder / "last.ckpt").exists()
    assert len(weights) == 5


def predictions(path):
    """Labels (image,) and ranking (image, 5) that a finetuning left behind, as numbers."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    number = {synset: n for n, synset in enumerate(SYNSETS)}
    ranks = [[number[row[f"top_{n}"]] for n in range(1, 6)] for row in rows]
    return np.array([number[row["label"]] for row in rows]), np.array(ranks)


def test_scores_are_scikit_learns_on_the_predictions_left_behind(table):
    for folder, content in finetunings(table[0]).items():
        for name, file in (("scores", "val.csv"), ("scores_in_testing", "val_in_testing.csv")):
            found = content["outcome"][name]
            assert bool(found) == (folder / file).exists()
            if not found:
                assert folder.parent.name == "original"
                continue
            labels, ranks = predictions(folder / file)
            assert len(labels) == 42
            votes = np.zeros((42, 7))
            np.put_along_axis(votes, ranks, np.arange(5, 0, -1), 1)
            for k in (1, 5):
                expected = top_k_accuracy_score(labels, votes, k=k)
                assert found[f"{NAME} top-{k}"] == pytest.approx(expected, abs=1e-7)


def test_weights_left_behind_give_the_same_answers_in_timm(table, data):
    """With the layers' statistics, those of MEmeL-T too."""
    folder = table[0] / "runs" / NAME / "top4_delta1" / "lr0.1_seed0"
    model = timm.create_model(NAME, num_classes=7, **CONFIG)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    statistics = load_file(folder / "memel.safetensors")
    images = open_images(data)

    def answers():
        model.eval()
        with torch.inference_mode():
            return torch.cat([model(seen) for seen, *_ in val_loader(images, View(32), 14, 0)])

    outputs = answers()
    labels, ranks = predictions(folder / "val.csv")
    np.testing.assert_array_equal(labels, images.val.labels)
    np.testing.assert_array_equal(outputs.argsort(1, descending=True)[:, :5], ranks)
    layers = insert(model, Inhibition(top=4), LayerSettings(), 18)
    for name, layer in layers.items():
        prefix = f"{name}."
        layer.load_state_dict({key.removeprefix(prefix): value for key, value in statistics.items()
                               if key.startswith(prefix)})  # fmt: skip
        assert int(layer.calls) == 18
        layer.in_evaluation = True
    in_testing = answers()
    assert not torch.allclose(in_testing, outputs)
    _, ranks = predictions(folder / "val_in_testing.csv")
    np.testing.assert_array_equal(in_testing.argsort(1, descending=True)[:, :5], ranks)


def test_what_is_done_is_not_done_again_nor_mixed(table, data):
    out, (_, text, _) = table
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    arguments = ["finetune", "--data", data, "--out", out, *TINY, *QUICK]
    started = time.monotonic()
    assert imagenet(*arguments)[:2] == (0, text)
    assert time.monotonic() - started < 5
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    status, _, err = imagenet(*arguments, "--erasing", "0.5")
    assert status == 2
    assert "outcome.json: was made with augmentation.erasing=" in err


ALL_RANDOM = ["--epochs", "3", "--warmup_epochs", "1", "--drop_path", "0.3", "--rows", "[MEmeL]"]


def test_stopped_and_gone_on_is_as_never_stopped(data, tmp_path):
    """With RandAugment, erasing, mixup, cutmix and drop path; by the bits, statistics included."""
    arguments = ["finetune", "--data", data, *TINY, *ALL_RANDOM]
    assert imagenet(*arguments, "--out", tmp_path / "whole")[0] == 0
    last = tmp_path / "parts" / "runs" / NAME / "top1_delta1" / "lr0.1_seed0" / "last.ckpt"

    def stop_after_an_epoch():
        while not last.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop_after_an_epoch)
    stopping.start()
    status, out, err = imagenet(*arguments, "--out", tmp_path / "parts")
    stopping.join()
    assert (status, out) == (130, "")
    assert err == "stopped in epoch 2; the same command goes on from its start\n"
    assert not (last.parent / "outcome.json").exists()
    status, _, err = imagenet(*arguments, "--out", tmp_path / "parts", "--drop_path", "0.2")
    assert status == 2
    assert "was made with recipe.drop_path=" in err
    assert imagenet(*arguments, "--out", tmp_path / "parts")[0] == 0
    whole, parts = (finetunings(tmp_path / name) for name in ("whole", "parts"))
    for (folder, content), (other, others) in zip(whole.items(), parts.items(), strict=True):
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        for name in names:
            if name != "outcome.json":
                assert (folder / name).read_bytes() == (other / name).read_bytes(), name
        for outcome in (content["outcome"], others["outcome"]):
            assert outcome.pop("seconds") > 0
        assert content == others
    assert {"memel.safetensors", "weights.safetensors", "val.csv"} <= set(names)


def test_tars_train_as_folders_do(table, tmp_path):
    out = table[0]
    for split, prefix, count, seed in (("train", "train", 18, 1), ("val", "val", 6, 2)):
        classes = made_up_images.contents(count, seed, prefix)
        write = made_up_images.write_tar_of_tars if split == "train" else made_up_images.write_tar
        write(tmp_path / f"{split}.tar", classes)
    arguments = ["--data", tmp_path, "--out", tmp_path / "out", *TINY, *QUICK]
    assert imagenet("finetune", *arguments, "--rows", "[Original]")[0] == 0
    there = Path("runs", NAME, "original", "lr0.1_seed0", "weights.safetensors")
    assert (tmp_path / "out" / there).read_bytes() == (out / there).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], "nowhere: found none of train/, ILSVRC2012_img_train/, train.tar"),
        (["--weights", "nowhere.pth"], f"nowhere.pth: found no file, expected weights of {NAME}"),
        (["--weights", "null"], f"timm/{NAME}.ms_in22k: found no such folder, nor a copy of the "
                                "hub's model on this machine; fetch it with --download, or give a "
                                "local one with model.safetensors (--weights)"),
        (["--models", "[swim]", "--weights", "null"], "models: found 'swim', expected a name"),
        (["--models", f"[{NAME}, swim]"], "models: found 'swim', expected a name of timm's"),
        (["--models", f"[{NAME}, {NAME}]"], "expected one or more, each once"),
        (["--models", f"[{NAME}, {NAME}.ms_in22k]", "--weights", "null", "--model_settings", "{}"],
         "expected one or more, each once"),
        (["--learning_rates", "[.nan]"], "learning_rates: found [nan], expected different ones"),
        (["--learning_rates", "[1, 2, 1]"], "learning_rates: found [1.0, 2.0, 1.0], expected"),
        (["--erasing", "2"], "augmentation: found erasing=2.0, expected a probability, 0 to 1"),
        (["--workers", "-1"], "execution: found workers=-1, expected 0 or more"),
        (["--tune_tops", "[1, 193]", "--rows", "[Original, MEmeL-Tune]"],
         "MEmeL: top=193 of 192 activations per sample"),
        (["--model_settings", json.dumps(CONFIG | {"img_size": 96, "window_size": 8})],
         "windows of 8 × 8 in 12 × 12 tokens"),
        (["--model_settings", "{in_chans: 1}"], f"{NAME}: refuses images of 224 × 224 pixels"),
        (["--layers.late_start", "2"], "layers: found late_start=2.0, expected a share"),
        (["--model_settings", "{img_size: [56, 56]}"], "found img_size=[56, 56], expected one"),
        (["--batch_size", "13"], "found batch_size=13, expected an even number"),
        (["--batch_size", "200"], "found 200 on each of 1 devices, expected at most 126 in all"),
        (["--warmup_epochs", "5", "--epochs", "5"], "found warmup_epochs=5 of 5 epochs"),
        (["--layers.at", "[blocks.7]"], "blocks.7"),
        (["--accelerator", "abacus"], "execution: accelerator 'abacus' with 1 devices"),
        (["--learning_rates", "[]"], "learning_rates: found []"),
        (["--model_settings", "{dimension: 3}"], "unexpected keyword argument 'dimension'"),
        (["--model_settings", "{window_size: 0}"], "Window sizes must be positive"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_one_line(data, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    rest = ["--rows", "[Original, MEmeL]", *arguments]
    status, out, err = imagenet("finetune", "--data", data, "--out", "out", *TINY, *rest)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_is_there_after_the_first_network(table, data, tmp_path):
    """The second ends at once, of a damaged file."""
    out, other = tmp_path / "out", "swin_small_patch4_window7_224"
    original = Path("runs", NAME, "original")
    shutil.copytree(table[0] / original, out / original)
    damaged = out / "runs" / other / "original" / "lr0.1_seed0" / "outcome.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    arguments = ["--data", data, "--out", out, *TINY, *QUICK, "--rows", "[Original]"]
    status, _, err = imagenet("finetune", *arguments, "--models", f"[{NAME}, {other}]")
    assert (status, err.count("\n")) == (2, 1)
    assert f"{damaged}: found no outcome" in err
    found = json.loads((out / "table.json").read_text())
    before = json.loads((table[0] / "table.json").read_text())
    assert found["rows"]["Original"] == before["rows"]["Original"]
    assert list(found["settings"]["networks"]) == [NAME, other]
    assert (out / "table.csv").read_text().count("\n") == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_line(tmp_path, workers):
    root = made_up_images.write_imagenet(tmp_path / "data", 2, 1)
    broken = root / "train" / SYNSETS[2] / "train_2001.JPEG"
    broken.write_bytes(broken.read_bytes()[:500])
    arguments = ["--data", root, "--out", tmp_path / "out", *TINY, *QUICK, "--workers", workers]
    status, _, err = imagenet("finetune", *arguments)
    assert status == 2
    assert err.startswith(f"error: {broken}: found no readable image (")
    assert err.count("\n") == 1


@pytest.mark.full
def test_two_processes_train_as_one(data, tmp_path):
    """As many images a step, of which each process has half; differences are of rounding."""
    arguments = [*TINY, *QUICK, "--rows", "[MEmeL, MEmeL-T]", "--layers.late_start", "0.5"]
    command = [sys.executable, ROOT / "scripts" / "imagenet.py", "finetune", "--data", data]
    for name, settings in (("one", []), ("two", ["--devices", "2", "--batch_size", "7"])):
        out = ["--out", tmp_path / name]
        subprocess.run([*command, *out, *arguments, *settings], check=True, timeout=200)
    ((one, content),) = finetunings(tmp_path / "one").items()
    ((two, others),) = finetunings(tmp_path / "two").items()
    np.testing.assert_allclose(others["outcome"]["loss"], content["outcome"]["loss"], rtol=1e-3)
    with (two / "val.csv").open() as file:
        assert len(list(csv.reader(file))) == 43
    first, second = (load_file(folder / "memel.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name.endswith((".calls", ".count")):
            assert torch.equal(second[name], value)
        else:
            torch.testing.assert_close(second[name], value, rtol=0.02, atol=1e-4)
