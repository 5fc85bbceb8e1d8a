"""MEmeL layers and hooks behind any convolution of a network, whose activation is in place."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nowcast import memel
from nowcast.models.build import build_network
from nowcast.models.settings import NetworkSettings

CONVGRU = NetworkSettings(hidden=(4, 6, 6), features=(4, 6, 6), up_features=(4, 6, 6))
NETWORKS = {
    "ConvGRU": CONVGRU,
    "TrajGRU": replace(
        CONVGRU, recurrence="TrajGRU", encoder_links=(2, 2, 1), forecaster_links=(2, 2, 1)
    ),
    "none": replace(CONVGRU, recurrence="none"),
}


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_a_layer_behind_each_convolution_and_the_head_trains(settings: NetworkSettings) -> None:
    torch.manual_seed(0)
    network = build_network(settings, 3, 4)
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.LeakyReLU)
    places = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    layers = memel.insert(network, at=places, late_start=0)
    assert len(layers) >= 14
    for _ in range(2):
        network(torch.rand(2, 3, 1, 60, 30), 4).square().sum().backward()
    assert all(layer.calls >= 2 for layer in layers.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_who_looks_at_a_convolution_sees_what_it_gives(settings: NetworkSettings) -> None:
    """Before the activation, though that is in place; and forecasts stay the same."""
    torch.manual_seed(0)
    network = build_network(settings, 3, 4)
    frames = torch.rand(2, 3, 1, 60, 30)
    expected = network(frames, 4)
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda m, args, out: seen.append((m, args[0], out)))
    found = network(frames, 4)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert len({module for module, _, _ in seen}) >= 14
    for module, x, out in seen:
        assert torch.allclose(type(module).forward(module, x), out, rtol=0, atol=1e-6)
