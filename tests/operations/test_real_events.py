"""Every real event, from its first frames, at its full grid, as a meteorologist would do it."""

import numpy as np
import pytest
import xarray as xr
from as_user import nowcast as command
from cf_checker import complaints
from page_player import Player
from PIL import Image

import nowcast

LEAD_TIMES = 20
EVENTS = [
    "knmi_20100826",
    *(
        pytest.param(name, marks=pytest.mark.full)  # Up to a minute each.
        for name in (
            "fmi_20160928",
            "fmi_20170509",
            "mrms_20190610_crop",
            "opera_cirrus_20241126_crop",
        )
    ),
]


@pytest.fixture
def first_frames(request, shared, tmp_path):
    """A file of the frames of an event's first 20 minutes, and all its frames."""
    path = shared / f"real-radar/events/{request.param}.nc"
    with xr.open_dataset(path, engine="h5netcdf", decode_coords="all") as event:
        last = event["time"][0] + np.timedelta64(20, "m")
        event.sel(time=slice(None, last)).to_netcdf(tmp_path / "first.nc", engine="h5netcdf")
    return tmp_path / "first.nc", nowcast.read_frames(path)


@pytest.mark.slow
@pytest.mark.parametrize("first_frames", EVENTS, indirect=True)
def test_a_real_event_is_forecast_written_and_shown(first_frames, tmp_path, browser):
    path, observed = first_frames
    files = {name: tmp_path / f"forecast.{name}" for name in ("nc", "gif", "html")}
    done = command(
        "forecast", path, "--out", files["nc"], "--gif", files["gif"], "--html", files["html"]
    )
    assert done.status == 0, done.err

    assert complaints(files["nc"], tmp_path) == {}
    with xr.open_dataset(files["nc"], decode_coords="all", decode_timedelta=True) as made:
        field = made["precip_intensity"].load()
        assert field.shape == (LEAD_TIMES, *observed.shape[1:])
        assert field.encoding["grid_mapping"] in made.coords
        assert made["forecast_reference_time"] == observed["time"][0] + np.timedelta64(20, "m")
    in_half_an_hour = observed.sel(time=field["time"][5].to_numpy()).to_numpy()
    last = observed.sel(time=field["time"][0].to_numpy() - np.timedelta64(5, "m")).to_numpy()
    known = ~np.isnan(in_half_an_hour) & ~np.isnan(field[5].to_numpy()) & ~np.isnan(last)
    assert known.mean() > 0.2

    def csi(forecast):
        said, was = forecast[known] >= 0.5, in_half_an_hour[known] >= 0.5
        return (said & was).sum() / (said | was).sum()

    assert csi(field[5].to_numpy()) > csi(last) + 0.02

    with Image.open(files["gif"]) as gif:
        assert gif.n_frames >= 5 + LEAD_TIMES
        shown = []
        for frame in (0, gif.n_frames // 2, gif.n_frames - 1):
            gif.seek(frame)
            shown.append(np.asarray(gif.convert("RGB")))
    assert not np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[1], shown[2])

    browser.get(files["html"].as_uri())
    player = Player(browser)
    player.pause()
    slider, pictures = player.find("input"), set()
    for number in (0, 4, LEAD_TIMES):
        browser.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input'))", slider, number,
        )  # fmt: skip
        player.wait_for(lambda player, number=number: player.frame == number)
        pictures.add(tuple(player.shown))
    assert len(pictures) == 3
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []
    browser.save_screenshot(str(tmp_path / "page.png"))
