"""Evaluations with every protocol and kind of method, as a user runs them."""

import json
import os
import signal

import numpy as np
import pytest
import xarray as xr
from as_user import nowcast

import nowcast as package
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.radar.store import FrameStore
from nowcast.radar.units import pixel_to_rain_rate
from nowcast.training.clips import SequentialClips
from nowcast.verification import online_steps

CONFIG = ("--config", "experiment.yaml")
LEAD_TIMES = 10  # Short enough for the test day's six clips to be learned from.
SHORT = (*CONFIG, f"--data.lead_times={LEAD_TIMES}")


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


def test_the_online_protocol_lets_the_network_learn_and_nothing_else(folder, tmp_path, caplog):
    caplog.set_level("INFO", logger="nowcast")
    for protocol in ("offline", "online"):
        said = nowcast("evaluate", *SHORT, f"--protocol={protocol}", "--out", tmp_path / protocol)
        assert said.status == 0, said.err
    offline, online = scores(tmp_path / "offline"), scores(tmp_path / "online")
    assert online["settings"]["protocol"] == "online"
    assert online["settings"]["online"] == {"optimizer": "AdaGrad", "learning_rate": 1e-4}
    for name in ("persistence", "optical flow"):
        for score, values in offline["methods"][name]["per_lead"].items():
            np.testing.assert_allclose(
                np.array(online["methods"][name]["per_lead"][score], float),
                np.array(values, float), rtol=1e-12, err_msg=score,
            )  # fmt: skip
    first, second = (r["methods"]["ConvGRU"]["mean"]["balanced_mse"] for r in (online, offline))
    assert first != second
    clips = SequentialClips(FrameStore(folder / "data/rain.h5"), "test", 5 + LEAD_TIMES)
    steps = online_steps(clips.new_episode, lead_times=LEAD_TIMES)
    assert steps > 0
    assert f"online: {steps} steps" in caplog.messages
    # Shown as it was before it learned: the page's clips would be forecast by what has seen them.
    assert (tmp_path / "online/report.html").stat().st_size > 10_000
    refused = nowcast("evaluate", *CONFIG, "--protocol=online", "--stride=3", "--out", tmp_path)
    assert refused.status == 2
    assert "stride: found 3 with the online protocol, expected 5" in refused.err
    refused = nowcast("evaluate", *CONFIG, "--protocol=online", "--at_most=3", "--out", tmp_path)
    assert "at_most: found 3 with the online protocol" in refused.err


@pytest.fixture(scope="module")
def issued(chain, tmp_path_factory):
    """A folder of forecasts by optical flow, a NetCDF file for each clip of the two train days."""
    place = tmp_path_factory.mktemp("issued")
    clips = SequentialClips(FrameStore(chain[0] / "data/rain.h5"), "train", 25)
    for number, (sequence, start) in enumerate(clips.clips):
        frames, _, times = clips.store.read(sequence, start, 25)
        rates = np.where(frames > 0, pixel_to_rain_rate(frames / 255.0), 0.0)
        observed = xr.DataArray(
            rates[:5], dims=("time", "y", "x"),
            coords={"time": times[:5].astype("datetime64[ns]")}, attrs={"units": "mm h-1"},
        )  # fmt: skip
        forecast = package.forecast(OpticalFlow(), observed, 20, coverage="stays")
        forecast.to_netcdf(place / f"{number}.nc", engine="h5netcdf")
    return place


def test_forecasts_from_files_score_as_the_method_that_made_them(folder, issued, tmp_path):
    said = nowcast("evaluate", *CONFIG, "--out", tmp_path, "--split=train", "--checkpoints=null",
                   "--baselines=[optical flow]", f"--forecasts.theirs={issued}")  # fmt: skip
    assert said.status == 0, said.err
    report = scores(tmp_path)
    ours, theirs = (report["methods"][name] for name in ("optical flow", "theirs"))
    assert ours["mean"]["csi"][0] > 0
    for score in ("csi", "balanced_mse", "rmse_mm_h", "fss"):
        np.testing.assert_allclose(
            np.array(theirs["mean"][score], float), np.array(ours["mean"][score], float), rtol=1e-4
        )
    assert len(report["settings"]["forecasts"]["theirs"]["sha256"]) == 12
    [difference] = report["differences"]
    assert difference["scores"]["balanced_mse"]["difference"] == pytest.approx(0, abs=1e-3)


