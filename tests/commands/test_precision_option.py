"""`--precision` of evaluate and render: read, minded in resuming, told to readers."""

import json
import os
import signal

import pytest
from as_user import nowcast

from nowcast.device import choose_device, fast_bf16
from nowcast.models.network import Network
from nowcast.models.persistence import Persistence

CONFIG = ("--config", "experiment.yaml")
SCORED = ("evaluate", *CONFIG, "--device=cpu", "--animations=0", "--resamples=0",
          "--baselines=[persistence]", "--data.batch_size=1")  # fmt: skip


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


@pytest.fixture(scope="module")
def evaluated(chain, tmp_path_factory):
    """Reports of the same evaluation in each precision."""
    place = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(chain[0])
        for precision in ("fp32", "bf16", "auto"):
            out = place / precision
            assert nowcast(*SCORED, f"--precision={precision}", "--out", out).status == 0
        assert nowcast(*SCORED, "--out", place / "default").status == 0
    return place


def test_bf16_scores_are_those_of_float32_but_for_rounding(evaluated):
    single, half = (scores(evaluated / name)["methods"] for name in ("fp32", "bf16"))
    assert half["persistence"] == single["persistence"]
    ours, theirs = (methods["ConvGRU"]["mean"]["mae"] for methods in (half, single))
    assert ours != theirs
    # Sums over 900 pixels of differences of at most two steps of bfloat16, 2⁻⁷.
    assert ours == pytest.approx(theirs, abs=900 * 2**-7)
    assert ours == pytest.approx(theirs, rel=0.05)
    assert scores(evaluated / "default")["methods"] == single


def test_a_report_says_in_which_precision_networks_forecast(evaluated, folder, tmp_path):
    automatic = "bf16" if fast_bf16(choose_device("cpu")) else "fp32"
    told = {"default": "fp32", "fp32": "fp32", "bf16": "bf16", "auto": automatic}
    for name, precision in told.items():
        assert scores(evaluated / name)["settings"]["precision"] == precision
        page = (evaluated / name / "report.html").read_text(encoding="utf-8")
        assert f"<dt>precision</dt><dd>{precision}</dd>" in "".join(page.split())
    alone = nowcast(*SCORED, "--checkpoints=null", "--out", tmp_path / "alone")
    assert alone.status == 0, alone.err
    assert "precision" not in scores(tmp_path / "alone")["settings"]


def test_an_evaluation_in_another_precision_does_not_go_on_from_a_state(
    evaluated, folder, tmp_path, monkeypatch
):
    forecast, calls = Persistence.forecast, []

    def interrupted(self, frames, lead_times):
        calls.append(frames)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return forecast(self, frames, lead_times)

    monkeypatch.setattr(Persistence, "forecast", interrupted)
    assert nowcast(*SCORED, "--out", tmp_path).status == 130
    assert (tmp_path / "evaluation.state").exists()
    refused = nowcast(*SCORED, "--precision=bf16", "--out", tmp_path)
    assert refused.status == 2
    assert "evaluation.state: found the unfinished state of" in refused.err
    assert nowcast(*SCORED, "--out", tmp_path).status == 0
    expected = scores(evaluated / "fp32")["methods"]
    assert scores(tmp_path)["methods"] == expected
    assert len(calls) == expected["persistence"]["clips"]


def test_animations_are_of_the_precision_asked_for(folder, tmp_path, monkeypatch):
    forecast, seen = Network.forecast, []

    def watched(self, frames, lead_times):
        made = forecast(self, frames, lead_times)
        seen.append((self.precision, made))
        return made

    monkeypatch.setattr(Network, "forecast", watched)
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.gif"
        said = nowcast("render", *CONFIG, f"--precision={precision}", "--out", out)
        assert said.status == 0, said.err
    (first, single), (second, half) = seen
    assert (first, second) == ("fp32", "bf16")
    assert 0 < (half - single).abs().max() < 2**-7


@pytest.mark.parametrize("command", ["evaluate", "render"])
def test_another_word_is_refused_in_one_line(folder, tmp_path, command):
    said = nowcast(command, *CONFIG, "--precision=half", "--out", tmp_path / "new.gif")
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "precision" in said.err
    assert "half" in said.err
    assert not (tmp_path / "new.gif").exists()
