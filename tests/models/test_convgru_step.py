"""The fused ConvGRU step against autograd's own way, and what it leaves alone."""

import copy

import pytest
import torch
from torch import Tensor

from nowcast import memel
from nowcast.benchmarks.plain import plain_copy, plain_forward
from nowcast.models import convgru_step
from nowcast.models.convgru import ConvGRU
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.settings import NetworkSettings

SMALL = NetworkSettings(hidden=(4, 6, 6), features=(4, 6, 6), up_features=(4, 6, 6))


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pixels_at_once", [1, 60, 10**6])
def test_gradients_are_those_of_the_plain_network(
    pixels_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weight gradients made step by step, of a few steps, or of the whole sequence."""
    monkeypatch.setattr(convgru_step, "PIXELS_AT_ONCE", pixels_at_once)
    torch.manual_seed(0)
    network = EncoderForecaster(SMALL).double()
    plain = plain_copy(network)
    frames = torch.rand(2, 3, 1, 60, 30, dtype=torch.float64)
    ours, theirs = network(frames, 4), plain_forward(plain, frames, 4, inputs_at_once=False)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-14)
    for forecast in (ours, theirs):
        forecast.square().sum().backward()
    expected = gradients(plain)
    assert gradients(network).keys() == expected.keys() == dict(plain.named_parameters()).keys()
    for name, gradient in gradients(network).items():
        error = (gradient - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-12, name


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("with_state", [True, False])
def test_derivatives_are_right(with_state: bool, bounded: bool) -> None:
    """Against finite differences, for input, state and weights."""
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3, bounded=bounded).double()
    x = torch.randn(2, 1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    h = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True) if with_state else None
    weight = layer.cell.h2h.weight

    def run(x: Tensor, h: Tensor | None, weight: Tensor) -> Tensor:
        return layer(x, h)[0]

    assert torch.autograd.gradcheck(run, (x, h, weight))
    if h is not None:
        assert torch.autograd.gradcheck(lambda h: layer(None, h, steps=3)[0], (h,))


@pytest.mark.parametrize("bounded", [False, True])
def test_a_hook_on_the_convolution_is_still_called(bounded: bool) -> None:
    """Whoever looks at the convolution's calls sees each, and results stay the same."""
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3, bounded=bounded).double()
    watched = copy.deepcopy(layer)
    calls = []
    watched.cell.h2h.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(4, 1, 2, 6, 6, dtype=torch.float64)
    for each in (layer, watched):
        each(x)[0].square().sum().backward()
    assert len(calls) == 3  # The first step has no state to convolve.
    assert len(gradients(layer)) == 4
    for name, gradient in gradients(watched).items():
        assert torch.allclose(gradient, gradients(layer)[name], rtol=1e-12, atol=1e-14), name


def test_layers_behind_the_convolution_are_called() -> None:
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3)
    (inserted,) = memel.insert(layer, at=["cell.h2h"], late_start=0).values()
    layer(torch.randn(4, 2, 2, 6, 6))
    assert int(inserted.calls) == 3


def test_autocast_gradients_are_near_those_in_float64() -> None:
    """In bfloat16 the weight gradient is off by no more than autograd's own way."""
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=8, state_kernel=3)
    exact = copy.deepcopy(layer).double()
    stepwise = copy.deepcopy(layer)
    stepwise.cell.h2h.register_forward_hook(lambda *_: None)
    x = torch.randn(12, 2, 2, 8, 8)
    exact(x.double())[0].square().sum().backward()
    errors = []
    for each in (layer, stepwise):
        with torch.autocast("cpu", torch.bfloat16):
            states = each(x)[0]
        assert states.dtype == torch.bfloat16
        states.float().square().sum().backward()
        gradient, true = each.cell.h2h.weight.grad, exact.cell.h2h.weight.grad
        assert gradient is not None
        assert true is not None
        assert gradient.dtype == torch.float32
        errors.append(float((gradient - true).norm() / true.norm()))
    assert errors[0] < 0.02
    assert errors[0] < 1.1 * errors[1]


def test_of_frozen_weights_no_gradient_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3).double()
    x = torch.randn(3, 1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(x)[0].square().sum(), x)
    layer.cell.h2h.requires_grad_(False)
    monkeypatch.setattr(convgru_step, "conv2d_weight", None)
    layer(x)[0].square().sum().backward()
    assert layer.cell.h2h.weight.grad is None
    assert x.grad is not None
    assert torch.allclose(x.grad, expected, rtol=1e-12, atol=1e-14)


def test_a_second_derivative_is_refused_and_a_hook_brings_it_back() -> None:
    """It would leave the state-to-state convolution out."""
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3).double()
    x = torch.randn(2, 1, 2, 4, 4, dtype=torch.float64)
    weight = layer.cell.h2h.weight
    with pytest.raises(RuntimeError, match=r"^ConvGRU: found a backward pass with create_graph"):
        torch.autograd.grad(layer(x)[0].square().sum(), weight, create_graph=True)
    layer.cell.h2h.register_forward_hook(lambda *_: None)

    def penalty(weight: Tensor) -> Tensor:
        states = torch.func.functional_call(layer, {"cell.h2h.weight": weight}, (x,))[0]
        (gradient,) = torch.autograd.grad(states.square().sum(), weight, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, weight)


def test_a_state_in_float32_may_start_a_sequence_under_autocast() -> None:
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3)
    x, h = torch.randn(3, 1, 2, 6, 6), torch.randn(1, 3, 6, 6, requires_grad=True)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            states = layer(x, h)[0]
        inputs = (layer.cell.h2h.weight, h)
        found[dtype] = torch.autograd.grad(states.float().square().sum(), inputs)
    for exact, rounded in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_a_convolution_of_another_kind_is_used_as_it_is() -> None:
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3)
    layer.cell.h2h = torch.nn.Conv2d(3, 9, 3, padding=1, padding_mode="circular")
    watched = copy.deepcopy(layer)
    watched.cell.h2h.register_forward_hook(lambda *_: None)
    x = torch.randn(3, 1, 2, 6, 6)
    assert torch.equal(layer(x)[0], watched(x)[0])


def test_a_second_backward_pass_counts_nothing_twice() -> None:
    """After one that did not reach the weights, and after one that did."""
    torch.manual_seed(0)
    layer = ConvGRU(inputs=2, hidden=3, state_kernel=3).double()
    x = torch.randn(3, 1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    loss = layer(x)[0].square().sum()
    weight = layer.cell.h2h.weight
    torch.autograd.grad(loss, x, retain_graph=True)
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, weight)
    assert torch.equal(first, kept)
    assert torch.equal(second, kept)
    layer.cell.h2h.register_forward_hook(lambda *_: None)
    (expected,) = torch.autograd.grad(layer(x)[0].square().sum(), weight)
    assert torch.allclose(kept, expected, rtol=1e-12, atol=1e-14)
