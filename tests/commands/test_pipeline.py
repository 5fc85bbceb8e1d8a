"""The chain from synthetic rain to an animation, through the commands alone."""

import csv
import json
from itertools import pairwise

import h5py
import hdf5plugin  # noqa: F401  (h5py reads LZ4 with it)
import numpy as np
import pytest
import torch
import yaml
from as_user import CHAIN, EXPERIMENT, contents, nowcast, write_experiment
from PIL import Image

from nowcast import memel
from nowcast.models.checkpoint import load
from nowcast.training.inhibition import load_inhibited

LENGTH, INPUTS, STEP_S = 25, 5, 360
CSI_AT_MM_H = (0.5, 2.0, 5.0, 10.0, 30.0)

KEPT = (".h5", ".ckpt", "RAD130101000000.png")
SAID_DONE = {
    "prepare_data hko7": "is already there, made from the same frames",
    "pretrain": "all 4 steps are done",
    "finetune": "all 2 steps are done",
}


def pixel_of(rain_rate_mm_h):
    return (10 * np.log10(58.53) + 15.6 * np.log10(rain_rate_mm_h) + 10) / 70


def clip_starts(times):
    """The benchmark's sequential rule, restated one timestamp at a time."""
    existing, start = set(times.tolist()), int(times[0])
    while start <= times[-1]:
        present = [start + k * STEP_S in existing for k in range(LENGTH)]
        gaps = "".join("x" if there else "." for there in present).split("x")
        if any(present) and max(map(len, gaps)) <= 2:
            yield start
            start += 5 * STEP_S
        else:
            later = [time for time in existing if time > start]
            if not later:
                return
            start = min(later)


def clips_of_split(path, split):
    """Frames in [0, 1] and masks of all clips of a split, read with h5py and its LZ4 plugin."""
    with h5py.File(path, "r", locking=False) as store:
        names = store["sequences/split"].asstr()[:]
        for place in np.flatnonzero(names == split):
            first, count = store["sequences/first"][place], store["sequences/count"][place]
            times = store["times"][first : first + count]
            frames = store["frames"][first : first + count] / 255.0
            packed, width = store["masks"][first : first + count], store.attrs["frame_shape"][1]
            masks = np.unpackbits(packed, axis=-1, count=width).astype(bool)
            row = {int(time): number for number, time in enumerate(times)}
            for start in clip_starts(times):
                rows = [row.get(start + k * STEP_S) for k in range(LENGTH)]
                empty = np.zeros(frames.shape[1:])
                yield (
                    np.stack([empty if r is None else frames[r] for r in rows]),
                    np.stack([empty > 0 if r is None else masks[r] for r in rows]),
                )


@pytest.mark.parametrize("command", CHAIN)
def test_every_command_of_the_chain_ends_well(chain, command):
    said = chain[1][command]
    assert said.status == 0, said.err
    assert said.err == ""
    assert said.out


def test_scores_of_persistence_equal_a_restatement_from_the_stores_bytes(folder):
    clips = list(clips_of_split("data/rain.h5", "test"))
    truth, mask = (np.stack(part)[:, INPUTS:] for part in zip(*clips, strict=True))
    last_seen = np.stack([frames[INPUTS - 1] for frames, _ in clips])[:, None]
    prediction = np.broadcast_to(last_seen, truth.shape)
    weights = np.select([truth >= pixel_of(r) for r in (30, 10, 5, 2)], (30, 10, 5, 2), default=1)
    squared = (weights * (prediction - truth) ** 2 * mask).sum(axis=(2, 3)).mean(axis=0)
    absolute = (weights * np.abs(prediction - truth) * mask).sum(axis=(2, 3)).mean(axis=0)

    report = json.loads((folder / "runs/evaluation/scores.json").read_text())
    scores = report["methods"]["persistence"]
    assert scores["clips"] == len(clips) >= 3
    assert report["lead_minutes"] == [6 * lead for lead in range(1, 21)]
    np.testing.assert_allclose(scores["per_lead"]["balanced_mse"], squared, rtol=1e-5)
    np.testing.assert_allclose(scores["per_lead"]["balanced_mae"], absolute, rtol=1e-5)
    np.testing.assert_allclose(scores["mean"]["balanced_mse"], squared.mean(), rtol=1e-5)
    for number, rate in enumerate(CSI_AT_MM_H):
        forecast, observed = prediction >= pixel_of(rate), truth >= pixel_of(rate)
        hits = (forecast & observed & mask).sum(axis=(0, 2, 3))
        either = ((forecast | observed) & mask).sum(axis=(0, 2, 3))
        assert [row[number] for row in scores["per_lead"]["hits"]] == hits.tolist()
        csi = np.array([row[number] for row in scores["per_lead"]["csi"]], float)
        np.testing.assert_allclose(csi, hits / np.where(either, either, np.nan), rtol=1e-12)
    assert hits.sum() > 0  # At 30 mm/h, the rarest: nothing above was compared empty with empty.


