"""The decrease ratio and total update ratio of a training step against a restatement."""

import copy

import pytest
import torch
from torch import nn

from nowcast import memel


class Recurrent(nn.Module):
    """A cell called four times."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(7, 7)
        self.after = nn.Identity()
        self.head = nn.Linear(7, 1)

    def forward(self, state):
        for _ in range(4):
            state = self.after(torch.tanh(self.cell(state)))
        return self.head(state)


def model_with_statistics(**settings):
    torch.manual_seed(1)
    model = Recurrent().double()
    layer = memel.insert(model, ["after"], late_start=0, **settings)["after"]
    for _ in range(5):
        model(torch.randn(9, 7, dtype=torch.float64))
    return model, layer


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("delta", [None, 1.0, 0.0])
def test_both_ratios_are_those_of_the_same_neurons_by_the_statistics_before(optimizer, delta):
    model, layer = model_with_statistics()
    if delta is None:
        layer.late_start = 10**6
    else:
        layer.delta = delta
    mean, variance = layer.mean.clone(), layer.variance.clone()
    x = torch.randn(5, 7, dtype=torch.float64)
    before = copy.deepcopy(model)
    chosen = []  # The statistics move on from call to call; a twin tells what was chosen.
    twin = memel.inserted(before)["after"]
    twin.observer = lambda z, decision: chosen.append(
        (decision.selected[:, 0], decision.mean[:, 0])
    )
    before(x)
    twin.observer = None
    probe = memel.UpdateProbe(model)
    step = optimizer(model.parameters(), lr=1e-2)
    with probe.before_step():
        loss = model(x).square().sum()
    loss.backward()
    step.step()
    statistics = layer.mean.clone(), layer.calls.clone()
    with probe.after_step(), torch.no_grad():
        model(x)
    effect = probe.effect()

    def values(network):
        state, out = x, []
        rows = torch.arange(len(x))
        for neurons, means in chosen:
            state = torch.tanh(nn.functional.linear(state, network.cell.weight, network.cell.bias))
            out.append((state[rows, neurons], mean[neurons], variance[neurons]))
            if delta is not None:
                state = state.clone()
                state[rows, neurons] = means
        z, means, variances = (torch.cat(part) for part in zip(*out, strict=True))
        return z, (z - means) ** 2 / (variances + layer.epsilon * variance.mean())

    with torch.no_grad():
        z, phi = values(before)
        z_after, phi_after = values(model)
    assert len(effect.z) == 4 * 5
    torch.testing.assert_close(effect.z, z, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(effect.z_after, z_after, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(effect.phi, phi, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(effect.decrease_ratio, 1 - phi_after / phi, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(effect.update_ratio, (z_after / z - 1).abs(), rtol=1e-9, atol=1e-12)
    assert not torch.equal(effect.z, effect.z_after)
    # The second pass leaves the statistics, and the layer goes on as before.
    assert torch.equal(layer.mean, statistics[0])
    assert torch.equal(layer.calls, statistics[1])
    assert layer.script is None
    assert layer.observer is None


def test_a_step_that_changes_nothing_has_no_effect():
    model, _ = model_with_statistics(top=3)
    x = torch.randn(5, 7, dtype=torch.float64)
    probe = memel.UpdateProbe(model)
    with probe.before_step():
        model(x)
    with probe.after_step():
        model(x)
    effect = probe.effect()
    assert len(effect.z) == 4 * 5 * 3
    assert torch.equal(effect.decrease_ratio, torch.zeros(60, dtype=torch.float64))
    assert torch.equal(effect.update_ratio, torch.zeros(60, dtype=torch.float64))


def test_the_neurons_above_a_moving_threshold_are_probed_too():
    model, layer = model_with_statistics(share=0.2)
    x = torch.randn(5, 7, dtype=torch.float64)
    seen = []
    probe = memel.UpdateProbe(model)
    with probe.before_step():
        layer_seen, inner = seen, layer.observer
        layer.observer = lambda z, decision: (
            inner(z, decision),
            layer_seen.append(int(decision.selected.sum())),
        )
        model(x)
    with torch.no_grad():
        model.cell.bias += 0.01
    with probe.after_step():
        model(x)
    effect = probe.effect()
    assert sum(seen) == len(effect.z) > 0
    assert (effect.update_ratio > 0).all()


def test_layers_are_told_apart_by_name():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    memel.insert(model, ["1", "2"], late_start=0, top=2)
    model(torch.randn(8, 3))
    probe = memel.UpdateProbe(model)
    with probe.before_step():
        model(torch.zeros(6, 3))
    with probe.after_step():
        model(torch.zeros(6, 3))
    effect = probe.effect()
    assert effect.names == ("1", "2")
    assert effect.layer.tolist() == [0] * 12 + [1] * 12


def test_what_cannot_be_probed_is_refused():
    with pytest.raises(ValueError, match="no layers to probe"):
        memel.UpdateProbe(nn.Linear(2, 2))
    model = nn.Sequential(nn.Linear(3, 4))
    memel.insert(model, ["0"])
    with pytest.raises(ValueError, match="the layer at 0 has collected no statistics yet"):
        memel.UpdateProbe(model)
    model(torch.randn(4, 3))
    probe = memel.UpdateProbe(model)
    with probe.before_step():
        model(torch.randn(4, 3))
    with pytest.raises(ValueError, match="called 1 times before the step and 0 times after"):
        probe.effect()


def test_activations_of_exactly_zero_give_numbers():
    effect = memel.UpdateEffect(
        ("a",),
        torch.zeros(4, dtype=torch.int64),
        z=torch.tensor([0.0, 0.0, 2.0, 2.0]),
        z_after=torch.tensor([0.0, 1.0, 2.0, 1.0]),
        phi=torch.tensor([0.0, 4.0, 4.0, 4.0]),
        phi_after=torch.tensor([0.0, 4.0, 4.0, 1.0]),
    )
    assert effect.update_ratio.tolist() == [0.0, float("inf"), 0.0, 0.5]
    assert effect.decrease_ratio.tolist() == [0.0, 0.0, 0.0, 0.75]


def test_padding_is_not_among_what_was_selected():
    torch.manual_seed(0)
    layer_of = nn.Sequential(nn.Identity())
    layer = memel.insert(layer_of, ["0"], top=6, neurons="last", late_start=0)["0"]
    layer_of(torch.randn(5, 3, 4))
    layer.mask = torch.tensor([[True, False, False], [True, True, True]])
    z = torch.randn(2, 3, 4)
    probe = memel.UpdateProbe(layer_of)
    with probe.before_step():
        layer_of(z)
    with probe.after_step():
        layer_of(z)
    assert len(probe.effect().z) == 4 + 6


def test_a_second_pass_of_other_calls_is_refused():
    model, _ = model_with_statistics()
    probe = memel.UpdateProbe(model)
    with probe.before_step():
        model(torch.randn(5, 7, dtype=torch.float64))
    with probe.after_step(), pytest.raises(ValueError, match=r"activations \(3, 7\), expected"):
        model(torch.randn(3, 7, dtype=torch.float64))
    with probe.after_step():
        model(torch.randn(5, 7, dtype=torch.float64))
        with pytest.raises(ValueError, match="called once more"):
            model(torch.randn(5, 7, dtype=torch.float64))
