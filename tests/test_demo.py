"""The demo, as `make demo` runs it: it forecasts rain that it never saw better than persistence."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_make_demo_beats_persistence_on_unseen_rain_and_its_rain_moves():
    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "runs/demo/forecast.gif" in done.stdout
    scores = json.loads((ROOT / "runs/demo/evaluation/scores.json").read_text())
    network, persistence = (scores["methods"][name]["mean"] for name in ("ConvGRU", "persistence"))
    balanced = [m["balanced_mse"] + m["balanced_mae"] for m in (network, persistence)]
    assert balanced[0] < 0.9 * balanced[1]
    assert network["csi"][0] > 1.1 * persistence["csi"][0]
    assert scores["methods"]["ConvGRU"]["clips"] >= 20

    with Image.open(ROOT / "runs/demo/forecast.gif") as animation:
        assert animation.n_frames == 25
        frames = []
        for index in (7, 23):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")))
    # The right quarter is the network's panel: its rain must not stand still.
    first, last = (frame[:, frame.shape[1] * 3 // 4 :] for frame in frames)
    assert (first != last).any(axis=2).mean() > 0.02
