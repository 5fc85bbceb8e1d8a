"""CF NetCDF events to a store and its scores, through the commands: a square of rain that moves."""

import json

import numpy as np
import pytest
import xarray as xr
from as_user import nowcast

SIDE_KM, FRAMES, SQUARE = 60, 14, 10
STORE = ("--tile_size=30", "--grid_spacing_km=2", "--clip_length=9", "--workers=1")
CLIPS = ("--data.step_minutes=5", "--data.input_frames=5", "--data.lead_times=4",
         "--data.workers=0")  # fmt: skip


def write_event(path, step_minutes=5):
    """8 mm/h on a square of 20 km that moves 2 km east, a pixel of the store, every frame."""
    rain = np.zeros((FRAMES, SIDE_KM, SIDE_KM), np.float32)
    for time in range(FRAMES):
        rain[time, 20 : 20 + 2 * SQUARE, 6 + 2 * time : 6 + 2 * time + 2 * SQUARE] = 8.0
    minutes = step_minutes * np.arange(FRAMES)
    kilometres = 1000.0 * np.arange(SIDE_KM)
    xr.Dataset(
        {"rain_rate": (("time", "y", "x"), rain, {"units": "mm h-1"})},
        coords={
            "time": np.datetime64("2020-06-01T12:00", "ns") + minutes.astype("timedelta64[m]"),
            "y": ("y", kilometres[::-1], {"units": "m"}),
            "x": ("x", kilometres, {"units": "m"}),
        },
        attrs={"time_step_minutes": float(step_minutes), "source": "made up"},
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def event(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_event(tmp_path / "square of rain.nc")


def test_an_event_becomes_a_store_whose_scores_have_the_closed_form(event, tmp_path):
    said = nowcast("prepare_data", "events", "--out=rain.h5", f"--test=['{event}']", *STORE)
    assert said.status == 0, said.err
    assert "30 × 30 pixels, every 5 minutes" in said.out
    said = nowcast("evaluate", "--data.store=rain.h5", "--out=scores", *CLIPS, "--stride=1")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "scores/scores.json").read_text())
    assert list(report["methods"]) == ["persistence", "optical flow"]
    persistence, flow = (
        np.array(report["methods"][name]["per_lead"]["csi"], float)[:, :3]
        for name in ("persistence", "optical flow")
    )
    # Six whole clips, and two whose last one or two frames are missing: the rule allows that.
    assert report["methods"]["persistence"]["clips"] == FRAMES - 9 + 1 + 2
    for lead in range(1, 5):
        expected = (SQUARE - lead) / (SQUARE + lead)
        np.testing.assert_allclose(persistence[lead - 1], expected, rtol=1e-12)
    assert (flow > persistence).all()
    above_the_rain = [row[3] for row in report["methods"]["persistence"]["per_lead"]["csi"]]
    assert above_the_rain == [None] * 4


def test_events_that_do_not_fit_are_refused_and_leave_no_store(event, tmp_path):
    six = write_event(tmp_path / "six.nc", step_minutes=6)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(event.read_bytes()[: event.stat().st_size // 2])
    for arguments, expected in (
        ([f"--test=['{six}']", f"--train=['{event}']"], f"{six}: found frames every 6 minutes"),
        ([f"--test=['{event}']", "--step_minutes=6"], f"{event}: found frames every 5 minutes"),
        ([f"--test=['{event}']", "--clip_length=25"], f"{event}: found 14 time steps"),
        ([f"--test=['{event}']", "--minimum_wet_fraction=0.5"], f"{event}: found 0 tiles"),
        ([f"--test=['{event}']", "--minimum_coverage=7"], "minimum_coverage: found 7.0"),
        ([f"--test=['{cut}']"], f"{cut}: cannot be read as a NetCDF-4 event"),
        (["--test=[none.nc]"], "none.nc: no such file"),
        ([], "found no event"),
    ):
        said = nowcast("prepare_data", "events", "--out=rain.h5", *STORE, *arguments)
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said
        assert said.err.startswith("error: ")
        assert expected in said.err
        assert not (tmp_path / "rain.h5").exists()


def test_a_store_of_another_step_is_refused_or_subsampled_as_asked(event, tmp_path):
    said = nowcast("prepare_data", "events", "--out=rain.h5", f"--test=['{event}']", *STORE)
    assert said.status == 0, said.err
    wanted = ("evaluate", "--data.store=rain.h5", "--out=scores", *CLIPS, "--data.lead_times=2")
    said = nowcast(*wanted, "--data.step_minutes=6")
    assert said.status == 2
    assert said.err.startswith("error: rain.h5: found frames every 5 minutes, expected 6")
    said = nowcast(*wanted, "--data.step_minutes=10")
    assert said.status == 2
    assert said.err.startswith("error: rain.h5: found frames every 5 minutes, expected 10")
    assert not (tmp_path / "scores").exists()
    said = nowcast(*wanted, "--data.step_minutes=10", "--data.subsample=true")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "scores/scores.json").read_text())
    csi = np.array(report["methods"]["persistence"]["per_lead"]["csi"], float)[:, 0]
    np.testing.assert_allclose(csi, [8 / 12, 6 / 14], rtol=1e-12)
    assert report["lead_minutes"] == [10, 20]
