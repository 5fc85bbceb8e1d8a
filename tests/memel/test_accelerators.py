"""Layers on accelerators, where counts are never read back: the same as on the CPU.

There the layer computes with tensors where it has numbers on the CPU. Here that is done on the CPU,
and on an accelerator too where there is one.
"""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nowcast import memel
from nowcast.memel import MEmeL, layer

CASES = {
    "top 1": {},
    "top 3, older samples decay": {"top": 3, "delta": 0.3, "forget_step": 3},
    "top 2 per batch": {"top": 2, "per": "batch", "delta": 5.0},
    "naive (b)": {"delta": -1.0},
    "share": {"share": 0.2, "delta": 0.3},
    "channels": {"neurons": "channel", "top": 2},
    "last": {"neurons": "last", "share": 0.1},
}


@pytest.fixture(params=["cpu", "cuda"][: 1 + torch.cuda.is_available()])
def unread(request, monkeypatch):
    """Device on which counts stay tensors."""
    if request.param == "cpu":
        monkeypatch.setattr(layer, "number", lambda scalar, eager: scalar)
    return request.param


def inputs():
    generator = torch.Generator().manual_seed(0)
    for call in range(8):
        # The first calls bring one sample; then as many as there may be.
        z = torch.randn(1 if call < 2 else 2 + call % 3, 4, 5, generator=generator).double()
        yield z, torch.rand(len(z), generator=generator) < 0.6


def results(settings, late_start, masked, device):
    torch.manual_seed(0)
    one = MEmeL(late_start=late_start, **settings).to(device)
    found = []
    for z, mask in inputs():
        z = z.to(device).requires_grad_()
        out = one(z, mask.to(device) if masked else None)
        out.square().sum().backward()
        found += [out.detach(), z.grad, *(s.clone() for s in one.state_dict().values())]
    return [tensor.cpu() for tensor in found]


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("late_start", [0, 4])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_it_is_the_same(settings, late_start, masked, unread, monkeypatch):
    found = results(settings, late_start, masked, unread)
    monkeypatch.undo()
    expected = results(settings, late_start, masked, "cpu")
    assert len(found) == len(expected) > 8
    for got, wanted in zip(found, expected, strict=True):
        loose = 1e-6 if wanted.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(got, wanted, rtol=loose, atol=loose)


@pytest.mark.parametrize("settings", [{}, {"top": 3}, {"share": 0.2}], ids=str)
def test_training_with_checkpoints_is_that_without(settings, unread):
    def trained(around):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)).double().to(unread)
        memel.insert(model, "0", late_start=2, **settings)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            x = torch.randn(7, 5, dtype=torch.float64).to(unread)
            optimizer.zero_grad()
            around(model, x).square().mean().backward()
            optimizer.step()
        return model.state_dict().values()

    expected = trained(lambda model, x: model(x))
    found = trained(lambda model, x: checkpoint(model, x, use_reentrant=False))
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
