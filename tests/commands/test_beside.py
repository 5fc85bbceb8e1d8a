"""Evaluations side by side, and steps that an animation cannot show, through the commands."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from as_user import nowcast

from nowcast.radar.store import Sequence
from nowcast.radar.store_writing import write_store

CLIPS = ("--data.input_frames=2", "--data.lead_times=3", "--data.workers=0",
         "--baselines=[persistence]")  # fmt: skip


class Rain:
    """Noise that follows from the frames' numbers alone."""

    def __call__(self, numbers):
        frames = [np.random.default_rng(n).integers(0, 255, (24, 24), np.uint8) for n in numbers]
        return np.stack(frames), np.ones((len(numbers), 24, 24), bool)


def made_up(path, step_seconds, fingerprint="abc"):
    times = np.datetime64("2015-05-23T00:00", "s") + np.arange(20) * step_seconds
    write_store(
        path, [Sequence("over here", "test", times, {})], list(range(20)), Rain(),
        frame_shape=(24, 24), step_minutes=step_seconds / 60, preparation={},
        fingerprint=fingerprint, workers=1,
    )  # fmt: skip
    return path


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made_up(tmp_path / "rain.h5", 360)


def test_what_was_scored_is_recorded_so_that_it_can_be_told_apart(store, chain, tmp_path):
    checkpoint = chain[0] / "runs/finetune/last.ckpt"
    said = nowcast(
        "evaluate", f"--data.store={chain[0]}/data/rain.h5", "--data.workers=0", "--out=scores",
        "--at_most=1", "--stride=3", "--baselines=[]", f"--checkpoints.Net={checkpoint}",
    )  # fmt: skip
    assert said.status == 0, said.err
    settings = json.loads((tmp_path / "scores/scores.json").read_text())["settings"]
    assert settings["checkpoints"] == {
        "Net": {
            "file": "finetune/last.ckpt",
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12],
        }
    }
    kept = ("store", "frame_shape", "stride", "at_most", "input_frames")
    assert [settings[name] for name in kept] == ["rain.h5", [30, 30], 3, 1, 5]
    assert len(settings["fingerprint"]) == 24


def test_earlier_evaluations_are_printed_in_one_table_with_the_new_one(store, tmp_path):
    wanted = ("evaluate", "--data.store=rain.h5", *CLIPS)
    assert nowcast(*wanted, "--out=one").status == 0
    shutil.copytree("one", tmp_path / "two")
    report = json.loads((tmp_path / "two/scores.json").read_text())
    report["methods"]["persistence"]["mean"]["mse"] += 1
    (tmp_path / "two/scores.json").write_text(json.dumps(report))
    said = nowcast(*wanted, "--out=new", "--beside=[one/scores.json,two/scores.json]")
    assert said.status == 0, said.err
    names = re.findall(r"^persistence(?: \(.*\))?", said.out, re.MULTILINE)
    assert names == ["persistence", "persistence (two)"] * 3
    written = json.loads((tmp_path / "new/scores.json").read_text())
    assert list(written["methods"]) == ["persistence"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("--beside=[none.json]", "none.json: cannot be read as a score report"),
        ("--stride=1", "one: not comparable with new: clips 4, not 18"),
        ("--data.store=other.h5", "one: not comparable with new: fingerprint abc, not other"),
    ],
)
def test_an_evaluation_of_other_clips_is_refused_before_anything_is_scored(store, tmp_path, change,
                                                                          expected):  # fmt: skip
    made_up(tmp_path / "other.h5", 360, "other")
    wanted = ("evaluate", "--data.store=rain.h5", *CLIPS)
    assert nowcast(*wanted, "--out=one").status == 0
    said = nowcast(*wanted, "--out=new", "--beside=[one/scores.json]", change)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"error: {expected}")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_animation_of_steps_that_are_no_whole_minutes(store, tmp_path):
    made_up(tmp_path / "fast.h5", 150)
    wanted = ("--data.store=fast.h5", "--data.step_minutes=2.5", *CLIPS)
    said = nowcast("render", *wanted, "--out=a.gif")
    assert said.status == 0, said.err
    assert (tmp_path / "a.gif").exists()
    said = nowcast("evaluate", *wanted, "--out=page")
    assert said.status == 0, said.err
    assert "lead time +002.5 min" in (tmp_path / "page/report.html").read_text()


def test_the_title_of_an_animation_names_time_and_place(store, monkeypatch):
    titles = []
    from nowcast.commands import render

    for name in ("write_gif", "write_png_strip"):
        monkeypatch.setattr(render, name, lambda *_, title, **__: titles.append(title))
    said = nowcast("render", "--data.store=rain.h5", "--out=a.gif", *CLIPS,
                   "--start=2015-05-23T00:30")  # fmt: skip
    assert said.status == 0, said.err
    assert titles == ["Forecast of 2015-05-23 00:36 UTC, over here"] * 2
