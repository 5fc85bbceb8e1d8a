"""What else lies in folders of radar files, and what must not be written there."""

import h5py
import numpy as np
import pytest
import xarray as xr
from arriving import write_frame
from as_user import contents, nowcast
from made_up_events import as_netcdf, event_dataset, rain_mm_h

import nowcast as package
from nowcast.errors import InputError

pytest.importorskip("pyproj", reason="composites need the extra: pip install 'nowcast[radar]'")
pytest.importorskip("pysteps.io.importers")

FLOW = ("--method=optical flow", "--lead_times=2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "radar").mkdir()
    for minutes in (0, 5, 10, 15, 20):
        write_frame(tmp_path / "radar", minutes)
    return tmp_path


def refused(*arguments):
    done = nowcast("forecast", *arguments)
    assert (done.status, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    return line


def test_a_forecast_in_the_folder_is_not_read_as_observed(folder):
    for _ in range(2):
        done = nowcast("forecast", "radar", *FLOW, "--out=radar/forecast.nc")
        assert done.status == 0, done.err
    with xr.open_dataset("radar/forecast.nc") as made:
        assert made["forecast_reference_time"] == np.datetime64("2020-06-01T00:20")
    line = refused("radar/forecast.nc", *FLOW)
    assert "radar/forecast.nc: found a forecast (" in line
    assert "expected observations" in line


def test_what_is_read_is_not_written_over(folder):
    before = contents(folder)
    line = refused("radar/T_PAAH0000.h5", "radar/T_PAAH0005.h5", "--gif=radar/T_PAAH0000.h5.gif",
                   "--out=null", "--method=optical flow", "--frames_per_second=0")  # fmt: skip
    assert "frames per second: found 0.0, expected more than 0" in line
    event = as_netcdf(event_dataset(rain_mm_h()), folder / "event.nc")
    line = refused(event, "--out=event.nc", *FLOW)
    assert "event.nc: found it at or in " in line
    assert "--watch" not in line
    line = refused("--watch=radar", "--out=radar/latest/forecast.nc", *FLOW)
    assert "radar/latest/forecast.nc: found it at or in " in line
    (folder / "event.nc").unlink()
    assert contents(folder) == before


def test_a_damaged_hdf5_of_any_kind_is_named_or_passed_over(folder):
    """Damage deep in a file, which the library says in its own ways."""
    whole = (folder / "radar/T_PAAH0010.h5").read_bytes()
    random = np.random.default_rng(0)
    for number in range(30):
        broken = bytearray(whole)
        for place in random.integers(100, len(whole), 60):
            broken[place] ^= 0xFF
        (folder / "radar/T_PAAH0010.h5").write_bytes(broken)
        done = nowcast("forecast", "radar", *FLOW, "--skip_unusable=true")
        assert done.status in (0, 2), number
        assert len(done.err.splitlines()) == (done.status == 2)


def test_a_frame_of_another_day_is_named_or_passed_over(folder):
    write_frame(folder / "radar", 60 * 24 * 300)
    line = refused("radar", "--lead_times=1")
    assert "found a frame of 2021-03-28T00:00:00, long after all others" in line
    done = nowcast("forecast", "radar", "--lead_times=1", "--skip_unusable=true")
    assert done.status == 0, done.err


def test_grid_mappings_with_several_numbers_are_compared(tmp_path):
    event = event_dataset(rain_mm_h())
    event["crs"].attrs["standard_parallel"] = [30.0, 60.0]
    for number in range(3):
        as_netcdf(event.isel(time=[number]), tmp_path / f"{number}.nc")
    assert len(package.read_frames(tmp_path)) == 3
    event["crs"].attrs["standard_parallel"] = [30.0, 50.0]
    as_netcdf(event.isel(time=[3]), tmp_path / "3.nc")
    with pytest.raises(InputError, match=r"3.nc: found another grid than in 2.nc"):
        package.read_frames(tmp_path)


def test_a_grid_mapping_may_be_an_array_of_one(tmp_path):
    path = as_netcdf(event_dataset(rain_mm_h()).drop_vars("crs"), tmp_path / "a.nc")
    with h5py.File(path, "a") as file:
        file["crs"] = np.zeros(1, np.int32)
        file["crs"].attrs["crs_wkt"] = "PROJCS[…]"
    frames = package.read_frames(path)
    assert frames["crs"].shape == ()
    assert frames["crs"].attrs["crs_wkt"] == "PROJCS[…]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["radar", "--longest_gap_minutes=.inf"], "longest_gap_minutes: found inf"),
        (["radar", "--longest_gap_minutes=-1"], "longest_gap_minutes: found -1"),
        (["radar", "--thresholds_mm_h=[7]", "--method=optical flow"], "which is no ensemble"),
        (["radar", "--watch=radar"], "found files and a folder to watch, expected one of them"),
        (["--watch=radar", "--images.pattern=%Y.png"], "watch: found images"),
        (["https://x.org/a.nc"], "https://x.org/a.nc: found an address"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, arguments, message):
    assert message in refused(*arguments)
    assert not (folder / "forecast.nc").exists()
