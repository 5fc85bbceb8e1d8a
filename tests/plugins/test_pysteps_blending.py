"""pysteps blends our forecasts with a weather model's: by their name, or as an array."""

from datetime import datetime

import numpy as np
import pytest

import nowcast
from nowcast.plugins import register
from nowcast.plugins.pysteps_nowcasts import convgru, dis_flow

pysteps = pytest.importorskip("pysteps", reason="pysteps is not installed")

IN_DECIBELS = {"unit": "mm/h", "transform": "dB", "threshold": -10.0, "zerovalue": -15.0}


@pytest.fixture(scope="module")
def decibels(shared):
    """Rain over Finland in dB, 120 × 120 pixels of 1 km, 11 frames; a strip without data."""
    frames = nowcast.read_frames(shared / "real-radar/events/fmi_20160928.nc", last=26)
    rates = frames[:11, 740:860, 300:420].to_numpy().astype(float)
    found = np.where(rates >= 0.1, 10 * np.log10(np.maximum(rates, 0.1)), -15.0)
    found[:, :, :5] = np.nan
    return found


@pytest.fixture(scope="module", autouse=True)
def registered():
    assert "convgru" in register()


def test_linear_blending_by_name(decibels):
    """From our forecast alone at 10 minutes to the model alone at 20, by weights linear in time."""
    model = np.linspace(0, 4, 6)[:, None, None] + np.zeros((6, 120, 120))
    in_mm_h = {"unit": "mm/h", "transform": None, "threshold": 0.1, "zerovalue": 0.0}
    found = pysteps.blending.linear_blending.forecast(
        decibels[:5], IN_DECIBELS, None, 6, 5, "convgru", model, in_mm_h,
        start_blending=10, end_blending=20, nowcast_kwargs={"metadata": IN_DECIBELS},
    )  # fmt: skip
    # It asks for no more than the 4 steps that it blends.
    ours = convgru(decibels[:5], None, 4, transform="dB")
    rates = np.where(ours >= -10, 10 ** (ours / 10), 0.0)
    rates = np.where(np.isnan(ours), model[:4], rates)
    weight = np.array([0, 0, 0.5, 1])[:, None, None]
    np.testing.assert_allclose(
        found[:4], (1 - weight) * rates + weight * model[:4], rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(found[4:], model[4:])
    assert (rates[1] > 0.5).mean() > 0.2


def test_without_a_model_linear_blending_is_our_forecast(decibels):
    rates = np.where(decibels[:5] >= -10, 10 ** (decibels[:5] / 10), decibels[:5] * 0)
    in_mm_h = {"unit": "mm/h", "transform": None, "threshold": 0.1, "zerovalue": 0.0}
    found = pysteps.blending.linear_blending.forecast(
        rates, in_mm_h, None, 3, 5, "dis_flow", nowcast_kwargs={"timestep": 5}
    )
    expected = pysteps.nowcasts.get_method("dis_flow")(rates, None, 3)
    np.testing.assert_array_equal(found, expected)


def test_linear_blending_of_an_ensemble(decibels):
    """Each member with the model, by half at 15 minutes; the model where members are missing."""
    model = np.linspace(0, 4, 4)[:, None, None] + np.zeros((4, 120, 120))
    in_mm_h = {"unit": "mm/h", "transform": None, "threshold": 0.1, "zerovalue": 0.0}
    ensemble = {"metadata": IN_DECIBELS, "n_ens_members": 3, "seed": 5}
    found = pysteps.blending.linear_blending.forecast(
        decibels[:5], IN_DECIBELS, None, 4, 5, "dis_flow", model, in_mm_h,
        start_blending=10, end_blending=20, nowcast_kwargs=ensemble,
    )  # fmt: skip
    members = dis_flow(decibels[:5], None, 4, **ensemble)
    rates = np.where(members >= -10, 10 ** (members / 10), 0.0)
    rates = np.where(np.isnan(members), model, rates)
    weight = np.array([0, 0, 0.5, 1])[:, None, None]
    assert found.shape == (3, 4, 120, 120)
    np.testing.assert_allclose(found, (1 - weight) * rates + weight * model, rtol=1e-12, atol=1e-12)


def test_steps_blending_takes_it_as_an_external_nowcast(decibels, tmp_path, monkeypatch):
    """At first nearly our forecast, then more and more of a model that is 10 pixels off."""
    monkeypatch.chdir(tmp_path)  # It keeps the skill of the past in files.
    steps, full = 6, np.nan_to_num(decibels, nan=-15.0)
    ours = convgru(full[:5], None, steps, transform="dB", seed=0, kmperpixel=1.0)
    model = np.roll(full[4 : 5 + steps], 10, axis=2)
    motion = pysteps.motion.get_method("LK")(full[:5])
    found = pysteps.blending.steps.forecast(
        precip=full[2:5],
        precip_models=model[None],
        velocity=motion,
        velocity_models=np.stack([motion] * (steps + 1))[None],
        timesteps=steps,
        timestep=5.0,
        issuetime=datetime(2016, 9, 28, 16),
        n_ens_members=1,
        precip_nowcast=np.concatenate([full[4:5], ours])[None],
        nowcasting_method="external_nowcast",
        precip_thr=-10.0,
        kmperpixel=1.0,
        noise_method=None,
        vel_pert_method=None,
        mask_method=None,
        probmatching_method=None,
        outdir_path_skill=str(tmp_path / "skill"),
    )
    assert found.shape == (1, steps, 120, 120)
    assert np.isfinite(found).all()
    missing = np.isnan(ours)
    assert 0.03 < missing[0].mean() < missing[-1].mean() < 0.5

    def likeness(one, other, where):
        return np.corrcoef(one[where], other[where])[0, 1]

    ours_seen = [likeness(found[0, k], ours[k], ~missing[k]) for k in range(steps)]
    model_seen = [likeness(found[0, k], model[k + 1], ~missing[k]) for k in (0, 5)]
    assert ours_seen[0] > 0.9
    assert ours_seen[0] > ours_seen[-1] > model_seen[-1]
    # Where air comes in that no radar saw, the model alone.
    for k in range(steps):
        assert likeness(found[0, k], model[k + 1], missing[k]) > 0.99
