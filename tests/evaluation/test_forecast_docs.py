"""What docs/verification.md says of others' forecasts works as it stands there."""

import re
from pathlib import Path

import numpy as np
import torch

from nowcast.evaluation.methods import MethodSettings
from nowcast.models.optical_flow import OpticalFlow
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_writing import write_store
from nowcast.training.clips import SequentialClips
from nowcast.training.data import BatchesToScore, DataSettings
from nowcast.verification.running import forecast_members

DOCS = Path(__file__).resolve().parents[2] / "docs/verification.md"
SIDE = 48
START = np.datetime64("2020-06-01T00:00", "s")


class Shower:
    """A shower that drifts, another way at each of the places."""

    def __call__(self, references):
        y, x = np.mgrid[:SIDE, :SIDE]
        frames = [
            160 * np.exp(-((x - 12 - 0.5 * step) ** 2 + (y - 16 - 8 * place) ** 2) / 60)
            for place, step in references
        ]
        return np.stack(frames).astype(np.uint8), np.ones((len(frames), SIDE, SIDE), bool)


def test_forecasts_made_as_described_are_those_of_the_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/forecasts").mkdir(parents=True)
    times = START + np.arange(30) * np.timedelta64(360, "s")
    write_store(
        tmp_path / "data/mine.h5",
        [Sequence(f"shower:{place},0", "test", times, {}) for place in range(2)],
        [(place, step) for place in range(2) for step in range(30)],
        Shower(),
        frame_shape=(SIDE, SIDE), step_minutes=6, preparation={}, fingerprint="x", workers=1,
    )  # fmt: skip
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(snippet, str(DOCS), "exec"), {})
    assert len(list((tmp_path / "data/forecasts").glob("*.nc"))) == 4
    data = DataSettings(tmp_path / "data/mine.h5")
    theirs = MethodSettings((), forecasts={"theirs": tmp_path / "data/forecasts"}).open(
        data, "test"
    )
    clips = SequentialClips(FrameStore(data.store), "test", 25)
    for cases in BatchesToScore(clips, data):
        found = forecast_members(
            "theirs", theirs["theirs"], cases.inputs, cases.places, cases.issue_times, 20
        )
        ours = OpticalFlow().forecast(cases.inputs, 20)
        assert (ours > 0.3).any()
        torch.testing.assert_close(found[:, 0], ours, rtol=0, atol=1e-5)
