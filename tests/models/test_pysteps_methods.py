"""pysteps through our protocol against pysteps called directly, and what it does on odd clips."""

import importlib.util
import logging
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from nowcast.errors import InputError
from nowcast.method import EnsembleMethod, NowcastMethod
from nowcast.models.pysteps_memory import available_bytes, needed_bytes
from nowcast.models.pysteps_methods import NAMES, pysteps_method
from nowcast.radar.event_sources import open_event
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

pytest.importorskip("pysteps", reason="pysteps is an extra")

MEMBERS, LEAD_TIMES, SEED = 3, 3, 24
CASCADES = NAMES[1:]


def made(name, **settings):
    return pysteps_method(
        name, **{"step_minutes": 5, "grid_spacing_km": 1.0, "members": MEMBERS, **settings}
    )


def as_pixels(rain_rates):
    """(time, y, x) in mm/h to frames of one clip; 0 is dry, NaN stays."""
    with np.errstate(divide="ignore"):
        pixels = rain_rate_to_pixel(np.asarray(rain_rates, np.float64)).clip(0, 1)
    return torch.tensor(pixels, dtype=torch.float32)[None, :, None]


def as_rain_rates(pixels):
    """Pixel values to mm/h as the methods are to see them."""
    pixels = pixels.numpy().astype(np.float64)
    rates = np.where(pixels > 0, pixel_to_rain_rate(pixels), np.where(np.isnan(pixels), np.nan, 0))
    return rates


def thresholded(rates):
    return np.where(rates < 0.1, 0.0, rates)


def blobs(size=96, frames=5, speed=2):
    """Two showers that move right by `speed` pixels per frame, and a flicker on them."""
    y, x = np.mgrid[:size, :size]
    flicker = 1 + 0.2 * np.random.default_rng(3).standard_normal((frames, size, size))
    rain = [
        8 * np.exp(-((x - 30 - speed * t) ** 2 + (y - 30) ** 2) / 120)
        + 3 * np.exp(-((x - 40 - speed * t) ** 2 / 300 + (y - 66) ** 2 / 90))
        for t in range(frames)
    ]
    return np.abs(np.stack(rain) * flicker)


def assert_same_mm_h(found, expected):
    """Equal to 1e-5; below pixel value 0 (0.017 mm/h) nothing can be said."""
    expected = np.nan_to_num(expected)
    expected = np.where(expected < float(pixel_to_rain_rate(0.0)), 0.0, expected)
    np.testing.assert_allclose(as_rain_rates(found), expected, rtol=1e-5, atol=1e-5)
    assert (expected > 0).mean() > 0.02


