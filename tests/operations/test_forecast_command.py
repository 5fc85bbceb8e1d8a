"""`nowcast forecast` as a meteorologist runs it, with files as services leave them."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from arriving import write_frame
from as_user import contents, nowcast
from PIL import Image

from nowcast.models.checkpoint import SHIPPED

pytest.importorskip("pyproj", reason="composites need the extra: pip install 'nowcast[radar]'")
pytest.importorskip("pysteps.io.importers")

MINUTES = (0, 5, 10, 15, 20)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of five frames, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "radar").mkdir()
    for minutes in MINUTES:
        write_frame(tmp_path / "radar", minutes)
    return tmp_path


def opened(path="forecast.nc"):
    with xr.open_dataset(path, decode_coords="all", decode_timedelta=True) as dataset:
        return dataset.load()


def refused(*arguments):
    """The one line that an error has; nothing may have been written."""
    done = nowcast("forecast", *arguments)
    assert done.status == 2, done
    assert done.out == ""
    (line,) = done.err.splitlines()
    return line


def test_a_folder_becomes_a_forecast(folder):
    done = nowcast("forecast", "radar", "--lead-times", "4")
    assert (done.status, done.out) == (0, "forecast.nc\n"), done.err
    made = opened()
    assert made["precip_intensity"].shape == (4, 120, 160)
    assert made["forecast_reference_time"] == np.datetime64("2020-06-01T00:20")
    assert made["time"][-1] == np.datetime64("2020-06-01T00:40")
    assert "convgru-5min (SHA-256" in made.attrs["source"]
    assert made["precip_intensity"].max() > 1


def test_every_product_is_made_and_named_by_its_time(folder):
    done = nowcast(
        "forecast", "radar", "--lead_times=3", "--out", "%Y/rain_%m%d%H%M.zarr", "--gif=rain.gif",
        "--png=rain.png", "--mp4=rain.mp4", "--html=rain_%H%M.html", "--maps=maps",
        "--title=A <b>rainy</b> night", "--method=optical flow",
    )  # fmt: skip
    assert done.status == 0, done.err
    made = ["maps", "2020/rain_06010020.zarr", "rain.gif", "rain.png", "rain.mp4", "rain_0020.html"]
    assert done.out.split() == made
    store = xr.open_zarr("2020/rain_06010020.zarr", consolidated=False, decode_timedelta=True)
    assert store["precip_intensity"].shape == (3, 120, 160)
    with Image.open("rain.gif") as gif:
        assert gif.n_frames == 8
    page = (folder / "rain_0020.html").read_text()
    assert "A &lt;b&gt;rainy&lt;/b&gt; night" in page
    assert "OpticalFlow" in page
    assert len(list((folder / "maps").glob("*.png"))) == 3
    assert (folder / "rain.mp4").read_bytes()[4:8] == b"ftyp"


def test_order_and_a_duplicate_are_no_matter(folder):
    assert nowcast("forecast", "radar", "--lead_times=2").status == 0
    expected = opened()
    # Named the other way round, from two folders, the last one twice.
    (folder / "late").mkdir()
    for number, minutes in enumerate(reversed(MINUTES)):
        write_frame(folder / "late", minutes, name=f"{number}.h5")
    shutil.copy2(folder / "late/0.h5", folder / "late/again.h5")
    files = [f"late/{name}.h5" for name in (3, 0, "again", 2, 1, 4)]
    assert nowcast("forecast", *files, "--lead_times=2").status == 0
    xr.testing.assert_equal(opened(), expected)


def test_a_gap_is_filled_and_one_that_is_too_long_is_refused(folder):
    assert nowcast("forecast", "radar", "--lead_times=2").status == 0
    expected = opened()["precip_intensity"].to_numpy()
    (folder / "radar/T_PAAH0010.h5").unlink()
    assert nowcast("forecast", "radar", "--lead_times=2").status == 0
    made = opened()["precip_intensity"].to_numpy()
    known = ~np.isnan(made) & ~np.isnan(expected)
    assert not np.array_equal(made, expected)
    assert np.abs(made - expected)[known].mean() < 0.15 * expected[known].mean()
    before = contents(folder)
    (folder / "radar/T_PAAH0005.h5").unlink()
    (folder / "radar/T_PAAH0015.h5").unlink()
    line = refused("radar")
    assert "error: frames: found none for 20 minutes from 2020-06-01T00:00:00 on" in line
    assert "gaps of up to 15 minutes" in line
    assert (folder / "forecast.nc").read_bytes() == before["forecast.nc"]
    assert nowcast("forecast", "radar", "--longest_gap_minutes=20").status == 0


def test_a_truncated_file_is_named_or_passed_over(folder, caplog):
    path = folder / "radar/T_PAAH0015.h5"
    path.write_bytes(path.read_bytes()[:3000])
    line = refused("radar")
    assert line.startswith("error: radar/T_PAAH0015.h5: cannot be read as ")
    assert not (folder / "forecast.nc").exists()
    done = nowcast("forecast", "radar", "--lead_times=1", "--skip_unusable=true")
    assert done.status == 0, done.err
    assert "passed over radar/T_PAAH0015.h5" in caplog.text
    assert opened()["forecast_reference_time"] == np.datetime64("2020-06-01T00:20")


def test_a_file_of_another_grid_is_named_or_passed_over(folder):
    write_frame(folder / "radar", 25, values=np.ones((60, 80)))
    assert refused("radar") == (
        "error: radar/T_PAAH0025.h5: found 60 × 80 pixels, expected 120 × 160 as in T_PAAH0020.h5"
    )
    assert nowcast("forecast", "radar", "--lead_times=1", "--skip_unusable=true").status == 0
    assert opened()["forecast_reference_time"] == np.datetime64("2020-06-01T00:20")


def test_dry_frames_give_a_dry_forecast(folder):
    for minutes in MINUTES:
        write_frame(folder / "radar", minutes, values=np.zeros((120, 160)))
    done = nowcast("forecast", "radar", "--lead_times=3", "--gif=rain.gif", "--html=rain.html")
    assert done.status == 0, done.err
    assert (opened()["precip_intensity"] == 0).all()


def test_frames_without_any_observation_are_refused(folder):
    for minutes in MINUTES:
        write_frame(folder / "radar", minutes, values=np.full((120, 160), np.nan))
    line = refused("radar")
    assert line == "error: frames: found nothing observed in the last one, of 2020-06-01T00:20:00"


def test_fewer_frames_than_needed_are_refused(folder):
    (folder / "radar/T_PAAH0000.h5").unlink()
    assert refused("radar") == (
        "error: frames: found 4 from 2020-06-01T00:05:00 to 2020-06-01T00:20:00, the network needs "
        "them from 2020-06-01T00:00:00 on (5 at steps of 5 minutes, interpolated over gaps of up "
        "to 15 minutes)"
    )
    line = refused("radar/T_PAAH0020.h5", "--method=optical flow")
    assert line == "error: frames: found 1, expected at least 2 to know their time step"


def test_maps_of_frames_without_a_place_are_refused_and_nothing_is_written(folder):
    rates = xr.DataArray(
        np.ones((3, 20, 30), np.float32),
        dims=("time", "y", "x"),
        coords={
            "time": np.datetime64("2020-06-01", "ns") + 300 * 10**9 * np.arange(3),
            "y": ("y", np.arange(20.0)[::-1], {"units": "m"}),
            "x": ("x", np.arange(30.0), {"units": "m"}),
        },
        name="rainfall_rate",
        attrs={"units": "mm h-1"},
    )
    rates.to_netcdf("nowhere.nc", engine="h5netcdf")
    line = refused("nowhere.nc", "--method=optical flow", "--maps=maps", "--gif=rain.gif")
    assert line.startswith("error: georeference: found no grid mapping")
    assert not {"maps", "rain.gif", "forecast.nc"} & {path.name for path in folder.iterdir()}


def test_an_ensemble_tells_probabilities(folder):
    done = nowcast(
        "forecast", "radar", "--lead_times=2", "--members=4", "--method=optical flow with inflow",
        "--thresholds_mm_h=[1, 5]", "--html=rain.html", "--gif=rain.gif",
    )  # fmt: skip
    assert done.status == 0, done.err
    probability = opened()["exceedance_probability"]
    assert probability["threshold"].to_numpy().tolist() == [1, 5]
    values = probability.to_numpy()
    values = values[~np.isnan(values)]
    assert set(np.unique(values * 4).round(5)) == {0, 1, 2, 3, 4}
    assert (probability[0] >= probability[1]).where(~np.isnan(probability[0]), True).all()
    assert "% " in (folder / "rain.html").read_text() or "%<" in (folder / "rain.html").read_text()


def test_several_checkpoints_are_an_ensemble(folder):
    shutil.copy2(SHIPPED / "convgru-5min.safetensors", "mine.safetensors")
    done = nowcast(
        "forecast", "radar", "--lead_times=1", "--more_checkpoints=[mine.safetensors]",
    )  # fmt: skip
    assert done.status == 0, done.err
    made = opened()
    # Twice the same network: all members agree.
    assert set(np.unique(made["exceedance_probability"].fillna(0))) == {0, 1}
    assert "mine.safetensors (SHA-256" in made.attrs["source"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "found no files and no folder to watch, expected one of them"),
        (["radar", "--watch=radar"], "found files and a folder to watch"),
        (["nowhere"], "nowhere: no such file"),
        (["radar", "--out=rain.tif"], "rain.tif: found .tif at its end"),
        (["radar", "--gif=rain.png"], "rain.png: found .png at its end, expected .gif"),
        (["radar", "--out=null"], "found no product, expected one of out, gif"),
        (["radar", "--checkpoint=mine.ckpt"], "mine.ckpt: found no file, expected a checkpoint"),
        (["radar", "--lead_times=0"], "found lead_times=0, expected at least 1"),
        (["radar", "--members=0"], "members: found 0, expected at least 1"),
        (["radar", "--coverage=grows"], "coverage"),
        (["radar", "--zr_a=200"], "zr_a, zr_b: found one alone, expected both or none"),
        (["radar", "--leadtimes=3"], "leadtimes"),
        (["radar", "--members=2", "--thresholds_mm_h=[2, 1]"], "rain rates above 0 that increase"),
        (["--watch=nowhere"], "nowhere: found no folder, expected one to watch"),
        (["--watch=radar", "--every_seconds=0"], "every_seconds: found 0, expected more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(folder, arguments, message):
    before = contents(folder)
    assert message in refused(*arguments)
    assert contents(folder) == before


def test_settings_come_from_a_file_too(folder):
    (folder / "mine.yaml").write_text(
        "forecast:\n  method: optical flow\n  lead_times: 2\n  out: mine.nc\n"
    )
    done = nowcast("forecast", "radar", "--config=mine.yaml")
    assert (done.status, done.out) == (0, "mine.nc\n"), done.err
    printed = nowcast("forecast", "radar", "--config=mine.yaml", "--print_config")
    assert "method: optical flow" in printed.out
    # What is printed does the same, files and all.
    (folder / "mine.nc").unlink()
    (folder / "printed.yaml").write_text(printed.out)
    done = nowcast("forecast", "--config=printed.yaml")
    assert (done.status, done.out) == (0, "mine.nc\n"), done.err
    (folder / "printed.yaml").write_text("forecast:\n  files: radar\n")
    assert "files" in refused("--config=printed.yaml")


def test_of_files_of_a_service_the_forecast_is_that_of_the_packed_event(shared, folder):
    """KNMI's own files, and the same frames in one NetCDF file."""
    original = shared / "real-radar/original/knmi_hdf5"
    done = nowcast("forecast", original, "--lead_times=2", "--out=original.nc")
    assert done.status == 0, done.err
    with xr.open_dataset(shared / "real-radar/events/knmi_20100826.nc", engine="h5netcdf") as event:
        times = opened("original.nc")["forecast_reference_time"].to_numpy()
        event.sel(time=slice(None, times)).to_netcdf("packed_event.nc", engine="h5netcdf")
    done = nowcast("forecast", "packed_event.nc", "--lead_times=2", "--out=packed.nc")
    assert done.status == 0, done.err
    made, packed = opened("original.nc"), opened("packed.nc")
    made_rates, packed_rates = (one["precip_intensity"].to_numpy() for one in (made, packed))
    # Rounding decides which of two nearly equal pixels gets which of two nearly equal values.
    np.testing.assert_allclose(made_rates, packed_rates, rtol=1e-3, atol=1e-4)
    assert np.isclose(made_rates, packed_rates, rtol=1e-5, equal_nan=True).mean() > 0.9999
    assert json.dumps(made.attrs["source"]) == json.dumps(packed.attrs["source"])
