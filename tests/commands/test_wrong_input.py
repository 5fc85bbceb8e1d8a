"""A wrong input ends every command with one line that names it, and leaves everything as it was."""

import shutil
import zipfile

import cv2
import h5py
import numpy as np
import pytest
import torch
from as_user import EXPERIMENT, contents, nowcast, write_experiment

CONFIG = ("--config", "experiment.yaml")


def refused(said, *names):
    assert said.status == 2, said
    assert said.out == ""
    assert said.err.startswith("error: "), said.err
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    for name in names:
        assert str(name) in said.err


@pytest.fixture
def untouched(folder):
    """The user's folder; that nothing in it has changed is checked afterwards."""
    before = contents(folder)
    yield folder
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluate:\n  splitt: test\n", "'splitt' is not accepted"),
        ("evaluate:\n  data: {stor: x}\n", "Group 'data' does not accept option 'stor'"),
        ("evaluat:\n  split: test\n", "found unknown section 'evaluat', expected prepare_data"),
        ("render: {}\n", "found no section 'evaluate'"),
        ("evaluate:\n", "found nothing in section 'evaluate', expected settings"),
        ("evaluate: [1]\n", "found a list in section 'evaluate', expected settings"),
        ("", "found nothing, expected sections"),
        ("some words\n", "found a str, expected sections"),
        ("evaluate: [1, 2", "found no readable YAML"),
        ("evaluate:\n\tsplit: x", "found no readable YAML"),
        ("evaluate:\n  data: {step_minutes: six}\n", "step_minutes"),
        ("evaluate:\n  stride: 2.5\n", "stride"),
    ],
)
def test_wrong_configurations_are_named(untouched, tmp_path, text, expected):
    config = tmp_path / "wrong.yaml"
    config.write_text(text)
    refused(nowcast("evaluate", "--config", config), f"error: {config}: ", expected)


def test_a_configuration_that_is_not_there_or_not_text_is_named(untouched, tmp_path):
    refused(nowcast("evaluate", "--config", "no.yaml"), "no.yaml: found no file, expected")
    refused(nowcast("evaluate", "--config", tmp_path), f"{tmp_path}: found no readable YAML")
    refused(nowcast("evaluate", "--config", "data/rain.h5"), "data/rain.h5: found no readable")


