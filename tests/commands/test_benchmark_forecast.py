"""Part forecast of the benchmark: its rows, what they compute and how much; not how fast."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from made_up_events import as_netcdf, event_dataset

from nowcast.benchmarks.forecast import OPPONENTS, forecast_gflop, rain
from nowcast.benchmarks.forecast_variants import (
    Task,
    other_method,
    our_network,
    plain_network,
    whole_call,
)
from nowcast.benchmarks.training_step import StepShape
from nowcast.commands.benchmark import main
from nowcast.models.persistence import Persistence
from nowcast.radar.units import pixel_to_rain_rate

TINY = StepShape(hidden=(4, 6, 6), side=60, batch=2, input_frames=3, lead_times=4)
CPU = torch.device("cpu")
NETWORKS = ["plain fp32", "plain fp32, memory kept", "ours fp32", "ours bf16", "whole call fp32",
            "whole call bf16"]  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The JSON that the command writes of a tiny network."""
    out = tmp_path_factory.mktemp("benchmark") / "forecast.json"
    settings = {"hidden": "[4, 6, 6]", "side": 60, "batch": 2, "input_frames": 3, "lead_times": 4}
    given = ["--device=cpu", *(f"--{name}={value}" for name, value in settings.items())]
    assert main(["forecast", *given, "--repeats=2", "--matrix_side=64", f"--out={out}"]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_rows_say_what_was_forecast_and_how_much(measured):
    rows = {row["name"]: row for row in measured["rows"]}
    products = ["matrix product bf16", "matrix product fp32"]
    assert list(rows) == [*NETWORKS, "persistence", "optical flow", *products]
    assert all(len(row["seconds"]["rounds"]) == 2 for row in rows.values())
    gflop = measured["facts"]["GFLOP of a forecast"]
    assert gflop == forecast_gflop(TINY)
    for name in NETWORKS:
        assert (rows[name]["work"], rows[name]["unit"]) == (gflop, "GFLOP")
        assert rows[name]["ceiling"] == ("bf16" if "bf16" in name else "fp32")
        assert rows[name].get("compared_with") == (None if name == "plain fp32" else "plain fp32")
    for name in ("persistence", "optical flow"):
        assert (rows[name]["work"], rows[name]["unit"]) == (2 * 4, "frames")
        assert "ceiling" not in rows[name]


def test_ours_computes_what_the_plain_one_does(measured):
    differences = measured["facts"]["largest difference from plain fp32, pixel values"]
    assert list(differences) == ["ours fp32", "ours bf16"]
    assert differences["ours fp32"] < 2e-6
    assert 1e-4 < differences["ours bf16"] < 2**-7


def test_peak_memory_is_that_of_each_process(measured):
    peaks = measured["facts"]["peak memory, MB"]
    assert list(peaks) == [row["name"] for row in measured["rows"]][:-2]
    if sys.platform == "linux":
        assert all(100 < peak < 10_000 for peak in peaks.values())


def convolution(inputs, outputs, kernel, side):
    """Operations: a multiplication and an addition for each weight at each of `side`² places."""
    return 2 * inputs * outputs * kernel**2 * side**2


def test_operations_are_those_of_the_layers_written_out():
    """The default network's strides are 5, 3, 2; on 60 × 60, its levels are 12, 4 and 2 wide."""
    past, future, clips = 3, 4, 2
    down = (
        convolution(4, 8, 7, 12) + convolution(4, 6, 5, 4) + convolution(6, 6, 3, 2)
    ) * past  # A frame has coordinates and a channel of ones beside it.
    i2h = convolution(8, 12, 3, 12) + convolution(6, 18, 3, 4) + convolution(6, 18, 3, 2)
    h2h = convolution(4, 12, 5, 12) + convolution(6, 18, 5, 4) + convolution(6, 18, 3, 2)
    # The coarsest level forecasts without input.
    i2h_back = convolution(6, 12, 3, 12) + convolution(6, 18, 3, 4)
    # Of a deconvolution, each place of the input meets each weight.
    up = convolution(6, 6, 4, 2) + convolution(6, 6, 5, 4) + convolution(4, 8, 7, 12)
    head = convolution(8, 8, 3, 60) + convolution(8, 1, 1, 60)
    # The first state is zero: its convolution may be left out.
    least = down + past * i2h + (past - 1) * h2h + future * (h2h + i2h_back + up + head)
    counted = 1e9 * forecast_gflop(TINY) / clips
    assert counted in (pytest.approx(least, rel=1e-12), pytest.approx(least + h2h, rel=1e-12))


@pytest.fixture(scope="module")
def task():
    return Task(rain(TINY), TINY.lead_times, 6, TINY.network, CPU)


def test_rain_is_rain(task):
    assert task.pixels.shape == (2, 3, 60, 60)
    assert task.pixels.dtype == np.float32
    assert 0 == task.pixels.min() < task.pixels.max() <= 1
    assert 0.05 < (task.pixels > 0).mean() < 0.8
    assert not np.array_equal(task.pixels[0], task.pixels[1])
    # It moves on from frame to frame without becoming another.
    first, second = task.pixels[:, :2].swapaxes(0, 1).reshape(2, -1)
    assert 0.3 < np.corrcoef(first, second)[0, 1] < 1


def forecast_of(work):
    work()
    return work.last()


def test_a_whole_call_is_the_networks_forecast_in_rain_rates(task):
    pixels = forecast_of(our_network(task, "fp32"))[:, :, 0].astype(np.float64)
    expected = np.where(pixels > 0, pixel_to_rain_rate(pixels), 0)
    assert pixels.shape == (2, 4, 60, 60)
    # Frames go through rain rates and back, in float64; what moves in from outside is missing.
    whole = forecast_of(whole_call(task, "fp32"))
    known = ~np.isnan(whole)
    assert known.mean() > 0.8
    np.testing.assert_allclose(whole[known], expected[known], rtol=1e-4)
    half, again = (forecast_of(build(task, "bf16")) for build in (our_network, whole_call))
    assert not np.array_equal(half[:, :, 0], pixels)
    expected = np.where(half[:, :, 0] > 0, pixel_to_rain_rate(half[:, :, 0].astype(np.float64)), 0)
    np.testing.assert_allclose(again[known], expected[known], rtol=0.1)


def test_variants_say_the_last_forecast(task):
    made = forecast_of(plain_network(task))
    assert made.shape == (2, 4, 1, 60, 60)
    assert made.std() > 0.02
    last = forecast_of(other_method(task, Persistence))
    np.testing.assert_array_equal(last[:, :, 0], np.repeat(task.pixels[:, -1:], 4, axis=1))


def refusal(capsys, *arguments):
    assert main(["forecast", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_wrong_settings_are_refused_in_one_line(capsys, monkeypatch):
    assert "side: found 50, expected a multiple of 30" in refusal(capsys, "--side=50")
    assert "lead_times: found 0" in refusal(capsys, "--lead_times=0")
    assert "found size=30, expected at least 32" in refusal(capsys, "--side=30")
    assert "device: found 'abacus'" in refusal(capsys, "--device=abacus")
    monkeypatch.setitem(sys.modules, "pysteps", None)
    assert "pysteps" in refusal(capsys, "--opponents=true", "--side=60")


@pytest.mark.skipif(importlib.util.find_spec("pysteps") is None, reason="pysteps is not installed")
def test_opponents_forecast_the_same_rain():
    single = StepShape(hidden=(4, 6, 6), side=60, batch=1, input_frames=4, lead_times=2)
    task = Task(rain(single), 2, 6, single.network, CPU)
    assert list(OPPONENTS) == ["pysteps extrapolation", "pysteps S-PROG", "pysteps ANVIL"]
    for name, build in OPPONENTS.items():
        made = forecast_of(other_method(task, build))
        assert made.shape == (1, 2, 1, 60, 60), name
        assert np.corrcoef(made[0, 0].ravel(), task.pixels[0, -1].ravel())[0, 1] > 0.3, name


@pytest.fixture(scope="module")
def event(tmp_path_factory):
    """A NetCDF file of six frames that no level of a network divides."""
    random = np.random.default_rng(0)
    field = random.gamma(0.3, 4.0, (6, 70, 50)).astype(np.float32)
    return as_netcdf(event_dataset(field), tmp_path_factory.mktemp("event") / "event.nc")


def test_a_whole_event_is_forecast_by_the_shipped_network_and_a_large_one(event, tmp_path):
    out = tmp_path / "event.json"
    given = [f"--event={event}", "--hidden=[4, 6, 6]", "--lead_times=3", "--device=cpu"]
    assert main(["forecast", *given, "--repeats=2", "--matrix_side=64", f"--out={out}"]) == 0
    measured = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in measured["rows"]}
    assert list(rows) == [
        *(f"{name} {precision}" for name in ("convgru-5min", "4/6/6")
          for precision in ("fp32", "bf16")), "optical flow",
    ]  # fmt: skip
    assert all((row["work"], row["unit"]) == (3, "frames") for row in rows.values())
    assert all(len(row["seconds"]["rounds"]) == 2 for row in rows.values())
    assert measured["facts"]["grid"] == "70 × 50"
    # 70 × 50 is filled up to 90 × 60, one and a half times 60 × 60; without coordinates the frame
    # alone is seen.
    whole = StepShape(hidden=(4, 6, 6), side=60, batch=1, input_frames=5, lead_times=3)
    seen = forecast_gflop(whole) - 5 * convolution(3, 8, 7, 12) / 1e9
    assert measured["facts"]["GFLOP of 4/6/6"] == pytest.approx(1.5 * seen, rel=1e-6)
    assert list(measured["facts"]["peak memory, MB"]) == list(rows)


def test_an_event_that_cannot_be_forecast_is_refused(event, capsys):
    assert "event.nc: found 6 frames, expected at least 7" in refusal(
        capsys, f"--event={event}", "--input_frames=7"
    )
    assert "found 1, expected at least 2" in refusal(capsys, f"--event={event}", "--input_frames=1")
    assert "nowhere.nc: no such file" in refusal(capsys, "--event=nowhere.nc")
    assert "mine.ckpt: found no file" in refusal(
        capsys, f"--event={event}", "--checkpoint=mine.ckpt"
    )