@pytest.fixture(scope="module")
def baseline(shared):
    """The measured baselines' own calls of pysteps."""
    path = shared / "baselines" / "baseline.py"
    spec = importlib.util.spec_from_file_location("measured_baseline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.N_OUT = LEAD_TIMES
    return module


@pytest.fixture(scope="module")
def shower(shared):
    """Five frames of FMI 2016-09-28 up to 16:00, 192 × 192 pixels without gaps."""
    event = open_event(shared / "real-radar" / "events" / "fmi_20160928.nc")
    rates = event.reader.taken(range(11, 16)).rain_rates(Counter())
    frames = as_pixels([frame[560:752, 300:492] for frame in rates])
    assert torch.isfinite(frames).all()
    return frames


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs"),
    [("extrapolation", "lk_extrap"), ("S-PROG", "sprog"), ("ANVIL", "anvil"), ("STEPS", "steps3")],
)
def test_real_event_as_pysteps_called_directly(name, theirs, baseline, shower, capsys):
    rates = as_rain_rates(shower[0, :, 0])
    method = made(name, seed=SEED)
    estimate_motion, nowcast = baseline.run(theirs, rates, 5.0)
    expected = nowcast(estimate_motion())
    capsys.readouterr()
    if name == "STEPS":
        members = method.forecast_members(shower, LEAD_TIMES)
        assert_same_mm_h(members[0, :, :, 0], expected)
        expected = np.nan_to_num(expected.astype(np.float64)).mean(axis=0)
    assert_same_mm_h(method.forecast(shower, LEAD_TIMES)[0, :, 0], expected)
    assert not method.replaced
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_moving_showers_as_pysteps_called_directly(name, gap, capsys):
    from pysteps import motion, nowcasts
    from pysteps.utils.transformation import dB_transform

    frames = as_pixels(blobs())
    if gap:
        frames[..., :20, :] = float("nan")
    rates = as_rain_rates(frames[0, :, 0])
    decibels, _ = dB_transform(rates, threshold=0.1, zerovalue=-15.0)
    velocity = motion.get_method("LK")(decibels)
    if name == "extrapolation":
        expected = nowcasts.get_method("extrapolation")(rates[-1], velocity, LEAD_TIMES)
    elif name == "ANVIL":
        expected = nowcasts.get_method("anvil")(
            rates[-4:], velocity, LEAD_TIMES, n_cascade_levels=8, ar_window_radius=50
        )
    elif name == "S-PROG":
        expected = nowcasts.get_method("sprog")(
            decibels[-3:], velocity, LEAD_TIMES, precip_thr=-10.0
        )
    elif name == "S-PROG mean":
        expected = nowcasts.get_method("sprog")(
            decibels[-3:], velocity, LEAD_TIMES, precip_thr=-10.0, probmatching_method=None
        )
    else:
        expected = nowcasts.get_method("steps")(
            decibels[-3:],
            velocity,
            LEAD_TIMES,
            n_ens_members=MEMBERS,
            precip_thr=-10.0,
            kmperpixel=2.0,
            timestep=6.0,
            seed=7,
        )
    if name in ("S-PROG", "S-PROG mean", "STEPS"):
        expected, _ = dB_transform(expected, threshold=-10.0, zerovalue=0.0, inverse=True)
    method = made(name, step_minutes=6.0, grid_spacing_km=2.0, seed=7)
    if name == "STEPS":
        found = method.forecast_members(frames, LEAD_TIMES)[0, :, :, 0]
    else:
        found = method.forecast(frames, LEAD_TIMES)[0, :, 0]
    assert_same_mm_h(found, expected)
    assert not method.replaced


@pytest.mark.parametrize("name", NAMES)
def test_showers_move_on_as_they_moved(name):
    rain = blobs(speed=2)
    rain[:, 48:] = 0
    forecast = made(name).forecast(as_pixels(rain), 4)[0, :, 0]
    rates = np.concatenate([thresholded(rain[-1:]), as_rain_rates(forecast)])
    centre = (rates.sum(axis=1) * np.arange(96)).sum(axis=1) / rates.sum(axis=(1, 2))
    # The motion of STEPS is perturbed.
    np.testing.assert_allclose(np.diff(centre), 2.0, atol=0.8 if name == "STEPS" else 0.5)


def test_what_is_an_ensemble():
    for name in NAMES:
        method = made(name)
        assert isinstance(method, NowcastMethod)
        assert isinstance(method, EnsembleMethod) == (name == "STEPS")


def test_mean_of_members_is_of_their_rain_rates():
    frames = as_pixels(blobs(64))
    method = made("STEPS", members=4)
    members = method.forecast_members(frames, 2)
    assert members.shape == (1, 4, 2, 1, 64, 64)
    mean = as_rain_rates(members).mean(axis=1)
    # A mean below pixel value 0 is 0.
    mean = np.where(mean < float(pixel_to_rain_rate(0.0)), 0.0, mean)
    np.testing.assert_allclose(as_rain_rates(method.forecast(frames, 2)), mean, rtol=2e-6, atol=0)
    assert len({member.numpy().tobytes() for member in members[0]}) == 4


def test_ensemble_depends_on_its_seed_and_its_clip_alone():
    one, other = as_pixels(blobs(48)), as_pixels(blobs(48, speed=1))
    np.random.seed(5)  # noqa: NPY002
    expected_next = np.random.RandomState(5).rand()
    method = made("STEPS", members=2, seed=3)
    alone = method.forecast_members(one, 2)
    assert np.random.rand() == expected_next  # noqa: NPY002
    both = method.forecast_members(torch.cat([other, one]), 2)
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[:1], alone)
    assert torch.equal(made("STEPS", members=2, seed=3).forecast_members(one, 2), alone)
    assert not torch.equal(made("STEPS", members=2, seed=4).forecast_members(one, 2), alone)


