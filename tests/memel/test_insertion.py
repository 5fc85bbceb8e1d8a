"""Inserting MEmeL layers into models and removing them."""

import copy

import pytest
import torch
from torch import nn

from nowcast import memel


class Recurrent(nn.Module):
    """A cell that is called several times per step, like a ConvGRU's."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for _ in range(5):
            x = torch.tanh(self.cell(x))
        return self.head(x)


def test_layers_follow_the_named_modules_and_count_every_call():
    model = Recurrent()
    layers = memel.insert(model, at=["cell"], late_start=0)
    assert list(layers) == ["cell"]
    assert memel.inserted(model) == layers
    for _ in range(3):
        model(torch.randn(6, 4))
    assert layers["cell"].calls == 15
    assert "cell.memel.mean" in model.state_dict()


def test_the_inhibited_output_is_what_the_rest_of_the_model_sees():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Identity())
    layer = memel.insert(model, at=["0"], late_start=0)["0"]
    model(torch.randn(8, 3))
    x = torch.randn(8, 3)
    plain = nn.functional.linear(x, model[0].weight, model[0].bias)
    out = model(x)
    assert ((out != plain).sum(1) == 1).all()
    assert layer.calls == 2


def test_globs_nested_models_and_tuples():
    class Pair(nn.Module):
        def forward(self, x):
            return x * 2, "state"

    model = nn.ModuleDict({"a": nn.Sequential(Pair(), nn.ReLU()), "b": nn.Sequential(Pair())})
    layers = memel.insert(model, at=["*.0"], late_start=0)
    assert sorted(layers) == ["a.0", "b.0"]
    pair = model["a"][0]
    pair(torch.randn(8, 3))
    x = torch.randn(8, 3)
    out, state = pair(x)
    assert state == "state"
    assert ((out != 2 * x).sum(1) == 1).all()


def test_after_remove_the_model_computes_what_it_did_before():
    torch.manual_seed(0)
    model = Recurrent()
    x = torch.randn(6, 4)
    before, names = model(x), list(model.state_dict())
    memel.insert(model, at=["cell"], late_start=0)
    for _ in range(3):
        model(x)
    assert not torch.equal(model(x), before)
    memel.remove(model)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
    assert not model.cell._forward_hooks


def test_a_deep_copy_has_layers_of_its_own():
    model = Recurrent()
    memel.insert(model, at=["cell"])
    twin = copy.deepcopy(model)
    twin(torch.randn(2, 4))
    assert memel.inserted(twin)["cell"].calls == 5
    assert memel.inserted(model)["cell"].calls == 0
    memel.remove(twin)
    assert memel.inserted(model)


def test_wrong_insertions_are_refused_and_change_nothing():
    model = Recurrent()
    with pytest.raises(ValueError, match=r"no module is called 'sell'; there is cell, head"):
        memel.insert(model, at=["cell", "sell"])
    with pytest.raises(ValueError, match="top must be at least 1"):
        memel.insert(model, at=["cell"], top=0)
    assert not memel.inserted(model)
    memel.insert(model, at=["cell"])
    with pytest.raises(ValueError, match="already at cell"):
        memel.insert(model, at=["*"])
    assert list(memel.inserted(model)) == ["cell"]


def test_an_output_that_is_no_tensor_is_refused():
    class Text(nn.Module):
        def forward(self, x):
            return "text"

    model = nn.Sequential(Text())
    memel.insert(model, at=["0"])
    with pytest.raises(TypeError, match="Text returns str, expected a tensor"):
        model(torch.zeros(1))
