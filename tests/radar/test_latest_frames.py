"""Files as services leave them behind: late, twice, broken, of another product."""

import logging
import os

import numpy as np
import pytest
import xarray as xr
from made_up_composites import write_odim
from made_up_events import as_netcdf, as_zarr, event_dataset, rain_mm_h

import nowcast
from nowcast.errors import InputError


@pytest.fixture(autouse=True)
def readers():
    pytest.importorskip("pyproj")
    pytest.importorskip("pysteps.io.importers")


def frame(value):
    return np.full((3, 4), float(value))


def write(folder, minutes, value=None, written=0):
    """A frame of one value, the minutes if none is given, written at a made-up time."""
    path = folder / f"{minutes:02}_{written}.h5"
    write_odim(path, frame(minutes if value is None else value), minutes)
    os.utime(path, ns=(written, written))
    return path


def minutes_of(frames):
    passed = frames["time"].to_numpy() - np.datetime64("2020-06-01")
    return (passed / np.timedelta64(1, "m")).tolist()


def test_a_gap_stays_one_and_a_late_file_finds_its_place(tmp_path):
    for minutes in (25, 5, 0, 15):
        write(tmp_path, minutes)
    frames = nowcast.read_frames(tmp_path)
    assert minutes_of(frames) == [0, 5, 15, 25]
    assert frames[:, 0, 0].to_numpy().tolist() == [0, 5, 15, 25]


def test_of_two_files_for_a_time_the_one_written_last_counts(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nowcast")
    write(tmp_path, 5, 7, written=20)
    write(tmp_path, 5, 3, written=10)
    write(tmp_path, 5, 2, written=5)
    write(tmp_path, 0)
    frames = nowcast.read_frames(tmp_path)
    assert frames[:, 0, 0].to_numpy().tolist() == [0, 7]
    (said,) = [record.message for record in caplog.records if "twice" in record.message]
    assert said.startswith("2 frames are there twice; the file written last counts: not 05_")
    assert said.endswith("but 05_20.h5")


def test_the_latest_are_by_number_or_by_age(tmp_path):
    for minutes in (0, 5, 10, 25, 30):
        write(tmp_path, minutes)
    assert minutes_of(nowcast.read_frames(tmp_path, 2)) == [25, 30]
    assert minutes_of(nowcast.read_frames(tmp_path, minutes=20)) == [10, 25, 30]
    assert minutes_of(nowcast.read_frames(tmp_path, 2, minutes=20)) == [25, 30]
    with pytest.raises(InputError, match="found 2 frames, expected at least 3"):
        nowcast.read_frames(tmp_path, 3, minutes=5)


def test_a_truncated_file_is_refused_by_name_or_passed_over(tmp_path, caplog):
    for minutes in (0, 5, 10):
        path = write(tmp_path, minutes)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"10_0.h5: cannot be read as HDF5") as error:
        nowcast.read_frames(tmp_path)
    assert "\n" not in str(error.value)
    assert minutes_of(nowcast.read_frames(tmp_path, 2, skip_unusable=True)) == [0, 5]
    assert "passed over" in caplog.text
    assert "10_0.h5" in caplog.text


def test_damage_that_shows_only_when_a_frame_is_read_is_passed_over_too(tmp_path):
    """The time can still be told, and the frames before it are counted from the last good one."""
    import h5py

    for minutes in (0, 5, 10, 15):
        path = write(tmp_path, minutes)
    with h5py.File(path, "a") as file:
        del file["dataset1/data1/data"]
    with pytest.raises(InputError, match=r"15_0.h5: cannot be read as ODIM HDF5"):
        nowcast.read_frames(tmp_path)
    assert minutes_of(nowcast.read_frames(tmp_path, minutes=5, skip_unusable=True)) == [5, 10]


@pytest.mark.parametrize("strange", ["shape", "place"])
def test_a_file_of_another_grid_is_refused_or_passed_over_even_if_it_is_the_latest(
    tmp_path, strange
):
    for minutes in (0, 5):
        write(tmp_path, minutes)
    if strange == "shape":
        write_odim(tmp_path / "other.h5", np.ones((4, 3)), 10)
        said = "found 4 × 3 pixels, expected 3 × 4 as in 05_0.h5"
    else:
        write_odim(tmp_path / "other.h5", frame(10), 10, west=2000)
        said = "found another grid than in 05_0.h5"
    with pytest.raises(InputError, match=rf"other.h5: {said}"):
        nowcast.read_frames(tmp_path)
    assert minutes_of(nowcast.read_frames(tmp_path, skip_unusable=True)) == [0, 5]


def test_nothing_usable_is_said_in_one_line(tmp_path):
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(InputError, match="found no file with frames, expected at least 1"):
        nowcast.read_frames(tmp_path, skip_unusable=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no composites and no NetCDF-4 files"):
        nowcast.read_frames(tmp_path / "empty")
    with pytest.raises(InputError, match="none: no such file"):
        nowcast.read_frames([tmp_path / "none"])


def test_a_netcdf_file_per_frame_and_a_store_of_them_make_one_series(tmp_path):
    """As a service that issues CF NetCDF does; a file of one time has no time step of its own."""
    event = event_dataset(rain_mm_h())
    expected = nowcast.read_frames(as_netcdf(event, tmp_path / "whole.nc"))
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(7, len(event["time"])):
        as_netcdf(event.isel(time=[number]), folder / f"{number}.nc")
    xr.testing.assert_identical(nowcast.read_frames(folder), expected[7:])
    store = as_zarr(event.isel(time=slice(8)), tmp_path / "first.zarr")
    found = nowcast.read_frames([folder, store])
    np.testing.assert_array_equal(found["time"], expected["time"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_hidden_files_are_still_being_written(tmp_path):
    for minutes in (0, 5):
        write(tmp_path, minutes)
    (tmp_path / "05_0.h5").rename(tmp_path / ".05_0.h5.part")
    assert minutes_of(nowcast.read_frames(tmp_path)) == [0]


def test_who_measured_it_comes_along(tmp_path):
    event = event_dataset(rain_mm_h(), institution="A Service", license="CC BY 4.0")
    frames = nowcast.read_frames(as_netcdf(event, tmp_path / "a.nc"))
    assert (frames.attrs["institution"], frames.attrs["license"]) == ("A Service", "CC BY 4.0")


def test_real_files_of_three_services_are_each_a_series(shared):
    """PGM beside its first frame again, written later: the same frames."""
    folder = shared / "real-radar/original"
    for name, count, step in (("fmi_pgm", 4, 5), ("knmi_hdf5", 5, 5), ("opera_odim", 2, 15)):
        frames = nowcast.read_frames(folder / name)
        steps = np.diff(frames["time"]) / np.timedelta64(1, "m")
        assert (len(frames), set(steps)) == (count, {step})
    mixed = [folder / "fmi_pgm", folder / "knmi_hdf5"]
    with pytest.raises(InputError, match=r"FIN_SUOMI1.pgm.gz: found 1226 × 760 pixels, expected"):
        nowcast.read_frames(mixed)
    assert len(nowcast.read_frames(mixed, skip_unusable=True)) == 5
