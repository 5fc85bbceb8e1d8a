"""Calling the commands as a user does, and what they leave: for the tests of this folder."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import yaml

from nowcast.commands import main

ROOT = Path(__file__).resolve().parents[2]

DATA = {"store": "data/rain.h5", "workers": 0, "batch_size": 2}
RUN = {"validate_every": 2, "valid_clips": 2, "checkpoint_every": 2, "log_every": 1,
       "accelerator": "cpu"}  # fmt: skip
EXPERIMENT = {
    "prepare_data": {
        "synthetic": {"root": "data/archive", "size": 60, "train_days": 2, "valid_days": 1,
                      "test_days": 1, "hours_per_day": 4, "seed": 7, "workers": 1},
        "hko7": {"root": "data/archive", "out": "data/rain.h5", "size": 60, "downsample_to": 30,
                 "workers": 1},
    },
    "pretrain": {
        "network": {"hidden": [4, 6, 6], "features": [2, 6, 6], "up_features": [2, 6, 6]},
        "data": DATA,
        "optimization": {"steps": 4, "learning_rate": 1e-3},
        "run": {"out": "runs/pretrain", **RUN},
        "memel": True,
        "inhibition": {"late_start": 3},
    },
    "finetune": {
        "from": "runs/pretrain/last.ckpt",
        "data": DATA,
        "optimization": {"steps": 2, "learning_rate": 1e-3},
        "run": {"out": "runs/finetune", "seed": 1, **RUN},
    },
    "evaluate": {
        "data": DATA,
        "out": "runs/evaluation",
        "checkpoints": {"ConvGRU": "runs/finetune/last.ckpt"},
    },
    "render": {
        "data": DATA,
        "out": "runs/forecast.gif",
        "checkpoints": {"ConvGRU": "runs/finetune/last.ckpt"},
    },
}  # fmt: skip
CHAIN = ("prepare_data synthetic", "prepare_data hko7", "pretrain", "finetune", "evaluate",
         "render")  # fmt: skip


class Outcome(NamedTuple):
    """What a command leaves in the terminal."""

    status: int
    out: str
    err: str


def nowcast(*arguments):
    """Run `nowcast` with these arguments; log lines are not among its `err`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
    return Outcome(status, out.getvalue(), err.getvalue())


def write_experiment(path, experiment=EXPERIMENT):
    path.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    return path


def contents(folder):
    """Every file below a folder with its bytes, hidden ones among them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
