"""Ctrl-C during training, as a user presses it, and the same command again."""

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch
from as_user import nowcast

STEPS = 60
PRETRAIN = ("pretrain", "--config", "experiment.yaml", "--no_memel", "--run.valid_clips=0",
            f"--optimization.steps={STEPS}", "--run.checkpoint_every=1000")  # fmt: skip


def steps_logged(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["metric"] == "train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_so_in_one_line_and_goes_on(folder, tmp_path, number):
    """Signals reach the whole process group, loader workers too, as a terminal sends them."""
    run = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from nowcast.commands import main; sys.exit(main())",
         *PRETRAIN, "--data.workers=2", "--run.out", run],
        cwd=folder, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while len(steps_logged(run / "metrics.csv")) < 2 and time.monotonic() < deadline:
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        os.killpg(child.pid, number)
        out, err = child.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    done = torch.load(run / "last.ckpt", weights_only=True)["global_step"]
    assert 2 <= done < STEPS
    last_line = err.splitlines()[-1]
    assert last_line == f"stopped after step {done}; the same command goes on from there"
    assert {path.name for path in run.iterdir()} == {
        "last.ckpt", "metrics.csv", "config.yaml", "learning_curve.png"
    }  # fmt: skip

    again = nowcast(*PRETRAIN, "--run.out", run)
    assert again.status == 0, again.err
    assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == STEPS
    assert steps_logged(run / "metrics.csv") == list(range(STEPS))
