"""ConvGRU and encoder-forecaster against the reference data and a plain restatement."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.build import build_network
from nowcast.models.convgru import ConvGRU
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.parts import Parts
from nowcast.models.settings import AUTHORS, PORT_2019, NetworkSettings

SMALL = NetworkSettings(hidden=(6, 5, 4), features=(3, 5, 4), up_features=(3, 5, 7))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_convgru_equals_the_reference_with_and_without_input(shared, dtype, tolerance):
    oracle = {
        key: torch.tensor(value, dtype=dtype)
        for key, value in np.load(shared / "oracles" / "convgru.npz").items()
    }
    gru = ConvGRU(inputs=3, hidden=4, state_kernel=5).to(dtype)
    gru.load_state_dict(
        {
            "i2h.weight": oracle["i2h_weight"],
            "i2h.bias": oracle["i2h_bias"],
            "cell.h2h.weight": oracle["h2h_weight"],
            "cell.h2h.bias": oracle["h2h_bias"],
        }
    )
    states, last = gru(oracle["x"], oracle["h0"])
    torch.testing.assert_close(states, oracle["y"], rtol=tolerance, atol=tolerance)
    assert torch.equal(last, states[-1])
    without, _ = gru(None, oracle["h0"], steps=4)
    torch.testing.assert_close(without, oracle["y_no_input"], rtol=tolerance, atol=tolerance)


def plainly(network, frames, lead_times):
    """The same network written step by step, batch entry by batch entry, from section 3.2."""
    s = network.settings

    def step(rnn, x, h):
        h2h = functional.conv2d(
            h, rnn.cell.h2h.weight, rnn.cell.h2h.bias, padding=rnn.cell.h2h.kernel_size[0] // 2
        )
        n = rnn.hidden
        i2h = torch.zeros_like(h2h)
        if x is not None:
            i2h = functional.conv2d(x, rnn.i2h.weight, rnn.i2h.bias, padding=1)
        r = torch.sigmoid(i2h[:, :n] + h2h[:, :n])
        u = torch.sigmoid(i2h[:, n : 2 * n] + h2h[:, n : 2 * n])
        c = i2h[:, 2 * n :] + r * h2h[:, 2 * n :]
        c = torch.tanh(c) if s.bounded_states else functional.leaky_relu(c, 0.2)
        return u * h + (1 - u) * c

    forecasts = []
    for b in range(len(frames)):
        height, width = frames.shape[-2:]
        states = [None] * len(s.hidden)
        for t in range(frames.shape[1]):
            x = frames[b : b + 1, t]
            if s.coordinates:
                columns = torch.tensor(
                    [-1 + 2 * i / (width - 1) for i in range(width)], dtype=x.dtype
                )
                rows = torch.tensor(
                    [-1 + 2 * i / (height - 1) for i in range(height)], dtype=x.dtype
                )
                x = torch.cat(
                    [
                        x,
                        columns.to(x)[None, None, None, :].expand(1, 1, height, width),
                        rows.to(x)[None, None, :, None].expand(1, 1, height, width),
                        torch.ones_like(x),
                    ],
                    dim=1,
                )
            for level, stage in enumerate(network.encoder.stages):
                x = functional.leaky_relu(stage.down(x), 0.2)
                if states[level] is None:
                    states[level] = x.new_zeros(1, s.hidden[level], *x.shape[-2:])
                states[level] = x = step(stage.rnn, x, states[level])
        frames_out = []
        for _ in range(lead_times):
            x = None
            for level in reversed(range(len(s.hidden))):
                stage = network.forecaster.stages[level]
                states[level] = step(stage.rnn, x, states[level])
                x = functional.leaky_relu(stage.up(states[level]), 0.2)
            frames_out.append(network.forecaster.head(x))
        forecasts.append(torch.stack(frames_out, dim=1))
    return torch.cat(forecasts)


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        replace(SMALL, bounded_states=True, forecaster_memory=2.0),
        replace(PORT_2019, hidden=(6, 5, 4), features=(3, 5, 4), up_features=(3, 5, 7)),
    ],
)
def test_network_equals_the_plain_restatement(settings):
    torch.manual_seed(0)
    network = EncoderForecaster(settings).double()
    frames = torch.rand(2, 3, 1, 60, 30, dtype=torch.float64)
    torch.testing.assert_close(
        network(frames, 4), plainly(network, frames, 4), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU"])
def test_a_forecaster_with_memory_forgets_slowly(recurrence):
    """Without what it computes anew, the share u = σ(3) of a state is left after a step."""
    states = {}
    for memory in (0.0, 3.0):
        torch.manual_seed(0)
        network = EncoderForecaster(
            replace(SMALL, recurrence=recurrence, forecaster_memory=memory)
        ).double()
        layer = network.forecaster.stages[-1].rnn
        before = torch.full((1, layer.hidden, 4, 4), 1e-3, dtype=torch.float64)
        after, _ = layer(None, before, steps=1)
        bias = layer.gates.bias[layer.hidden : 2 * layer.hidden]
        assert (bias == memory).all()
        assert (layer.gates.bias.sum() - bias.sum()).item() == 0
        encoder = network.encoder.stages[0].rnn.gates.bias
        assert (encoder == 0).all()
        states[memory] = after[0] - before
    # h' − h = (1 − u)(n − h), with the same n and u = σ(0), σ(3) but for the tiny state's share.
    ratio = states[3.0] / states[0.0]
    expected = (1 - 1 / (1 + math.exp(-3.0))) / 0.5
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected), rtol=0.01, atol=0)


@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU"])
def test_bounded_states_stay_bounded(recurrence):
    """With weights that let those of the benchmark explode."""
    largest = {}
    for bounded in (False, True):
        torch.manual_seed(0)
        network = EncoderForecaster(
            replace(SMALL, coordinates=False, recurrence=recurrence, bounded_states=bounded)
        )
        for stage in network.forecaster.stages:
            stage.rnn.gates.weight.data.mul_(30.0)
        states = network.encoder(torch.rand(3, 1, 1, 60, 30), Parts.of(0, False))
        layer = network.forecaster.stages[-1].rnn
        largest[bounded] = layer(None, states[-1], steps=20)[0].abs().max()
    assert largest[True] <= 1
    assert largest[False] > 4


@pytest.mark.parametrize(
    ("form", "deconvolutions"), [(AUTHORS, (8, 192, 192)), (PORT_2019, (8, 64, 192))]
)
def test_published_forms_have_the_published_shapes(form, deconvolutions):
    with torch.device("meta"):
        network = EncoderForecaster(form)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    inputs = 4 if form is AUTHORS else 1
    assert shapes["encoder.stages.0.down.weight"] == (8, inputs, 7, 7)
    assert shapes["encoder.stages.0.rnn.i2h.weight"] == (192, 8, 3, 3)
    assert shapes["encoder.stages.0.rnn.cell.h2h.weight"] == (192, 64, 5, 5)
    assert shapes["encoder.stages.1.rnn.cell.h2h.weight"] == (576, 192, 5, 5)
    assert shapes["encoder.stages.2.rnn.cell.h2h.weight"] == (576, 192, 3, 3)
    for level, (hidden, kernel) in enumerate(((64, 7), (192, 5), (192, 4))):
        assert shapes[f"forecaster.stages.{level}.up.weight"] == (
            hidden,
            deconvolutions[level],
            kernel,
            kernel,
        )
        assert (f"forecaster.stages.{level}.up.bias" in shapes) == (form is PORT_2019)
    assert "forecaster.stages.2.rnn.i2h.weight" not in shapes
    with torch.device("meta"):
        assert network(torch.empty(1, 5, 1, 480, 480), 20).shape == (1, 20, 1, 480, 480)


def test_authors_weights_have_the_stated_variance_and_zero_biases():
    torch.manual_seed(0)
    network = EncoderForecaster(AUTHORS)
    weights = {
        name: p
        for name, p in network.named_parameters()
        if name.endswith("weight") and p.numel() > 9_000
    }
    assert len(weights) > 10
    for name, weight in weights.items():
        out, into, *kernel = weight.shape
        expected = math.sqrt(2 / (1.04 * (into + out) / 2 * math.prod(kernel)))
        assert weight.std().item() == pytest.approx(expected, rel=0.03), name
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


def test_any_number_of_frames_and_any_sides():
    torch.manual_seed(0)
    network = EncoderForecaster(SMALL)
    for times, lead_times, height, width in ((1, 1, 30, 30), (7, 2, 30, 90), (5, 9, 60, 7)):
        out = network(torch.rand(1, times, 1, height, width), lead_times)
        assert out.shape == (1, lead_times, 1, height, width)


@pytest.mark.parametrize("head_sees_last", [False, True])
@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_beyond_a_grid_that_the_levels_do_not_divide_it_is_dry(recurrence, head_sees_last):
    """As beyond any grid; and the gradient of what is filled up goes nowhere."""
    torch.manual_seed(0)
    settings = replace(SMALL, recurrence=recurrence, head_sees_last=head_sees_last)
    network = build_network(settings, 5, 3)
    frames = torch.rand(2, 5, 1, 47, 60, requires_grad=True)
    found, whole = network(frames, 3), network(functional.pad(frames, (0, 0, 0, 13)), 3)
    assert found.shape == (2, 3, 1, 47, 60)
    assert torch.equal(found, whole[..., :47, :])
    gradients = torch.autograd.grad(found.sum(), frames)[0]
    assert torch.equal(gradients, torch.autograd.grad(whole[..., :47, :].sum(), frames)[0])
    assert (gradients != 0).any()


def test_forecast_is_clipped_detached_and_keeps_the_mode():
    torch.manual_seed(0)
    network = EncoderForecaster(SMALL).train()
    frames = torch.rand(2, 5, 1, 30, 30) * 20
    assert isinstance(network, NowcastMethod)
    forecast = network.forecast(frames, 3)
    raw = network(frames, 3)
    assert raw.min() < 0 or raw.max() > 1
    torch.testing.assert_close(forecast, raw.detach().clamp(0, 1), rtol=1e-6, atol=1e-6)
    assert not forecast.requires_grad
    assert network.training


def test_settings_of_unequal_depth_are_refused():
    with pytest.raises(InputError, match="strides has 2 levels, hidden has 3"):
        NetworkSettings(strides=(5, 3))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"state_kernels": (4, 5, 3)}, "expected odd sizes"),
        ({"up_kernels": (6, 5, 4)}, "kernels 7 down and 6 up, expected 3 to 7 down and 7 up"),
        ({"down_kernels": (8, 5, 3)}, "kernels 8 down"),
    ],
)
def test_kernels_that_do_not_bring_the_size_back_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        NetworkSettings(**wrong)
