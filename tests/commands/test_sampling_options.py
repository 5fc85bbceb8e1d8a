"""`--sampling.…` of pretraining and finetuning, as a user gives it."""

import pytest
import yaml
from as_user import nowcast

from nowcast.models.checkpoint import read_checkpoint

CONFIG = ("--config", "experiment.yaml")


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_sampling_is_explained_and_off_by_default(folder, command):
    said = " ".join(nowcast(command, "--help").out.split())
    assert "--sampling.rain_share RAIN_SHARE share of the clips that is drawn in prop" in said
    assert "--sampling.crop CROP side in pixels of the square that is cut from a clip" in said
    printed = yaml.safe_load(nowcast(command, *CONFIG, "--print_config").out)[command]
    assert printed["sampling"] == {
        "rain_share": 0.0, "flips": False, "quarter_turns": False, "crop": None,
        "reversals": False, "rain_factor": 1.0,
    }  # fmt: skip
    assert printed["data"]["in_memory"] is False


def test_sampling_reaches_both_trainings_and_is_part_of_the_run(folder, tmp_path):
    given = (
        "--sampling.rain_share=0.5", "--sampling.flips=true", "--sampling.crop=30",
        "--sampling.reversals=true", "--sampling.rain_factor=1.5",
    )  # fmt: skip
    first = tmp_path / "pretrain"
    network = "--network.coordinates=false"
    said = nowcast("pretrain", *CONFIG, *given, network, "--run.out", first)
    assert said.status == 0, said.err
    tuned = tmp_path / "finetune"
    said = nowcast("finetune", *CONFIG, "--from", first / "last.ckpt", *given, "--run.out", tuned)
    assert said.status == 0, said.err
    for out in (first, tuned):
        assert read_checkpoint(out / "last.ckpt")[0].run["sampling"] == {
            "rain_share": 0.5, "flips": True, "quarter_turns": False, "crop": 30,
            "reversals": True, "rain_factor": 1.5,
        }  # fmt: skip
    said = nowcast("pretrain", *CONFIG, network, "--run.out", first)
    assert said.status == 2
    assert "run.sampling.crop = 30, asked for None" in said.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--sampling.rain_share=1", "rain_share is 1.0, expected at least 0 and less than 1"),
        ("--sampling.crop=30", "crop is 30 for a network with coordinate channels"),
        ("--sampling.rain_factor=0", "rain_factor is 0.0, expected 1 to 10"),
        ("--sampling.crop=60", "frames are 30 × 30, expected at least the 60 × 60"),
    ],
)
def test_sampling_that_cannot_be_is_refused_in_one_line(folder, tmp_path, option, said):
    refused = nowcast("pretrain", *CONFIG, option, "--run.out", tmp_path / "x")
    assert refused.status == 2
    assert len(refused.err.splitlines()) == 1
    assert refused.err.startswith("error: ")
    assert said in refused.err
    assert not (tmp_path / "x").exists()
