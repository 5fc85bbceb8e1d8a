"""Activation checkpointing of the recurrent networks: the same numbers with less kept."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.network import Network
from nowcast.models.parts import WITHOUT_GRADIENT
from nowcast.models.settings import NetworkSettings

CONVGRU = NetworkSettings(hidden=(4, 6, 6), features=(4, 6, 6), up_features=(4, 6, 6))
TRAJGRU = replace(
    CONVGRU, recurrence="TrajGRU", encoder_links=(2, 2, 1), forecaster_links=(2, 2, 1)
)
FRAMES, LEAD_TIMES = 4, 7


def double(settings: NetworkSettings, layers: bool) -> EncoderForecaster:
    torch.manual_seed(0)
    network = EncoderForecaster(settings).double()
    if layers:
        memel.insert(network, network.hidden_states, late_start=0)
    return network


def frames() -> Tensor:
    return torch.rand(2, FRAMES, 1, 60, 30, dtype=torch.float64)


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("layers", [False, True], ids=["plain", "MEmeL"])
@pytest.mark.parametrize("settings", [CONVGRU, TRAJGRU], ids=["ConvGRU", "TrajGRU"])
def test_gradients_and_statistics_are_those_of_a_step_that_keeps_everything(
    settings: NetworkSettings, layers: bool, every: int
) -> None:
    keeping = double(settings, layers)
    recomputing = copy.deepcopy(keeping)
    recomputing.recompute(every)
    for _ in range(2):  # Of MEmeL's, the second call of a layer is the first that selects.
        inputs = frames()
        forecasts = [network(inputs, LEAD_TIMES) for network in (keeping, recomputing)]
        assert torch.allclose(*forecasts, rtol=0, atol=1e-14)
        for forecast in forecasts:
            forecast.square().sum().backward()
    expected = dict(keeping.named_parameters())
    for name, parameter in recomputing.named_parameters():
        wanted, found = expected[name].grad, parameter.grad
        assert wanted is not None, name
        assert found is not None, name
        assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max(), name
    assert len(memel.inserted(keeping)) == (6 if layers else 0)
    for name, buffer in recomputing.named_buffers():
        wanted = keeping.get_buffer(name)
        assert buffer.shape == wanted.shape, name
        assert torch.allclose(buffer, wanted, rtol=1e-10, atol=1e-14), name


def kept_bytes(network: Network, lead_times: int) -> int:
    """What a forecast leaves behind for its backward pass, itself included."""
    inputs = frames()
    with torch.profiler.profile(profile_memory=True) as profiler:
        forecast = network(inputs, lead_times)
    assert forecast.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.events())


def test_of_all_but_the_last_part_forecast_and_states_before_it_are_kept() -> None:
    network = double(CONVGRU, layers=False)
    network(frames(), 1)
    everything = [kept_bytes(network, lead_times) for lead_times in (40, 60)]
    network.recompute(4)
    little = [kept_bytes(network, lead_times) for lead_times in (40, 60)]
    assert little[0] < everything[0] / 4
    batch, number_bytes, parts = 2, 8, 5
    states = 4 * 12 * 6 + 6 * 4 * 2 + 6 * 2 * 1
    expected = batch * number_bytes * (20 * 60 * 30 + parts * states)
    assert little[1] - little[0] == expected
    assert everything[1] - everything[0] > 9 * expected


def test_parts_without_gradient_forecast_what_all_at_once_does() -> None:
    network = double(CONVGRU, layers=False).eval()
    inputs = torch.rand(1, 2 * WITHOUT_GRADIENT + 1, 1, 60, 30, dtype=torch.float64)
    at_once = network(inputs, WITHOUT_GRADIENT + 2)
    with torch.no_grad():
        in_parts = network(inputs, WITHOUT_GRADIENT + 2)
    assert torch.allclose(in_parts, at_once, rtol=0, atol=1e-14)


def test_networks_without_states_refuse() -> None:
    network = build_network(replace(CONVGRU, recurrence="none"), FRAMES, LEAD_TIMES)
    network.recompute(0)
    with pytest.raises(InputError, match=r"^network: found recompute_every = 5 .*, expected 0$"):
        network.recompute(5)
