"""Activation checkpointing calls modules twice; training goes on as if it called them once."""

import copy
import gc
import io

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nowcast import memel
from nowcast.memel.decision import Decision

SETTINGS = {
    "top 1": {},
    "top 3": {"top": 3, "delta": 2.0},
    "top 2 per batch": {"top": 2, "per": "batch"},
    "share": {"share": 0.2},
}


def recompute(function, *arguments):
    return checkpoint(function, *arguments, use_reentrant=False)


def at_once(function, *arguments):
    return function(*arguments)


class Recurrent(nn.Module):
    """A cell that is called six times per step, each time on another state or always on the same.

    Args:
        around_call: how each call, with the head that reads it, is carried out.
        around_half: how three calls together are carried out.
        state: "moves", or "stays" the same in all calls, or is "constant" whatever the input is.
    """

    def __init__(self, around_call=at_once, around_half=at_once, state="moves"):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.Linear(6, 6)
        self.head = nn.Linear(6, 6)
        self.around_call, self.around_half, self.state = around_call, around_half, state

    def call(self, x, y):
        z = self.cell(torch.zeros_like(x) if self.state == "constant" else x)
        return torch.tanh(z if self.state == "moves" else x), y + torch.tanh(self.head(z)) ** 2

    def half(self, x, y):
        for _ in range(3):
            new_x, y = self.around_call(self.call, x, y)
            x = new_x if self.state == "moves" else x
        return x, y

    def forward(self, x):
        y = torch.zeros_like(x)
        for _ in range(2):
            x, y = self.around_half(self.half, x, y)
        return y


