"""Lemma 3.3 and the two goals of section 2.2, on trained small networks."""

import copy

import pytest
import torch
from torch import nn

from nowcast import memel

DELTAS = {"reverse deactivation": 1.0, "naive (a)": 0.0, "naive (b)": -1.0}
RATE = 1e-4


def trained(seed):
    """A network whose neurons have parameters of their own, fitted to rare features of x."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2)
    ).double()
    x = (torch.rand(400, 6) < 0.15).double() + 0.1 * torch.randn(400, 6, dtype=torch.float64)
    y = torch.stack([3 * x[:, 0] * (1 - x[:, 1]), x[:, 2] - 2 * x[:, 3]], 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(400):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
    memel.insert(network, ["1"], late_start=0)
    with torch.no_grad():
        network(x)  # The statistics, nothing is known before.
    return network, x, y


def step(network, x, y, delta):
    """Take one small step of gradient descent on one sample, inhibited.

    Returns what the probe saw, gradients of z, the loss of f2 on the modified activations before
    and after, and the network after.
    """
    network = copy.deepcopy(network)
    layer = memel.inserted(network)["1"]
    layer.delta = delta
    seen = {}
    handle = network[0].register_forward_hook(
        lambda module, args, h: h.register_hook(lambda gradient: seen.update(h=gradient)) and None
    )
    network[2].register_forward_pre_hook(lambda module, args: seen.update(z=args[0].detach()))
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    probe = memel.UpdateProbe(network)
    with probe.before_step():
        loss = (network(x) - y).square().sum()
    loss.backward()
    handle.remove()
    modified = seen["z"]
    optimizer.step()
    with probe.after_step(), torch.no_grad():
        network(x)
    with torch.no_grad():
        held = (network[2:](modified) - y).square().sum()
    return probe.effect(), seen["h"], float(loss.detach()), float(held)


def cases(seed):
    """Samples, with the neuron selected in each and whether the lemma's premise holds for it."""
    network, x, y = trained(seed)
    layer = memel.inserted(network)["1"]
    for sample in range(0, 400, 8):
        one, wanted = x[sample : sample + 1], y[sample : sample + 1]
        with torch.no_grad():
            z = torch.tanh(nn.functional.linear(one, network[0].weight, network[0].bias))
        neuron = int(layer.scale(z).argmax())
        replaced = z.clone()
        replaced[0, neuron] = layer.mean[neuron]
        replaced.requires_grad_()
        loss = (network[2:](replaced) - wanted).square().sum()
        (gradient,) = torch.autograd.grad(loss, replaced)
        # The loss rises as z' moves away from z: at the mean it falls towards z.
        rises = float(gradient[0, neuron] * (z[0, neuron] - layer.mean[neuron])) < 0
        yield network, one, wanted, neuron, rises


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reverse_deactivation_lowers_phi_and_the_naive_ways_do_not(seed):
    premise, selected = 0, 0
    for network, x, y, neuron, rises in cases(seed):
        selected += 1
        if not rises:
            continue
        premise += 1
        effects = {name: step(network, x, y, delta) for name, delta in DELTAS.items()}
        reverse, stopped, naive = (effects[name][0] for name in DELTAS)
        assert len(reverse.phi) == 1
        assert reverse.phi_after < reverse.phi  # f1 of section 2.2
        assert float(effects["naive (a)"][1][0, neuron]) == 0.0
        assert torch.equal(stopped.phi_after, stopped.phi)
        assert naive.phi_after > naive.phi
    # The paper: the premise need not hold everywhere, but mostly does for monosemantic neurons.
    assert premise > 0.8 * selected


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_with_the_neuron_held_at_its_mean_falls_for_all_three(seed):
    for network, x, y, _, _ in cases(seed):
        for delta in DELTAS.values():
            _, _, before, after = step(network, x, y, delta)
            assert after < before  # f2 of section 2.2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_larger_delta_lowers_phi_further(seed):
    for network, x, y, _, rises in cases(seed):
        if rises:
            weak, strong = (step(network, x, y, delta)[0].decrease_ratio for delta in (1.0, 5.0))
            # z moves five times as far, to first order in the learning rate.
            torch.testing.assert_close(strong, 5 * weak, rtol=0.02, atol=1e-9)