def test_a_configuration_constructs_no_python_object(untouched, tmp_path):
    sign = tmp_path / "was here"
    config = tmp_path / "hostile.yaml"
    config.write_text(
        f"pretrain:\n  run: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:"
        f"pathlib.Path ['{sign}']]\n"
    )
    refused(nowcast("pretrain", "--config", config), f"{config}: found no readable YAML")
    assert not sign.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "found no command 'nonsense', expected prepare_data, pretrain"),
        (["prepare_data", "zarr"], "found no source 'zarr', expected hko7, events, synthetic"),
        (["evaluate"], "data.store, out"),
        (["evaluate", *CONFIG, "--splitt=test"], "--splitt"),
        (["evaluate", *CONFIG, "--split=nowhere"], "data/rain.h5: no split 'nowhere', found: test"),
        (["evaluate", *CONFIG, "--baselines=[optical]"], "Got value: optical"),
        (
            ["evaluate", *CONFIG, "--baselines=[]", "--checkpoints={}"],
            "found no baseline,",
        ),
        (["evaluate", *CONFIG, "--stride=0"], "stride: found 0"),
        (["evaluate", *CONFIG, "--thresholds_mm_h=[5, 2]"], "found (5.0, 2.0)"),
        (["evaluate", *CONFIG, "--device=abacus"], "device: found 'abacus'"),
        (["evaluate", *CONFIG, "--data.lead_times=100"], "found no clip of 105 frames"),
        (["evaluate", *CONFIG, "--data.store=none.h5"], "none.h5: no such file"),
        (
            ["evaluate", *CONFIG, "--data.step_minutes=5"],
            "found frames every 6 minutes, expected 5",
        ),
        (
            ["pretrain", *CONFIG, "--data.step_minutes=5"],
            "found frames every 6 minutes, expected 5",
        ),
        (
            ["evaluate", *CONFIG, "--data.step_minutes=12", "--data.subsample=true"],
            "last.ckpt: trained on steps of 6 minutes, the data is asked for at 12",
        ),
        (
            ["evaluate", *CONFIG, "--checkpoints.persistence=runs/finetune/last.ckpt"],
            "methods: found the name 'persistence' twice",
        ),
        (["pretrain", *CONFIG, "--optimization.steps=-1"], "steps is -1, expected"),
        (["pretrain", *CONFIG, "--inhibition.at=[]"], "inhibition.at: found no module"),
        (["pretrain", *CONFIG, "--inhibition.at=[decoder]"], "'decoder'"),
        (["finetune", *CONFIG, "--from=none.ckpt"], "none.ckpt: found no file, expected a check"),
        (["finetune", *CONFIG, "--from=runs"], "runs: found no file, expected a checkpoint"),
        (["render", *CONFIG, "--start=yesterday"], "start: found 'yesterday', expected a time"),
        (["render", *CONFIG, "--start=NaT"], "start: found 'NaT', expected a time"),
        (
            ["render", *CONFIG, "--start=2010-01-01T00:00"],
            "found no valid clip of any sequence at 2010-01-01T00:00:00; there are",
        ),
        (["render", *CONFIG, "--sequence=moon"], "found no valid clip of moon at any time"),
        (["render", *CONFIG, "--frames_per_second=0"], "frames per second: found 0.0"),
        (["render", *CONFIG, "--out=experiment.yaml"], "experiment.yaml: found no .gif"),
        (["prepare_data", "synthetic", *CONFIG, "--seed=8"], "found seed=7, expected 8"),
        (["prepare_data", "synthetic", *CONFIG, "--train_days=-1"], "none negative"),
        (["prepare_data", "synthetic", *CONFIG, "--root=runs"], "runs: found other files"),
        (
            ["prepare_data", "hko7", *CONFIG, "--root=runs"],
            "runs: found no frame in it, expected radarPNG",
        ),
        (["prepare_data", "hko7", *CONFIG, "--downsample_to=50"], "found 50, expected a divisor"),
        (
            ["prepare_data", "hko7", *CONFIG, "--out=experiment.yaml"],
            "experiment.yaml: found a file that is no frame store",
        ),
    ],
)
def test_wrong_arguments_are_named(untouched, arguments, expected):
    refused(nowcast(*arguments), expected)


def test_finetuning_without_a_checkpoint_asks_for_it(untouched, tmp_path):
    section = {name: value for name, value in EXPERIMENT["finetune"].items() if name != "from"}
    config = write_experiment(tmp_path / "e.yaml", {"finetune": section})
    refused(nowcast("finetune", "--config", config), "required", "from")