def train(model, layer, steps=5, before_backward=lambda: None):
    """Weights and statistics after some steps of training, and the losses."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        loss = (model(torch.randn(5, 6, generator=generator)) - 0.3).square().mean()
        before_backward()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*model.state_dict().values(), *layer.state_dict().values(), torch.stack(losses)]


def trained(settings, late_start=7, frozen=(), **model_settings):
    model = Recurrent(**model_settings)
    layer = memel.insert(model, ["cell"], late_start=late_start, **settings)["cell"]
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    return train(model, layer)


def assert_identical(results, expected):
    for got, wanted in zip(results, expected, strict=True):
        assert torch.equal(got, wanted)


EACH = {"around_call": recompute}
THREE = {"around_half": recompute}
CASES = {
    "one for each call": (EACH, "moves"),
    "one around three calls": (THREE, "moves"),
    "one in another": (EACH | THREE, "moves"),
    "one for each call, all on the same": (EACH, "stays"),
    "one around three calls, all on the same": (THREE, "stays"),
    "one for each call, all constant": (EACH, "constant"),
    "one around three calls, all constant": (THREE, "constant"),
}
checkpointed = pytest.mark.parametrize(("checkpoints", "state"), CASES.values(), ids=CASES)


@checkpointed
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_training_with_checkpoints_is_identical_to_training_without(settings, checkpoints, state):
    expected = trained(settings, state=state)
    assert_identical(trained(settings, state=state, **checkpoints), expected)
    # It does matter what the layer does.
    assert not torch.equal(trained(settings, late_start=10**6, state=state)[-1], expected[-1])


@checkpointed
def test_activations_that_need_no_gradient_are_repeated_too(checkpoints, state):
    """The layer stands behind frozen weights, in a checkpoint with others that are trained."""
    expected = trained({}, frozen=["cell"], state=state)
    assert_identical(trained({}, frozen=["cell"], state=state, **checkpoints), expected)


@pytest.mark.parametrize("around", [at_once, recompute])
def test_activations_computed_without_gradient_in_a_checkpoint_are_repeated_too(around):
    class Frozen(Recurrent):
        def call(self, x, y):
            with torch.no_grad():
                z = self.cell(x)
            return x, y + torch.tanh(self.head(z)) ** 2

    results = []
    for around_call in (at_once, around):
        model = Frozen(around_call=around_call)
        layer = memel.insert(model, ["cell"], late_start=2)["cell"]
        results.append(train(model, layer))
    assert_identical(*results)


@checkpointed
def test_a_second_backward_pass_through_the_same_graph_gives_the_same(checkpoints, state):
    def gradients(**model_settings):
        model = Recurrent(state=state, **model_settings)
        memel.insert(model, ["cell"], late_start=0)
        model(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
        loss = model(torch.randn(5, 6, generator=torch.Generator().manual_seed(2))).sum()
        passes = []
        for _ in range(3):
            model.zero_grad()
            loss.backward(retain_graph=True)
            passes.append([p.grad for p in model.parameters()])
        return passes

    expected = gradients()
    for results in gradients(**checkpoints):
        assert_identical(results, expected[0])


def test_tensors_saved_on_the_cpu_change_nothing():
    expected = trained({"top": 3})
    model = Recurrent(around_half=recompute)
    layer = memel.insert(model, ["cell"], late_start=7, top=3)["cell"]
    with torch.autograd.graph.save_on_cpu():
        results = train(model, layer)
    assert_identical(results, expected)
    model = Recurrent()
    layer = memel.insert(model, ["cell"], late_start=7, top=3)["cell"]
    with torch.autograd.graph.save_on_cpu():
        results = train(model, layer)
    assert_identical(results, expected)


def test_reentrant_checkpoints_are_refused_in_one_line():
    model = Recurrent(around_half=lambda f, *a: checkpoint(f, *a, use_reentrant=True))
    memel.insert(model, ["cell"])
    loss = model(torch.randn(5, 6, requires_grad=True)).sum()
    with pytest.raises(RuntimeError, match="works with use_reentrant=False") as refusal:
        loss.backward()
    assert str(refusal.value).startswith("MEmeL: ")
    assert "\n" not in str(refusal.value)


def test_padding_that_is_not_a_number_is_repeated_too():
    class Padded(nn.Module):
        def __init__(self, around):
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.head, self.around = nn.Linear(6, 6), nn.Linear(6, 6), around

        def call(self, x):
            return torch.tanh(self.head(self.cell(x)))

        def forward(self, x, mask=None):
            return self.around(self.call, x)[mask]

    x, mask = torch.randn(4, 5, 6), torch.arange(5) < torch.tensor([[5], [3], [2], [4]])
    x[~mask] = float("nan")
    results = []
    for around in (at_once, recompute):
        model = Padded(around)
        layers = memel.insert(model, ["cell"], mask="mask", neurons="last", late_start=1)
        for _ in range(3):
            model(x, mask).sum().backward()
        # The head of padding has no part in the loss, but 0 · NaN is in its gradients' sums.
        results.append([model.cell.bias.grad.isnan(), *layers["cell"].state_dict().values()])
    assert_identical(*results)


def decisions_alive():
    return sum(type(each) is Decision for each in gc.get_objects())


@pytest.mark.parametrize("frozen", [(), ("cell",)])
def test_decisions_do_not_pile_up(frozen):
    before = decisions_alive()
    model = Recurrent(around_half=recompute)
    model.get_submodule("cell").requires_grad_(not frozen)
    layer = memel.insert(model, ["cell"], late_start=0)["cell"]
    kept = []
    train(model, layer, 3, before_backward=lambda: kept.append(decisions_alive() - before))
    assert kept == [6] * 3
    assert decisions_alive() == before
    # Nor those of a pass of which no gradient is asked.
    loss = model(torch.randn(5, 6)).sum()
    assert decisions_alive() == before + 6
    del loss
    assert decisions_alive() == before


def test_without_checkpoints_no_decision_outlives_its_call():
    before = decisions_alive()
    model = Recurrent()
    memel.insert(model, ["cell"], late_start=0)
    loss = model(torch.randn(5, 6)).sum()
    assert decisions_alive() == before
    loss.backward()


def test_a_model_is_copied_and_pickled_between_forward_and_backward():
    model = Recurrent(state="stays")
    layer = memel.insert(model, ["cell"], late_start=3, share=0.2)["cell"]
    train(model, layer)
    loss = recompute(model, torch.randn(5, 6)).sum()
    copied = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    pickled = torch.load(file, weights_only=False)
    loss.backward()
    model.zero_grad()
    expected = train(model, layer)
    for twin in (copied, pickled):
        twin_layer = memel.inserted(twin)["cell"]
        assert twin_layer is not layer
        assert_identical(train(twin, twin_layer), expected)
        memel.remove(twin)
        assert not memel.inserted(twin)
    assert memel.inserted(model)


def test_without_gradient_a_model_in_training_mode_counts_and_inhibits():
    model = Recurrent()
    layer = memel.insert(model, ["cell"], late_start=0)["cell"]
    seen = []
    model.cell.register_forward_hook(lambda module, args, z: seen.append((args[0], z)))
    with torch.no_grad():
        model(torch.randn(5, 6))
    assert layer.calls == 6
    assert layer.count == 30
    for x, z in seen[1:]:
        assert not z.requires_grad
        plain = nn.functional.linear(x, model.cell.weight, model.cell.bias)
        assert ((z != plain).sum(1) == 1).all()