@pytest.mark.parametrize("name", NAMES)
def test_no_rain_stays_no_rain(name, caplog):
    caplog.set_level(logging.INFO, logger="nowcast")
    dry, faint, unseen = torch.zeros(1, 5, 1, 32, 32), as_pixels(blobs(32)), as_pixels(blobs(32))
    faint[:, -1] = float(rain_rate_to_pixel(0.09))
    unseen[:, -1] = float("nan")
    method = made(name)
    forecast = method.forecast(torch.cat([dry, faint, unseen, dry * float("nan")]), 2)
    assert forecast.shape == (4, 2, 1, 32, 32)
    moved = [1] if name in ("extrapolation", "ANVIL") else []
    assert [index for index, clip in enumerate(forecast) if clip.any()] == moved
    # Rain so faint may be lost by a cascade; a dry clip is forecast as what it is.
    assert sum(method.replaced.values()) <= len(moved)
    assert len(caplog.records) == len(method.replaced)


def odd_clips():
    still = np.repeat(thresholded(blobs(48))[:1], 5, axis=0)
    begins = blobs(48)
    begins[:-1] = 0
    pixel = np.zeros((5, 48, 48))
    pixel[np.arange(5), 20, 20 + np.arange(5)] = 1.0
    everywhere = np.ones((5, 48, 48))
    unseen = blobs(48)
    unseen[-2] = np.nan
    return {
        "still": still,
        "begins": begins,
        "pixel": pixel,
        "everywhere": everywhere,
        "unseen": unseen,
    }


@pytest.mark.parametrize("name", CASCADES)
@pytest.mark.parametrize("clip", list(odd_clips()))
def test_where_no_cascade_can_be_estimated_it_extrapolates(name, clip, caplog):
    frames = as_pixels(odd_clips()[clip])
    method = made(name)
    forecast = method.forecast(torch.cat([frames, frames]), 2)
    extrapolated = made("extrapolation").forecast(frames, 2)
    assert torch.isfinite(forecast).all()
    assert extrapolated[0, 0].any()
    if method.replaced:
        np.testing.assert_allclose(forecast[:1], extrapolated, atol=1e-6)
        assert torch.equal(forecast[0], forecast[1])
        [(reason, count)] = method.replaced.items()
        assert "extrapolation instead" in reason
        assert count == 2
        assert len(caplog.records) == 1
    else:
        # It had a forecast of its own, which does not lose the rain.
        assert forecast[0, 0].any()
    if clip in ("still", "begins", "everywhere"):
        assert method.replaced


