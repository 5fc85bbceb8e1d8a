"""TrajGRU against the reference data, SciPy's interpolation and plain restatements."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn import functional

from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.convolutional import ConvolutionalNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.settings import (
    AUTHORS,
    AUTHORS_TRAJGRU,
    PORT_2019_TRAJGRU,
    NetworkSettings,
)
from nowcast.models.trajgru import TrajGRU, TrajGRUCell, warp

SMALL = NetworkSettings(
    recurrence="TrajGRU",
    hidden=(6, 5, 4),
    features=(3, 5, 4),
    up_features=(3, 5, 7),
    encoder_links=(3, 2, 4),
    forecaster_links=(2, 5, 1),
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_trajgru_equals_the_reference_with_and_without_input(shared, dtype):
    oracle = {
        key: torch.tensor(value, dtype=dtype)
        for key, value in np.load(shared / "oracles" / "trajgru.npz").items()
    }
    links, hidden = int(oracle["L"]), oracle["h0"].shape[1]
    layer = TrajGRU(inputs=3, hidden=hidden, links=links).to(dtype)
    # The reference joins the states of the links one after the other; ours the links of a channel.
    order = [link * hidden + channel for channel in range(hidden) for link in range(links)]
    ours = {"i2h": "i2h", "i2f_conv1": "i2f", "h2f_conv1": "cell.h2f", "flows_conv": "cell.flows"}
    state = {
        f"{name}.{kind}": oracle[f"w.{theirs}.{kind}"]
        for theirs, name in ours.items()
        for kind in ("weight", "bias")
    }
    state["cell.ret.weight"] = oracle["w.ret.weight"][:, order]
    state["cell.ret.bias"] = oracle["w.ret.bias"]
    layer.load_state_dict(state)
    states, last = layer(oracle["x"], oracle["h0"])
    assert torch.equal(last, states[-1])
    without, _ = layer(None, oracle["h0"], steps=3)
    for found, key in ((states, "y"), (without, "y_no_input")):
        # The reference is itself in single precision: 2.2e-5 from double, for values up to 5.
        scale = oracle[key].abs().max().item()
        torch.testing.assert_close(found, oracle[key], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("u", "v"), [(0, 0), (2, 0), (0, 3), (-1, 2), (-4, -3), (9, 0)])
def test_a_flow_of_whole_pixels_shifts_the_state_and_brings_in_zeros(u, v):
    torch.manual_seed(0)
    state = torch.rand(2, 3, 7, 8, dtype=torch.float64) + 1
    flows = torch.tensor([u, v, 0, 0], dtype=torch.float64).view(1, 4, 1, 1).expand(2, 4, 7, 8)
    warped = warp(state, flows)
    expected = np.zeros(state.shape)
    for y in range(7):
        for x in range(8):
            if 0 <= y - v < 7 and 0 <= x - u < 8:
                expected[:, :, y, x] = state[:, :, y - v, x - u]
    torch.testing.assert_close(warped[:, :, 0], torch.tensor(expected), rtol=0, atol=1e-12)
    torch.testing.assert_close(warped[:, :, 1], state, rtol=0, atol=1e-12)


def test_a_warp_is_scipys_bilinear_interpolation_with_zeros_outside():
    random = np.random.default_rng(0)
    state, flows = random.normal(size=(2, 3, 9, 12)), 4 * random.normal(size=(2, 10, 9, 12))
    warped = warp(torch.tensor(state), torch.tensor(flows)).numpy()
    rows, columns = np.mgrid[:9, :12]
    for sample, channel, link in np.ndindex(2, 3, 5):
        u, v = flows[sample, 2 * link], flows[sample, 2 * link + 1]
        expected = map_coordinates(
            state[sample, channel], [rows - v, columns - u], order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(warped[sample, channel, link], expected, rtol=0, atol=1e-12)


def test_positions_stay_exact_in_bfloat16():
    """128 pixels from the edge, bfloat16 knows whole pixels only, and normalised not even these."""
    torch.manual_seed(0)
    state = torch.rand(1, 2, 4, 200).bfloat16()
    flows = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 200).bfloat16()
    warped = warp(state, flows)
    assert warped.dtype == torch.bfloat16
    expected = (state[..., 1:].float() + state[..., :-1].float()) / 2
    torch.testing.assert_close(warped[:, :, 0, :, 1:].float(), expected, rtol=2**-8, atol=1e-4)


def test_the_gradient_of_a_cell_is_that_of_finite_differences():
    torch.manual_seed(0)
    cell = TrajGRUCell(hidden=2, links=2).double()
    shapes = ((1, 6, 3, 4), (1, 32, 3, 4), (1, 2, 3, 4))
    i2h, i2f, h = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(lambda a, b, c: cell((a, b), c), (i2h, i2f, h))
    assert torch.autograd.gradcheck(lambda c: cell(None, c), (h,))
    inputs = (i2h.detach(), i2f.detach()), h.detach()
    flows = cell.flows.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(cell, {"flows.weight": weight}, inputs),
        (flows,),
        fast_mode=True,
    )


def test_without_flow_it_is_a_gru_whose_state_is_convolved_1_by_1():
    torch.manual_seed(0)
    layer = TrajGRU(inputs=2, hidden=3, links=4).double()
    torch.nn.init.zeros_(layer.cell.flows.weight)
    torch.nn.init.zeros_(layer.cell.flows.bias)
    x, h = torch.randn(3, 2, 2, 5, 6).double(), torch.randn(2, 3, 5, 6).double()
    states, _ = layer(x, h)
    # All links see the same state: their weights add up.
    weight = layer.cell.ret.weight.detach().reshape(9, 3, 4).sum(2)
    for t in range(3):
        i2h = functional.conv2d(x[t], layer.i2h.weight, layer.i2h.bias, padding=1)
        h2h = torch.einsum("gc,bcyx->bgyx", weight, h) + layer.cell.ret.bias[:, None, None]
        r, u = torch.sigmoid(i2h[:, :3] + h2h[:, :3]), torch.sigmoid(i2h[:, 3:6] + h2h[:, 3:6])
        n = functional.leaky_relu(i2h[:, 6:] + r * h2h[:, 6:], 0.2)
        h = u * h + (1 - u) * n
        torch.testing.assert_close(states[t], h, rtol=1e-10, atol=1e-10)


def convolution(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + outputs


def trajgru(inputs, hidden, links):
    """Parameters of one layer; without input it has none for it."""
    of_input = convolution(inputs, 3 * hidden, 3) + convolution(inputs, 32, 5) if inputs else 0
    return (
        of_input
        + convolution(hidden, 32, 5)
        + convolution(32, 2 * links, 5)
        + convolution(hidden * links, 3 * hidden, 1)
    )


@pytest.mark.parametrize(
    ("form", "inputs", "second_up", "bias", "links"),
    [
        (AUTHORS_TRAJGRU, 4, 192, 0, ((13, 13, 9), (13, 13, 9))),
        (PORT_2019_TRAJGRU, 1, 64, 1, ((13, 13, 9), (9, 13, 13))),
    ],
)
def test_the_published_forms_have_the_parameters_of_the_table(form, inputs, second_up, bias, links):
    with torch.device("meta"):
        network = EncoderForecaster(form)
    encoder = (
        convolution(inputs, 8, 7) + trajgru(8, 64, links[0][0])
        + convolution(64, 192, 5) + trajgru(192, 192, links[0][1])
        + convolution(192, 192, 3) + trajgru(192, 192, links[0][2])
    )  # fmt: skip
    forecaster = (
        trajgru(0, 192, links[1][2]) + 192 * 192 * 16 + bias * 192
        + trajgru(192, 192, links[1][1]) + 192 * second_up * 25 + bias * second_up
        + trajgru(second_up, 64, links[1][0]) + 64 * 8 * 49 + bias * 8
        + convolution(8, 8, 3) + convolution(8, 1, 1)
    )  # fmt: skip
    counts = [sum(p.numel() for p in part.parameters())
              for part in (network.encoder, network.forecaster)]  # fmt: skip
    assert counts == [encoder, forecaster]
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shapes["encoder.stages.0.rnn.cell.ret.weight"] == (192, 832, 1, 1)
    with torch.device("meta"):
        assert network(torch.empty(1, 2, 1, 480, 480), 1).shape == (1, 1, 1, 480, 480)


def test_links_of_the_authors_form_start_at_the_pixel_itself():
    torch.manual_seed(0)
    for form, still in (("authors", True), ("pytorch", False)):
        network = EncoderForecaster(replace(SMALL, initial_weights=form))
        cells = [module for module in network.modules() if isinstance(module, TrajGRUCell)]
        assert len(cells) == 6
        for cell in cells:
            assert cell.flows.weight.any().item() != still
            assert cell.flows.bias.any().item() != still
    frames = torch.rand(1, 2, 1, 60, 60)
    network = EncoderForecaster(SMALL)
    network(frames, 2).square().sum().backward()
    # They are not stuck there.
    assert all(cell.flows.weight.grad.any() for cell in network.modules()
               if isinstance(cell, TrajGRUCell))  # fmt: skip


def test_any_number_of_frames_and_a_forecast_that_is_clipped():
    torch.manual_seed(0)
    network = EncoderForecaster(SMALL).train()
    for times, lead_times, height, width in ((1, 1, 30, 30), (7, 2, 30, 90), (5, 4, 100, 7)):
        out = network(torch.rand(1, times, 1, height, width), lead_times)
        assert out.shape == (1, lead_times, 1, height, width)
    frames = torch.rand(2, 5, 1, 30, 30) * 20
    forecast, raw = network.forecast(frames, 3), network(frames, 3).detach()
    assert raw.min() < 0 or raw.max() > 1
    torch.testing.assert_close(forecast, raw.clamp(0, 1), rtol=1e-5, atol=1e-5)
    assert not forecast.requires_grad
    assert network.training


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recurrence": "LSTM"}, "recurrence is 'LSTM', expected one of ConvGRU, TrajGRU, none"),
        ({"encoder_links": (5, 5, 5)}, "encoder_links is .*, which recurrence ConvGRU has no use"),
        ({"recurrence": "none", "forecaster_links": (9, 13, 13)}, "recurrence none has no use for"),
        ({"recurrence": "none", "forecaster_memory": 3.0}, "forecaster_memory is 3.0, which recur"),
        ({"recurrence": "none", "bounded_states": True}, "bounded_states is True, which recur"),
        ({"forecaster_memory": float("nan")}, "forecaster_memory is nan, expected a number"),
        ({"forecaster_memory": "3"}, "forecaster_memory is '3', expected a number"),
        ({"forecasts": "Decay"}, "forecasts is 'Decay', expected one of frames, change, decay"),
        ({"initial_weights": None}, "initial_weights is None, expected one of authors, pytorch"),
        ({"along_flow": "false"}, "along_flow is 'false', expected true or false"),
        ({"hidden": [4.0, 6.0, 6.0]}, r"hidden is \(4.0, 6.0, 6.0\), expected whole numbers"),
        ({"hidden": (4, 6, True)}, r"hidden is \(4, 6, True\), expected whole numbers"),
        ({"hidden": (4, 6, 10**7)}, "expected values above 0 and up to 65,536"),
        ({"hidden": 64}, "hidden is 64, expected whole numbers"),
        ({"hidden": ()}, "hidden has 0 levels, expected 1 to 16"),
        (
            {"recurrence": "TrajGRU", "state_kernels": (3, 3, 3)},
            "state_kernels is .*, which recurrence TrajGRU has no use for",
        ),
        ({"recurrence": "TrajGRU", "encoder_links": (5, 5)}, "encoder_links has 2 levels"),
        ({"recurrence": "TrajGRU", "encoder_links": (5, 0, 5)}, "expected values above 0"),
    ],
)
def test_settings_that_the_recurrence_does_not_read_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        NetworkSettings(**settings)


def test_the_settings_decide_which_network_is_built():
    with torch.device("meta"):
        assert isinstance(build_network(AUTHORS, 5, 20), EncoderForecaster)
        assert build_network(AUTHORS, 5, 20).hidden_states == (
            "encoder.stages.*.rnn.cell", "forecaster.stages.*.rnn.cell",
        )  # fmt: skip
        assert isinstance(build_network(AUTHORS_TRAJGRU, 5, 20), EncoderForecaster)
        cnn = build_network(NetworkSettings(recurrence="none"), 5, 20)
    assert isinstance(cnn, ConvolutionalNetwork)
    assert (cnn.input_frames, cnn.lead_times) == (5, 20)
    with pytest.raises(ValueError, match="no recurrent layer 'none'"):
        EncoderForecaster(NetworkSettings(recurrence="none"))
    shallow = NetworkSettings(
        recurrence="TrajGRU", hidden=(4, 4), features=(2, 4), up_features=(2, 4), strides=(5, 3),
        down_kernels=(7, 5), up_kernels=(7, 5), encoder_links=(2, 2), forecaster_links=(2, 2),
    )  # fmt: skip
    assert EncoderForecaster(shallow)(torch.rand(1, 2, 1, 30, 30), 2).shape == (1, 2, 1, 30, 30)
