"""Ensembles of perturbed inputs and of several methods."""

import dataclasses

import numpy as np
import pytest
import torch

import nowcast
from nowcast.errors import InputError
from nowcast.method import EnsembleMethod, MemberByMember
from nowcast.models import ensembles
from nowcast.models.checkpoint import Description, TrainedNetwork
from nowcast.models.ensembles import PerturbedInputs, SeveralMethods
from nowcast.models.motion import estimate_motion
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.models.settings import NetworkSettings
from nowcast.radar.units import pixel_to_rain_rate


def shower(steps=4, speed=2.0, shape=(64, 96)):
    """(1, time, 1, y, x): a shower that moves right."""
    y, x = np.indices(shape, dtype=np.float64)
    frames = [
        np.clip(0.7 - 0.002 * ((x - 30 - speed * t) ** 2 + (y - 32) ** 2), 0, 1)
        for t in range(steps)
    ]
    return torch.from_numpy(np.stack(frames).astype(np.float32))[None, :, None]


class Recorder:
    def __init__(self):
        self.seen = []

    def forecast(self, frames, lead_times):
        self.seen.append(frames[0, :, 0].numpy())
        return frames[:, -1:].repeat(1, lead_times, 1, 1, 1)


@pytest.fixture
def no_intensity_error(monkeypatch):
    monkeypatch.setattr(ensembles, "INTENSITY_ERROR_DB", 0.0)


def test_the_last_frame_stays_where_it_is_and_the_motion_is_another(no_intensity_error):
    recorder, frames = Recorder(), shower()
    PerturbedInputs(recorder, members=60, seed=1).forecast_members(frames, 1)
    wet = frames[0, -1, 0].numpy() > 0.3
    motions = []
    for seen in recorder.seen:
        np.testing.assert_array_equal(seen[-1], frames[0, -1, 0])
        motions.append(estimate_motion(seen)[:, wet].mean(axis=1))
    east, south = np.transpose(motions)
    # 0.4 of 2 pixels; of 60 draws mean and deviation are off by 0.1 and 0.07 with a third's chance.
    assert east.mean() == pytest.approx(2.0, abs=0.3)
    assert south.mean() == pytest.approx(0.0, abs=0.3)
    assert east.std() == pytest.approx(0.8, abs=0.25)
    assert south.std() == pytest.approx(0.8, abs=0.25)


def test_intensity_is_perturbed_by_so_many_db_and_dry_stays_dry():
    frames = torch.full((1, 2, 1, 200, 200), 0.5)
    frames[..., :50] = 0.0
    recorder = Recorder()
    PerturbedInputs(recorder, members=10).forecast_members(frames, 1)
    for seen in recorder.seen:
        assert (seen[-1, :, :50] == 0).all()
        # The same in every frame, up to the shift; still rain has 0.25 pixels per step.
        np.testing.assert_allclose(seen[0, :, 60:], seen[1, :, 60:], atol=0.02)
    decibels = 70 * (np.stack(recorder.seen)[:, -1, :, 50:] - 0.5)
    assert decibels.mean() == pytest.approx(0, abs=0.15)
    assert decibels.std() == pytest.approx(ensembles.INTENSITY_ERROR_DB, rel=0.1)
    neighbours = np.diff(decibels, axis=2).std() / decibels.std()
    # Noise smoothed by a Gaussian of length L has correlation exp(−d² / 4 L²).
    assert neighbours == pytest.approx(np.sqrt(2 * (1 - np.exp(-1 / (4 * 8.0**2)))), rel=0.1)


def test_members_are_decided_by_the_seed_alone():
    frames = shower()
    first, again, other = (
        PerturbedInputs(OpticalFlow(), members=3, seed=seed).forecast_members(frames, 2)
        for seed in (5, 5, 6)
    )
    assert first.shape == (1, 3, 2, 1, 64, 96)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])
    # A member is the same however many there are, and whatever else is in the batch.
    more = PerturbedInputs(OpticalFlow(), members=5, seed=5).forecast_members(
        torch.cat([frames, shower(speed=1.0)]), 2
    )
    assert torch.equal(more[:1, :3], first)