@pytest.mark.parametrize(
    ("command", "option", "kind"),
    [
        ("prepare_data synthetic", "root", "folder"),
        ("prepare_data hko7", "out", "file"),
        ("pretrain", "run.out", "folder"),
        ("finetune", "run.out", "folder"),
        ("evaluate", "out", "folder"),
        ("render", "out", "file"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(
    untouched, tmp_path, command, option, kind
):
    (tmp_path / "file").touch()
    (tmp_path / "folder.gif").mkdir()
    before = contents(tmp_path)
    place = tmp_path / ("file" if kind == "folder" else "folder.gif")
    found = "found a file" if kind == "folder" else "found a folder"
    arguments = (*command.split(), *CONFIG)
    refused(nowcast(*arguments, f"--{option}", place), f"{place}: {found}")
    inside = tmp_path / "file" / "deep.gif"
    refused(nowcast(*arguments, f"--{option}", inside), f"{inside}: found a file at")
    assert contents(tmp_path) == before


def test_a_run_of_other_settings_keeps_its_record(untouched):
    said = nowcast("pretrain", *CONFIG, "--run.out=runs/finetune")
    refused(said, "runs/finetune/last.ckpt: found a run with")
    said = nowcast("pretrain", *CONFIG, "--optimization.learning_rate=0.5")
    refused(said, "runs/pretrain/last.ckpt: found a run with", "learning_rate = 0.001", "0.5")


def text_file(good, bad):
    bad.write_text("no checkpoint\n")


def truncated(good, bad):
    bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def empty(good, bad):
    bad.touch()


def archive_of_text(good, bad):
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr("readme.txt", "no checkpoint")


def other_weights(good, bad):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, bad)


@pytest.mark.parametrize("spoil", [text_file, truncated, empty, archive_of_text, other_weights])
def test_what_is_no_checkpoint_is_refused_wherever_one_is_expected(untouched, tmp_path, spoil):
    bad = tmp_path / "bad.ckpt"
    spoil(untouched / "runs/finetune/last.ckpt", bad)
    place = tmp_path / "out"
    for arguments in (
        ("finetune", *CONFIG, "--from", bad, "--run.out", place),
        ("evaluate", *CONFIG, "--checkpoints.Net", bad, "--out", place),
        ("render", *CONFIG, "--checkpoints.Net", bad, "--out", place / "x.gif"),
    ):
        refused(nowcast(*arguments), f"error: {bad}: found")
    assert not place.exists()


def test_a_store_that_is_cut_in_half_is_refused_wherever_one_is_expected(untouched, tmp_path):
    bad = tmp_path / "bad.h5"
    truncated(untouched / "data/rain.h5", bad)
    place = tmp_path / "out"
    for arguments in (
        ("pretrain", *CONFIG, "--data.store", bad, "--run.out", place),
        ("finetune", *CONFIG, "--data.store", bad, "--run.out", place),
        ("evaluate", *CONFIG, "--data.store", bad, "--out", place),
        ("render", *CONFIG, "--data.store", bad, "--out", place / "x.gif"),
    ):
        refused(nowcast(*arguments), f"error: {bad}: ")
    assert not place.exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_frames_that_cannot_be_decoded_are_one_line_from_worker_processes_too(
    untouched, tmp_path, workers
):
    bad = tmp_path / "bad.h5"
    shutil.copy(untouched / "data/rain.h5", bad)
    with h5py.File(bad) as store:
        frames = store["frames"].id
        chunks = [frames.get_chunk_info(number) for number in range(frames.get_num_chunks())]
    with bad.open("r+b") as file:
        for chunk in chunks:
            file.seek(chunk.byte_offset + 2)
            file.write(b"\xff" * 8)
    place = tmp_path / "out"
    said = nowcast("evaluate", *CONFIG, "--data.store", bad, "--out", place,
                   f"--data.workers={workers}")  # fmt: skip
    refused(said, f"error: {bad}: damaged, frames from 2013-01-07")
    assert "Traceback" not in said.err
    assert not place.exists()


def test_frames_that_do_not_fit_a_trained_network_are_refused_before_it_runs(untouched, tmp_path):
    store = tmp_path / "crop.h5"
    said = nowcast("prepare_data", "hko7", *CONFIG, "--crop_to=20", "--downsample_to=20",
                   "--out", store)  # fmt: skip
    assert said.status == 0, said.err
    place = tmp_path / "out"
    for arguments in (
        ("evaluate", *CONFIG, "--data.store", store, "--out", place),
        ("render", *CONFIG, "--data.store", store, "--out", place / "x.gif"),
    ):
        refused(nowcast(*arguments), f"{store}: frames are 20 × 20", "coordinate channels of (30,")
    assert not place.exists()


def other_size(archive):
    path = sorted(archive.rglob("*.png"))[3]
    cv2.imwrite(str(path), np.zeros((40, 40), np.uint8))
    return path, ("40 × 40", "60 × 60")


def truncated_mask(archive):
    path = sorted(archive.rglob("*.mask"))[3]
    path.write_bytes(path.read_bytes()[:-9])
    return path, ("truncated", "3600")


def malformed_list(archive):
    path = archive / "hko7_rainy_train_days.txt"
    path.write_text("20130101; 3.2\n")
    return path, ("line 1", "20130101; 3.2", "expected 'YYYYMMDD, daily rainfall in mm'")


def no_such_day(archive):
    path = archive / "hko7_rainy_test_days.txt"
    path.write_text("20130231, 3.2\n")
    return path, ("line 1", "20130231", "expected a day of the calendar")


@pytest.mark.parametrize("spoil", [other_size, truncated_mask, malformed_list, no_such_day])
def test_a_spoilt_archive_is_refused_and_leaves_no_store(untouched, tmp_path, spoil):
    archive = tmp_path / "archive"
    shutil.copytree(untouched / "data/archive", archive)
    path, expected = spoil(archive)
    store = tmp_path / "rain.h5"
    said = nowcast("prepare_data", "hko7", *CONFIG, "--root", archive, "--out", store)
    refused(said, f"error: {path}: ", *expected)
    assert not store.exists()
    assert not list(tmp_path.rglob("*.partial*"))
