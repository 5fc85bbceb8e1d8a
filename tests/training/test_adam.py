"""Adam beside its definition in double precision, and going on from what other versions saved."""

from dataclasses import replace

import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast.models.build import build_network
from nowcast.training import module
from nowcast.training.adam import adam
from nowcast.training.inhibition import insert_layers
from nowcast.training.protocol import pretrain

RATE, BETAS, EPSILON = 1e-3, (0.5, 0.999), 1e-8
ROUNDING = 3e-4
"""Of weights to single precision in ten steps, in learning rates."""


class Definition:
    """Algorithm 1 of Kingma and Ba (2015), in double precision."""

    def __init__(self, parameters):
        self.weights = [p.detach().double() for p in parameters]
        self.first = [torch.zeros_like(w) for w in self.weights]
        self.second = [torch.zeros_like(w) for w in self.weights]
        self.steps = 0

    def step(self, gradients):
        self.steps += 1
        for weight, m, v, gradient in zip(
            self.weights, self.first, self.second, gradients, strict=True
        ):
            m.copy_(BETAS[0] * m + (1 - BETAS[0]) * gradient.double())
            v.copy_(BETAS[1] * v + (1 - BETAS[1]) * gradient.double() ** 2)
            unbiased = (m / (1 - BETAS[0] ** self.steps), v / (1 - BETAS[1] ** self.steps))
            weight.sub_(RATE * unbiased[0] / (unbiased[1].sqrt() + EPSILON))


def network_and_loss():
    torch.manual_seed(0)
    network = build_network(NETWORK, 5, 3)
    insert_layers(network, INHIBITION)
    frames = torch.rand(2, 8, 1, 30, 30)

    def loss():
        return (network(frames[:, :5], 3) - frames[:, 5:]).square().mean()

    return network, loss


def train(network, loss, optimizer, steps, definition):
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        definition.step([p.grad for p in network.parameters()])
        optimizer.step()


def largest_difference(network, definition):
    """In learning rates, by which Adam moves a weight in a step at most."""
    pairs = zip(network.parameters(), definition.weights, strict=True)
    return max(float((p.detach() - w).abs().max()) for p, w in pairs) / RATE


def test_the_weights_of_a_network_move_as_by_definition():
    network, loss = network_and_loss()
    definition = Definition(network.parameters())
    optimizer = adam(network.parameters(), RATE, BETAS)
    before = [p.detach().clone() for p in network.parameters()]
    train(network, loss, optimizer, 10, definition)
    assert optimizer.param_groups[0]["fused"]
    moved = [(p - b).abs().max() / RATE for p, b in zip(network.parameters(), before, strict=True)]
    assert min(moved) > 1
    assert largest_difference(network, definition) < ROUNDING


@pytest.mark.parametrize("fused", [None, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("laid", ["as weights", "otherwise"])
def test_it_goes_on_from_what_any_version_saved(tmp_path, fused, laid):
    network, loss = network_and_loss()
    definition = Definition(network.parameters())
    earlier = torch.optim.Adam(network.parameters(), RATE, BETAS, fused=fused)
    train(network, loss, earlier, 5, definition)
    if laid == "otherwise":
        for state in earlier.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].contiguous()
    torch.save(earlier.state_dict(), tmp_path / "state")
    later = adam(network.parameters(), RATE, BETAS)
    later.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    train(network, loss, later, 5, definition)
    assert later.param_groups[0]["fused"]
    assert largest_difference(network, definition) < ROUNDING


def test_laid_otherwise_the_moments_would_be_those_of_other_weights():
    """What the test above would not find if all weights were laid alike."""
    network, _ = network_and_loss()
    assert any(p.stride() != p.contiguous().stride() for p in network.parameters())


def test_a_run_of_an_earlier_version_goes_on(store, tmp_path, monkeypatch):
    unbroken = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken"), INHIBITION)
    with monkeypatch.context() as patch:
        patch.setattr(module, "adam", torch.optim.Adam)
        pretrain(NETWORK, data(store), replace(STEPS, steps=5), run(tmp_path / "old"), INHIBITION)
    resumed = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "old"), INHIBITION)
    for name, value in weights(resumed).items():
        torch.testing.assert_close(value, weights(unbroken)[name], rtol=1e-4, atol=1e-6)