def test_the_forecast_is_the_mean_of_the_members_rain_rates():
    ensemble = PerturbedInputs(OpticalFlow(), members=4)
    members = ensemble.forecast_members(shower(), 3).double()
    rates = torch.where(members > 0, pixel_to_rain_rate(members), 0.0).mean(dim=1)
    found = ensemble.forecast(shower(), 3).double()
    found = torch.where(found > 0, pixel_to_rain_rate(found), 0.0)
    # Below pixel value 0, 0.017 mm/h, there is no rain in pixel values.
    torch.testing.assert_close(found, torch.where(rates > 0.018, rates, 0.0), rtol=1e-4, atol=0.018)


def test_several_methods_are_members_in_their_order():
    perturbed = PerturbedInputs(OpticalFlow(), members=2)
    several = SeveralMethods([Persistence(), perturbed])
    frames = shower()
    members = several.forecast_members(frames, 2)
    assert torch.equal(members[:, 0], Persistence().forecast(frames, 2))
    assert torch.equal(members[:, 1:], perturbed.forecast_members(frames, 2))
    for ensemble in (several, perturbed):
        assert isinstance(ensemble, EnsembleMethod)
        assert isinstance(ensemble, MemberByMember)


def trained(**changes):
    about = {"step_minutes": 5, "input_frames": 5, "lead_times": 20, "frame_shape": (64, 96)}
    description = Description(NetworkSettings(), **about, inhibition=None, run={})
    return TrainedNetwork(Persistence(), dataclasses.replace(description, **changes))


def test_what_cannot_be_an_ensemble_is_refused():
    with pytest.raises(InputError, match="found members=0, seed=0"):
        PerturbedInputs(Persistence(), members=0)
    with pytest.raises(InputError, match="found no methods"):
        SeveralMethods([])
    with pytest.raises(InputError, match="5 every 5 minutes") as error:
        SeveralMethods([trained(), trained(step_minutes=6)])
    assert "5 every 6 minutes" in str(error.value)
    assert SeveralMethods([trained(), trained()]).description == trained().description


def test_dry_frames_have_dry_members():
    members = PerturbedInputs(OpticalFlow(), members=2).forecast_members(
        torch.zeros(1, 3, 1, 20, 20), 2
    )
    assert (members == 0).all()


def test_on_real_rain_the_spread_is_of_the_size_of_the_error(shared):
    """What the members differ by is what the mean is wrong by: within half and twice."""
    from nowcast.radar.units import rain_rate_to_pixel
    from nowcast.verification import EnsembleScores

    rates = nowcast.read_frames(shared / "real-radar/events/knmi_20100826.nc")
    rates = rates[10:26, :760, :700].coarsen(y=4, x=4).mean().to_numpy()
    known = ~np.isnan(rates)
    pixels = rain_rate_to_pixel(np.where(known, rates, 0)).clip(0, 1).astype(np.float32)
    pixels, mask = (torch.from_numpy(one)[None, :, None] for one in (pixels, known))
    scores = EnsembleScores(12, 8, (0.5,))
    ensemble = PerturbedInputs(OpticalFlow(inflow="edge"), members=8)
    scores.update(ensemble.forecast_members(pixels[:, :4], 12), pixels[:, 4:], mask[:, 4:])
    found = scores.compute()
    assert (found["spread_skill_ratio"] > 0.5).all()
    assert (found["spread_skill_ratio"] < 2.0).all()
    single = EnsembleScores(12, 1, (0.5,))
    single.update(
        OpticalFlow(inflow="edge").forecast(pixels[:, :4], 12)[:, None], pixels[:, 4:], mask[:, 4:]
    )
    # An ensemble of one has the mean absolute error for its CRPS.
    assert found["crps_mm_h"].mean() < 0.9 * single.compute()["crps_mm_h"].mean()
