"""The 2-D CNN against a plain restatement, and what it does beyond its lead times."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.convolutional import ConvolutionalNetwork
from nowcast.models.settings import NetworkSettings

SMALL = NetworkSettings(
    recurrence="none",
    hidden=(6, 5, 4),
    features=(3, 5, 4),
    up_features=(3, 5, 7),
    state_kernels=(5, 3, 3),
)


def plainly(network, frames):
    """One go, written out from the settings: U-shaped, frames as channels."""
    weights, s = network.state_dict(), network.settings

    def layer(name):
        return weights[f"{name}.weight"], weights.get(f"{name}.bias")

    def hidden(name, x, level):
        padding = s.state_kernels[level] // 2
        return functional.leaky_relu(functional.conv2d(x, *layer(name), padding=padding), 0.2)

    forecasts = []
    for clip in frames:
        x = torch.stack(list(clip[:, 0]))[None]
        height, width = x.shape[-2:]
        if s.coordinates:
            columns = torch.tensor([-1 + 2 * i / (width - 1) for i in range(width)]).to(x)
            rows = torch.tensor([-1 + 2 * i / (height - 1) for i in range(height)]).to(x)
            x = torch.cat(
                [
                    x,
                    columns.expand(1, 1, height, width),
                    rows[:, None].expand(1, 1, height, width),
                    torch.ones(1, 1, height, width).to(x),
                ],
                dim=1,
            )
        skips = []
        for level in range(3):
            x = functional.conv2d(
                x, *layer(f"encoder.stages.{level}.down"), stride=s.strides[level], padding=1
            )
            x = functional.leaky_relu(x, 0.2)
            x = hidden(f"encoder.stages.{level}.hidden.convolution", x, level)
            skips.append(x)
        for level in (2, 1, 0):
            joined = x if level == 2 else torch.cat([skips[level], x], dim=1)
            x = hidden(f"forecaster.stages.{level}.hidden.convolution", joined, level)
            x = functional.conv_transpose2d(
                x, *layer(f"forecaster.stages.{level}.up"), stride=s.strides[level], padding=1
            )
            x = functional.leaky_relu(x, 0.2)
        x = functional.conv2d(x, *layer("forecaster.head.0"), padding=1)
        x = functional.conv2d(functional.leaky_relu(x, 0.2), *layer("forecaster.head.2"))
        forecasts.append(x[0][:, None])
    return torch.stack(forecasts)


@pytest.mark.parametrize(
    "settings",
    [SMALL, replace(SMALL, coordinates=False, deconvolution_bias=True, initial_weights="pytorch")],
)
def test_network_equals_the_plain_restatement(settings):
    torch.manual_seed(0)
    network = ConvolutionalNetwork(settings, input_frames=4, lead_times=6).double()
    frames = torch.rand(2, 4, 1, 60, 30, dtype=torch.float64)
    found = network(frames, 6)
    assert found.shape == (2, 6, 1, 60, 30)
    # Coordinates are of single precision.
    torch.testing.assert_close(found, plainly(network, frames), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("forecasts", ["frames", "change", "decay"])
@pytest.mark.parametrize(("input_frames", "lead_times"), [(5, 2), (2, 5)])
def test_beyond_its_lead_times_it_forecasts_from_its_own_forecasts(
    input_frames, lead_times, forecasts
):
    torch.manual_seed(1)
    settings = replace(SMALL, forecasts=forecasts)
    network = ConvolutionalNetwork(settings, input_frames, lead_times).double()
    frames = torch.rand(2, input_frames, 1, 30, 30, dtype=torch.float64) * 3
    frames.requires_grad_()
    known, expected = frames, []
    while len(expected) < 7:
        go = network(known[:, -input_frames:], lead_times)
        expected += list(go.unbind(1))
        known = torch.cat([known, go.clamp(0, 1)], dim=1)
    assert any((frame < 0).any() or (frame > 1).any() for frame in expected)
    for asked in (1, lead_times, 7):
        found = network(frames, asked)
        torch.testing.assert_close(
            found, torch.stack(expected[:asked], dim=1), rtol=1e-12, atol=1e-12
        )
    (gradient,) = torch.autograd.grad(network(frames, 7)[:, -1].sum(), frames)
    assert gradient.any()


def test_another_number_of_frames_is_refused():
    network = ConvolutionalNetwork(SMALL, input_frames=5, lead_times=3)
    for times in (4, 6):
        with pytest.raises(InputError, match=f"found {times} frames, it was built for 5"):
            network(torch.rand(1, times, 1, 30, 30), 3)
    with pytest.raises(InputError, match="found 0 input frames and 3 lead times"):
        ConvolutionalNetwork(SMALL, 0, 3)


def test_forecast_is_clipped_detached_and_keeps_the_mode():
    torch.manual_seed(0)
    network = ConvolutionalNetwork(SMALL, 5, 3).train()
    frames = torch.rand(2, 5, 1, 30, 30) * 20
    assert isinstance(network, NowcastMethod)
    forecast, raw = network.forecast(frames, 3), network(frames, 3)
    assert raw.min() < 0 or raw.max() > 1
    torch.testing.assert_close(forecast, raw.detach().clamp(0, 1), rtol=1e-6, atol=1e-6)
    assert not forecast.requires_grad
    assert network.training


def test_the_benchmarks_form_has_the_parameters_of_its_table():
    """5 → 20 frames with coordinates, channels 64/192/192, kernels 7/5, 5/3, 3/2 and 5, 5, 3."""
    settings = NetworkSettings(
        recurrence="none", features=(64, 192, 192), up_features=(64, 64, 192)
    )
    with torch.device("meta"):
        network = ConvolutionalNetwork(settings, 5, 20)
        assert network(torch.empty(1, 5, 1, 480, 480), 20).shape == (1, 20, 1, 480, 480)
    encoder = (
        (8 * 49 + 1) * 64 + (64 * 25 + 1) * 64
        + (64 * 25 + 1) * 192 + (192 * 25 + 1) * 192
        + (192 * 9 + 1) * 192 + (192 * 9 + 1) * 192
    )  # fmt: skip
    forecaster = (
        (192 * 9 + 1) * 192 + 192 * 192 * 16
        + (384 * 25 + 1) * 192 + 192 * 64 * 25
        + (128 * 25 + 1) * 64 + 64 * 64 * 49
        + (64 * 9 + 1) * 64 + 65 * 20
    )  # fmt: skip
    assert sum(p.numel() for p in network.encoder.parameters()) == encoder
    assert sum(p.numel() for p in network.forecaster.parameters()) == forecaster
