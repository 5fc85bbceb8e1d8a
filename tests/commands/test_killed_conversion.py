"""A conversion that is killed at any moment and started again ends in the very same store."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

SCRIPT = Path(__file__).parents[2] / "scripts/prepare_data.py"
SIZE = 120


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed") / "archive"
    rain = SyntheticRain(size=SIZE)
    write_archive(root, rain, train_days=6, valid_days=1, test_days=0, hours_per_day=24)
    return root


def start(archive, out):
    return subprocess.Popen(
        [
            *(sys.executable, SCRIPT, "hko7", f"--root={archive}", f"--out={out}"),
            *(f"--size={SIZE}", "--downsample_to=60", "--workers=2", "--overwrite=true"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def complete(archive, out):
    """Convert without interruption: seconds that it takes and hash of the store."""
    started = time.monotonic()
    running = start(archive, out)
    _, said = running.communicate()
    assert running.returncode == 0, said
    return time.monotonic() - started, hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_a_conversion_killed_at_random_moments_ends_in_an_identical_store(archive, tmp_path, kills):
    seconds, expected = complete(archive, tmp_path / "whole.h5")
    older = b"a store that stood there before"
    # One moment in each of as many equal parts, so that every phase of the work is hit.
    moments = (np.arange(kills) + np.random.default_rng().random(kills)) / kills * seconds
    for number, moment in enumerate(moments):
        out = tmp_path / str(number) / "rain.h5"
        out.parent.mkdir()
        out.write_bytes(older)
        running = start(archive, out)
        time.sleep(moment)
        # All at once, as in a power cut, and the parent alone, as when memory runs out.
        (os.killpg if number % 2 else os.kill)(running.pid, signal.SIGKILL)
        running.communicate()
        left = out.read_bytes()
        assert left == older or hashlib.sha256(left).hexdigest() == expected, moment
        assert complete(archive, out)[1] == expected, moment
        assert [path.name for path in out.parent.iterdir()] == ["rain.h5"], moment


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 0.9])
def test_ctrl_c_while_workers_start_is_one_line(archive, tmp_path, seconds):
    running = start(archive, tmp_path / "rain.h5")
    searched = running.stderr.readline()
    assert searched.startswith("Searching")
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)  # As a terminal does: the workers get it, too.
    _, said = running.communicate()
    assert running.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted; the same command goes on from what it has saved"
    assert "Traceback" not in said
    assert not (tmp_path / "rain.h5").exists()