def test_a_forecast_that_was_not_issued_is_named(folder, issued, tmp_path):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "0.nc").write_bytes((issued / "0.nc").read_bytes())
    said = nowcast("evaluate", *CONFIG, "--out", tmp_path / "out", f"--forecasts.theirs={fewer}")
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "fewer" in said.err
    assert not (tmp_path / "out/scores.json").exists()


def test_the_central_region_and_fewer_scores(folder, tmp_path):
    said = nowcast("evaluate", *CONFIG, "--out", tmp_path, "--split=train", "--central_region=true",
                   "--scores=[fractions]", "--windows_pixels=[1, 3]", "--resamples=0",
                   "--animations=0", "--baselines=[persistence]", "--checkpoints=null")  # fmt: skip
    assert said.status == 0, said.err
    report = scores(tmp_path)
    assert report["settings"]["region"] == [7, 23, 7, 23]
    assert "rmse_mm_h" not in report["dimensions"]
    assert report["coordinates"]["window_pixels"] == [1, 3]
    assert report["resampling"]["why_none"] == "no resamples were asked for"
    assert not (tmp_path / "spectra.png").exists()
    # Restated from the store: the absolute error of persistence in the middle of each frame.
    clips = SequentialClips(FrameStore(folder / "data/rain.h5"), "train", 25)
    errors = np.zeros(20)
    for number in range(len(clips)):
        frames, mask = clips.fields(number)
        middle = (slice(None), slice(7, 23), slice(7, 23))
        pixels, counts = frames[middle] / 255.0, mask[middle]
        errors += (abs(pixels[5:] - pixels[4]) * counts[5:]).sum(axis=(1, 2)) / len(clips)
    found = report["methods"]["persistence"]["per_lead"]["mae"]
    np.testing.assert_allclose(found, errors, rtol=1e-6)


def test_an_ensemble_has_scores_of_its_own(folder, tmp_path):
    pytest.importorskip("pysteps", reason="pysteps is not installed")
    said = nowcast("evaluate", *CONFIG, "--out", tmp_path, "--baselines=[STEPS]", "--members=3",
                   "--at_most=2", "--checkpoints=null", "--data.lead_times=3")  # fmt: skip
    assert said.status == 0, said.err
    report = scores(tmp_path)
    steps = report["methods"]["STEPS"]
    assert steps["members"] == 3
    assert report["settings"]["ensemble"] == {"members": 3, "seed": 0}
    # Every pixel that counts has one rank: as many as the contingency table has pixels.
    histogram = np.array(steps["per_lead"]["rank_histogram"])
    table = ("hits", "misses", "false_alarms", "correct_negatives")
    pixels = sum(np.array(steps["per_lead"][name])[:, 0] for name in table)
    assert histogram.shape == (3, 4)
    np.testing.assert_allclose(histogram.sum(axis=1), pixels, rtol=1e-12)
    # The fair score takes off what few members add.
    crps, fair = (np.array(steps["per_lead"][f"crps{kind}_mm_h"]) for kind in ("", "_fair"))
    assert (fair < crps).all()
    assert "CRPS" in said.out


@pytest.mark.parametrize("protocol", ["offline", "online"])
def test_a_stopped_evaluation_goes_on_to_the_same_scores(folder, tmp_path, monkeypatch, protocol):
    command = ("evaluate", *SHORT, f"--protocol={protocol}", "--data.batch_size=1")
    assert nowcast(*command, "--out", tmp_path / "unbroken").status == 0
    forecast, calls = Persistence.forecast, []

    def interrupted(self, frames, lead_times):
        calls.append(frames)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return forecast(self, frames, lead_times)

    monkeypatch.setattr(Persistence, "forecast", interrupted)
    said = nowcast(*command, "--out", tmp_path / "stopped")
    assert said.status == 130
    assert "the same command goes on from there" in said.err
    assert (tmp_path / "stopped/evaluation.state").exists()
    assert not (tmp_path / "stopped/scores.json").exists()
    assert nowcast(*command, "--out", tmp_path / "stopped").status == 0
    assert not (tmp_path / "stopped/evaluation.state").exists()
    stopped, unbroken = (scores(tmp_path / name) for name in ("stopped", "unbroken"))
    assert stopped["methods"] == unbroken["methods"]
    # The four clips that were done, and the one shown of each event, are all that came twice.
    clips, events = (unbroken["methods"]["persistence"][key] for key in ("clips", "by_event"))
    assert len(calls) == clips + len(events)
