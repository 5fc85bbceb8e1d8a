"""A folder that is watched, as a service fills it."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import xarray as xr
from arriving import write_frame
from as_user import ROOT

from nowcast.operations.latest import LatestFrames, RadarSettings
from nowcast.operations.watching import new_files, watch

pytest.importorskip("pyproj", reason="composites need the extra: pip install 'nowcast[radar]'")
pytest.importorskip("pysteps.io.importers")


class Enough(BaseException):
    """Ends a watcher, which no error does."""


def watched(folder, looks, monkeypatch, nowcasting=None):
    """Times of the frames of each nowcast; before each look into the folder one of `looks` acts."""
    made, left = [], iter(looks)

    def wait(seconds):
        try:
            next(left)()
        except StopIteration:
            raise Enough from None

    def make(frames):
        if nowcasting is not None:
            nowcasting(frames)
        minutes = (frames["time"] - np.datetime64("2020-06-01")) / np.timedelta64(1, "m")
        made.append(minutes.to_numpy().astype(int).tolist())

    monkeypatch.setattr("nowcast.operations.watching.time.sleep", wait)
    latest = LatestFrames(RadarSettings(skip_unusable=True), 3, None)
    with pytest.raises(Enough):
        watch(folder, latest, make, every_seconds=0.01)
    return made


def nothing():
    time.sleep(0)


def old(path):
    """As if written an hour ago: it counts at the first look."""
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path


@pytest.fixture
def folder(tmp_path):
    for minutes in (0, 5):
        old(write_frame(tmp_path, minutes))
    return tmp_path


def test_each_new_frame_makes_a_nowcast_and_nothing_else_does(folder, monkeypatch):
    made = watched(
        folder,
        [
            nothing,
            lambda: old(write_frame(folder, 10)),
            nothing,
            nothing,
            # A file without frames, and a frame that is older than those that are used.
            lambda: old((folder / "notes.txt").write_text("rain") and folder / "notes.txt"),
            nothing,
            lambda: old(write_frame(folder, 15)),
        ],
        monkeypatch,
    )
    assert made == [[0, 5], [0, 5, 10], [5, 10, 15]]


def test_a_late_or_corrected_frame_makes_a_nowcast_too(folder, monkeypatch):
    write_frame(folder, 15)
    old(folder / "T_PAAH0015.h5")
    made = watched(
        folder,
        [
            lambda: old(write_frame(folder, 10)),
            nothing,
            lambda: os.utime(write_frame(folder, 15, values=np.ones((120, 160))), (1e9, 1e9)),
        ],
        monkeypatch,
    )
    assert made == [[0, 5, 15], [5, 10, 15], [5, 10, 15]]


def test_bad_files_are_said_once_and_passed_over(folder, monkeypatch, caplog):
    def truncated():
        path = write_frame(folder, 10)
        path.write_bytes(path.read_bytes()[:2000])
        old(path)

    def elsewhere():
        old(write_frame(folder, 15, values=np.ones((30, 30))))

    made = watched(
        folder,
        [truncated, nothing, elsewhere, nothing, lambda: old(write_frame(folder, 20)), nothing],
        monkeypatch,
    )
    assert made == [[0, 5], [0, 5, 20]]
    said = [r.message for r in caplog.records if "passed over" in r.message]
    assert sum("T_PAAH0010.h5" in message for message in said) == 1
    assert any("T_PAAH0015.h5: found 30 × 30 pixels" in message for message in said)


def test_frames_that_are_yet_to_come_are_passed_over(folder, monkeypatch):
    ahead = int((np.datetime64("now") - np.datetime64("2020-06-01")) / np.timedelta64(1, "m"))
    made = watched(
        folder,
        [lambda: old(write_frame(folder, ahead + 60)), lambda: old(write_frame(folder, 10))],
        monkeypatch,
    )
    assert made == [[0, 5], [0, 5, 10]]


def test_between_two_looks_time_passes_even_if_something_came(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("nowcast.operations.watching.time.sleep", waits.append)
    old(write_frame(tmp_path, 0))
    looks = new_files(tmp_path, 7.0)
    next(looks)
    old(write_frame(tmp_path, 5))
    next(looks)
    assert waits == [7.0]


def test_no_error_ends_it(folder, monkeypatch, caplog):
    errors = iter([OSError(28, "No space left on device"), RuntimeError("two\nlines"), None])

    def fail(frames):
        error = next(errors)
        if error is not None:
            raise error

    made = watched(
        folder,
        [lambda: old(write_frame(folder, 10)), lambda: old(write_frame(folder, 15))],
        monkeypatch,
        fail,
    )
    assert made == [[5, 10, 15]]
    said = [r.message for r in caplog.records if "no nowcast" in r.message]
    assert said[0].startswith("no nowcast: OSError: [Errno 28] No space left")
    assert said[1] == "no nowcast: RuntimeError: two lines"


def test_a_file_counts_only_once_it_no_longer_grows(tmp_path, monkeypatch):
    path = tmp_path / "frame.h5"
    soon = time.time() + 100
    sizes = iter([10, 20, 30, 30, 30])

    def grow(seconds):
        path.write_bytes(bytes(next(sizes)))
        os.utime(path, (soon, soon))

    monkeypatch.setattr("nowcast.operations.watching.time.sleep", grow)
    looks = new_files(tmp_path, 1000)
    assert next(looks) == []
    assert next(looks) == [path]
    assert path.stat().st_size == 30


def test_hidden_files_and_links_do_not_count(tmp_path):
    old(write_frame(tmp_path, 0))
    (tmp_path / ".late.h5.part").write_bytes(b"half")
    old(tmp_path / ".late.h5.part")
    (tmp_path / "link.h5").symlink_to(tmp_path / "T_PAAH0000.h5")
    assert next(new_files(tmp_path, 0.01)) == [tmp_path / "T_PAAH0000.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_replaces_its_forecast_until_it_is_stopped(tmp_path, number):
    folder, out = tmp_path / "radar", tmp_path / "latest/forecast.nc"
    folder.mkdir()
    for minutes in (0, 5, 10, 15, 20):
        write_frame(folder, minutes)
    child = subprocess.Popen(
        [sys.executable, ROOT / "scripts/forecast.py", "--watch", folder, "--every_seconds=0.2",
         "--lead_times=2", "--out", out, "--html", out.with_suffix(".html")],
        start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        for minutes in (20, 25):
            if minutes == 25:
                (folder / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\nbad")
                write_frame(folder, minutes)
            deadline, issued = time.monotonic() + 90, None
            while issued != np.datetime64("2020-06-01") + np.timedelta64(minutes, "m"):
                assert child.poll() is None, child.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
                # Whenever one looks, a whole forecast is there.
                if out.exists():
                    with xr.open_dataset(out) as made:
                        issued = made["forecast_reference_time"].to_numpy()
                        assert made["precip_intensity"].shape == (2, 120, 160)
        os.kill(child.pid, number)
        _, err = child.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert len(re.findall("passed over .*bad.h5", err)) == 1
    assert {path.name for path in out.parent.iterdir()} <= {"forecast.nc", "forecast.html"}