def test_the_csv_holds_what_the_json_holds(folder):
    report = json.loads((folder / "runs/evaluation/scores.json").read_text())
    assert list(report["methods"]) == ["persistence", "optical flow", "ConvGRU"]
    with (folder / "runs/evaluation/scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["score"] == "balanced_mae"]
    for name, scores in report["methods"].items():
        own = [row for row in rows if row["method"] == name and not row["event"]]
        values = [float(row["value"]) for row in own if row["lead_minutes"]]
        assert values == scores["per_lead"]["balanced_mae"]
        [mean] = [float(row["value"]) for row in own if not row["lead_minutes"]]
        assert mean == scores["mean"]["balanced_mae"]


def test_the_animation_shows_all_frames_of_the_clip_and_the_strip_is_a_picture(folder):
    with Image.open("runs/forecast.gif") as animation:
        assert animation.n_frames == LENGTH
        pictures = []
        for number in range(animation.n_frames):
            animation.seek(number)
            pictures.append(np.asarray(animation.convert("RGB")))
    assert all((a != b).any() for a, b in pairwise(pictures))
    for picture in ("runs/forecast.png", "runs/evaluation/scores.png",
                    "runs/pretrain/learning_curve.png"):  # fmt: skip
        with Image.open(picture) as image:
            image.load()
            assert min(image.size) > 100


def test_a_runs_config_repeats_it_to_the_same_weights(folder, tmp_path):
    for run in ("pretrain", "finetune"):
        again = tmp_path / run
        config = folder / "runs" / run / "config.yaml"
        said = nowcast(run, "--config", config, "--run.out", again)
        assert said.status == 0, said.err
        first, second = (
            torch.load(path, weights_only=True)["state_dict"]
            for path in (folder / "runs" / run / "last.ckpt", again / "last.ckpt")
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_finetuning_without_memel_takes_its_layers_out(folder):
    pretrained, finetuned = (
        torch.load(f"runs/{run}/last.ckpt", weights_only=True)["state_dict"]
        for run in ("pretrain", "finetune")
    )
    assert {name for name in pretrained if ".memel." in name}
    assert finetuned.keys() == {name for name in pretrained if ".memel." not in name}


def contents_without_commit(folder):
    """Reports name the commit they are made with; it may change while the tests run."""
    found = contents(folder)
    report = json.loads(found.pop("runs/evaluation/scores.json"))
    return found | {"scores": report | {"commit": None}}


@pytest.mark.parametrize("command", CHAIN)
def test_a_command_given_again_changes_no_byte(folder, command, caplog):
    before = contents_without_commit(folder)
    times = {name: (folder / name).stat().st_mtime_ns for name in before if name.endswith(KEPT)}
    said = nowcast(*command.split(), "--config", "experiment.yaml")
    assert said.status == 0, said.err
    assert contents_without_commit(folder) == before
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    if command in SAID_DONE:
        assert SAID_DONE[command] in caplog.text


def test_more_steps_than_a_run_has_continue_it(folder, tmp_path):
    first = ("pretrain", "--config", "experiment.yaml", "--run.out", tmp_path / "run")
    assert nowcast(*first, "--optimization.steps=1").status == 0
    assert nowcast(*first, "--optimization.steps=2").status == 0
    with (tmp_path / "run/metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["metric"] == "train_loss"]
    assert steps == ["0", "1"]
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["pretrain"]["optimization"]["steps"] == 2


def test_paths_with_spaces_in_new_folders_from_another_directory(folder, tmp_path, monkeypatch):
    elsewhere = tmp_path / "working here"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said = nowcast(
        "evaluate",
        f"--data.store={folder}/data/rain.h5",
        "--data.workers=0",
        "--out=new/a b/c",
        f"--checkpoints.My net={folder}/runs/finetune/last.ckpt",
        "--baselines=[persistence]",
        "--at_most=1",
    )
    assert said.status == 0, said.err
    report = json.loads((elsewhere / "new/a b/c/scores.json").read_text())
    assert list(report["methods"]) == ["persistence", "My net"]
    assert report["methods"]["My net"]["clips"] == 1
    said = nowcast(
        "render", f"--data.store={folder}/data/rain.h5", "--out=../up here/a b.gif",
        "--baselines=[persistence]", "--start=2013-01-07T01:30+01:00",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert {path.name for path in (tmp_path / "up here").iterdir()} == {"a b.gif", "a b.png"}


def test_worker_processes_change_no_score(folder, tmp_path):
    wanted = ("evaluate", "--config", "experiment.yaml", "--out", tmp_path, "--data.workers=1")
    assert nowcast(*wanted).status == 0
    here, there = (
        json.loads((place / "scores.json").read_text())["methods"]
        for place in (folder / "runs/evaluation", tmp_path)
    )
    assert here == there


def test_a_listed_day_without_frames_is_reported_and_not_refused(folder, tmp_path, caplog):
    rain = EXPERIMENT["prepare_data"]["synthetic"] | {
        "root": str(tmp_path / "archive"), "train_days": 1, "valid_days": 0, "test_days": 0,
        "hours_per_day": 0.5,
    }  # fmt: skip
    store = {"root": str(tmp_path / "archive"), "out": str(tmp_path / "rain.h5"), "size": 60,
             "downsample_to": 30, "workers": 1}  # fmt: skip
    config = write_experiment(
        tmp_path / "e.yaml", {"prepare_data": {"synthetic": rain, "hko7": store}}
    )
    assert nowcast("prepare_data", "synthetic", "--config", config).status == 0
    with (tmp_path / "archive/hko7_rainy_train_days.txt").open("a") as file:
        file.write("20130203, 3.00\n")
    said = nowcast("prepare_data", "hko7", "--config", config)
    assert said.status == 0, said.err
    assert "1 of 2 days without any" in said.out
    assert "1 of 2 train days have no frame: 2013-02-03" in caplog.text
    with h5py.File(tmp_path / "rain.h5") as file:
        assert 0 < len(file["times"]) <= 5


def test_networks_can_be_scored_with_their_memel_layers_on(folder, tmp_path):
    run = folder / "runs/pretrain/last.ckpt"
    options = ("--config", folder / "experiment.yaml", "--out", tmp_path / "on", "--baselines=[]",
               "--at_most=4")  # fmt: skip
    pretrained = ("--checkpoints", f'{{"A": "{run}"}}')
    said = nowcast("evaluate", *options, *pretrained, "--memel_in_testing=true")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "on/scores.json").read_text())
    assert list(report["methods"]) == ["A", "A-T"]
    off, on = (report["methods"][name]["per_lead"]["mse"] for name in ("A", "A-T"))
    np.testing.assert_allclose(off, on, rtol=0.2)
    assert off != on
    # What the layers do in testing, restated: the network with its statistics as they are.
    trained = load_inhibited(run)
    layers = memel.inserted(trained.network)
    before = {name: layer.mean.clone() for name, layer in layers.items()}
    frames = torch.rand(2, 5, 1, 30, 30, generator=torch.Generator().manual_seed(0))
    forecast = trained.forecast(frames, 20)
    assert not torch.equal(forecast, load(run).forecast(frames, 20))
    assert all(torch.equal(layer.mean, before[name]) for name, layer in layers.items())
    # The network that was finetuned without them has none.
    said = nowcast("evaluate", "--config", folder / "experiment.yaml", "--out", tmp_path / "off",
                   "--memel_in_testing=true")  # fmt: skip
    assert said.status == 2
    assert "found no checkpoint with MEmeL layers" in said.err
    assert not (tmp_path / "off").exists()


def test_networks_can_be_scored_as_ensembles_of_perturbed_inputs(folder, tmp_path):
    run = folder / "runs/pretrain/last.ckpt"
    options = ("--config", folder / "experiment.yaml", "--baselines=[]", "--at_most=4",
               "--members=3", "--perturbed_inputs=true")  # fmt: skip
    pretrained = ("--checkpoints", f'{{"A": "{run}"}}')
    said = nowcast("evaluate", *options, *pretrained, "--out", tmp_path / "first")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "first/scores.json").read_text())
    assert list(report["methods"]) == ["A", "A ensemble"]
    ensemble = report["methods"]["A ensemble"]["per_lead"]
    assert len(ensemble["crps_mm_h"]) == 20
    assert min(ensemble["spread_skill_ratio"]) > 0
    # The seed decides, and it is the evaluation's own.
    for name, seed in (("again", 0), ("other", 1)):
        said = nowcast("evaluate", *options, *pretrained, "--out", tmp_path / name,
                       f"--ensemble_seed={seed}")  # fmt: skip
        assert said.status == 0, said.err
        found = json.loads((tmp_path / name / "scores.json").read_text())["methods"]["A ensemble"]
        assert (found["per_lead"]["crps_mm_h"] == ensemble["crps_mm_h"]) == (name == "again")
