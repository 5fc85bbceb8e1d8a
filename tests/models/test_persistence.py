"""Persistence repeats the last frame, and is a nowcast method."""

import torch

from nowcast.method import NowcastMethod
from nowcast.models.persistence import Persistence


def test_every_lead_time_is_the_last_frame():
    frames = torch.rand(3, 5, 1, 7, 9, generator=torch.Generator().manual_seed(1))
    forecast = Persistence().forecast(frames, 20)
    assert forecast.shape == (3, 20, 1, 7, 9)
    assert forecast.dtype == frames.dtype
    for lead in range(20):
        assert torch.equal(forecast[:, lead], frames[:, 4])


def test_changing_the_forecast_leaves_the_observation_alone():
    frames = torch.rand(1, 2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    before = frames.clone()
    forecast = Persistence().forecast(frames, 2)
    forecast[:, 0] = -1
    assert torch.equal(frames, before)
    assert torch.equal(forecast[:, 1], before[:, -1])


def test_persistence_is_a_nowcast_method_and_a_plain_object_is_not():
    assert isinstance(Persistence(), NowcastMethod)
    assert not isinstance(object(), NowcastMethod)