def test_stays_off_the_terminal_and_is_imported_late():
    code = """
import sys, torch
from nowcast.models.pysteps_methods import NAMES, pysteps_method
assert "pysteps" not in sys.modules and "matplotlib" not in sys.modules
frames = torch.rand(1, 5, 1, 32, 32)
for name in NAMES:
    pysteps_method(name, step_minutes=5, grid_spacing_km=1, members=2).forecast(frames, 1)
assert "pysteps" in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    assert run.stderr == ""


def test_without_pysteps(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysteps", None)
    with pytest.raises(InputError, match=r"^pysteps is not installed: pip install 'nowcast\["):
        made("extrapolation")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "LINDA"}, "found the method 'LINDA', expected one of extrapolation, S-PROG"),
        ({"grid_spacing_km": None}, "grid spacing in km"),
        ({"grid_spacing_km": 0.0}, "found grid_spacing_km=0.0, expected a positive number"),
        ({"step_minutes": float("nan")}, "found step_minutes=nan, expected a positive number"),
        ({"members": 0}, "found members=0, seed=0, expected at least 1 member"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        made(**{"name": "STEPS", **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "needed"), [("extrapolation", 2), ("S-PROG", 3), ("ANVIL", 4), ("STEPS", 3)]
)
def test_too_few_frames(name, needed):
    method, frames = made(name), as_pixels(blobs(32))
    with pytest.raises(InputError, match=rf"\(1, {needed - 1}, 1, 32, 32\).* {needed} frames$"):
        method.forecast(frames[:, : needed - 1], 2)
    assert method.forecast(frames[:, -needed:], 2).shape == (1, 2, 1, 32, 32)
    with pytest.raises(InputError, match="found 0 lead times"):
        method.forecast(frames, 0)


def test_a_level_that_does_not_change_is_none_to_estimate_either(monkeypatch):
    """Singular or not stationary: which error pysteps raises for it is a matter of rounding."""
    method = made("S-PROG")

    autoregression = pytest.importorskip("pysteps.timeseries.autoregression")

    def not_stationary(*arguments, **settings):
        return autoregression.estimate_ar_params_yw(np.array([1.0, 0.5]) - 1e-12)

    with pytest.raises(RuntimeError, match="nonstationary"):
        not_stationary()
    monkeypatch.setattr(method, "_nowcast", not_stationary)
    frames = as_pixels(blobs(48))
    extrapolated = made("extrapolation").forecast(frames, 2)
    np.testing.assert_allclose(method.forecast(frames, 2), extrapolated, atol=1e-6)
    assert method.replaced.total() == 1


def test_errors_of_pysteps_in_one_line(monkeypatch):
    method = made("S-PROG")

    def broken(*arguments, **settings):
        raise TypeError("unexpected\n keyword")

    monkeypatch.setattr(method, "_nowcast", broken)
    with pytest.raises(InputError, match=r"^pysteps S-PROG: TypeError: unexpected keyword$"):
        method.forecast(as_pixels(blobs(32)), 2)


def test_refuses_what_memory_cannot_hold():
    frames = torch.zeros(1, 3, 1, 1, 1).expand(1, 3, 1, 50_000, 50_000)
    with pytest.raises(InputError) as caught:
        made("STEPS", members=100).forecast_members(frames, 20)
    message = str(caught.value)
    assert message.startswith("pysteps STEPS of 20 lead times on 50000 × 50000 pixels, 100 members")
    assert "GB of memory, found" in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", ["ANVIL", "STEPS"])
def test_memory_is_estimated_not_far_above_what_is_needed(name):
    code = f"""
import numpy as np, torch
from nowcast.models.pysteps_methods import pysteps_method
torch.set_num_threads(1)
def kilobytes(what):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])
y, x = np.mgrid[:400, :400]
rain = np.stack([np.sin((x - t) / 23) + np.sin(y / 31) for t in range(4)])
rain = rain + 0.2 * np.random.default_rng(0).standard_normal(rain.shape)
frames = torch.from_numpy(np.where(rain > 0.5, 0.3 + 0.1 * rain, 0)).float()[None, :, None]
method = pysteps_method({name!r}, step_minutes=5, grid_spacing_km=1, members=3)
before = kilobytes("VmRSS")
(method.forecast_members if {name!r} == "STEPS" else method.forecast)(frames, 4)
assert not method.replaced
print(1024 * (kilobytes("VmHWM") - before))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    members = MEMBERS if name == "STEPS" else 1
    estimate = needed_bytes(
        name, (400, 400), frames=4, lead_times=4, members=members, forecasts=members
    )
    assert 1.0 <= estimate / int(run.stdout) <= 1.6


def group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def test_memory_left_is_the_least_that_any_limit_leaves(tmp_path):
    assert available_bytes(tmp_path) > 2**20
    group(tmp_path / "proc", {"meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB"})
    assert available_bytes(tmp_path) == 5000 * 1024
    group(tmp_path / "proc" / "self", {"cgroup": "4:memory:/a/b\n1:cpu:/\n0::/c/d"})
    assert available_bytes(tmp_path) == 5000 * 1024
    second = tmp_path / "sys" / "fs" / "cgroup"
    group(
        second / "c",
        {"memory.max": 4_000_000, "memory.current": 1_500_000, "memory.stat": "inactive_file 100"},
    )
    group(
        second / "c" / "d",
        {"memory.max": "max", "memory.current": 1_000_000, "memory.stat": "inactive_file 100"},
    )
    assert available_bytes(tmp_path) == 2_500_100
    group(
        second / "memory",
        {
            "memory.limit_in_bytes": 900_000,
            "memory.usage_in_bytes": 1_000_000,
            "memory.stat": "total_inactive_file 200000",
        },
    )
    assert available_bytes(tmp_path) == 100_000
