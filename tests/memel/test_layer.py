"""The MEmeL layer against the reference data, restatements and invariants."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nowcast.memel import MEmeL

ORACLES = ["memel_top1_per_sample", "memel_top3_delta5_per_batch"]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_reference_values_gradients_scale_and_statistics(shared, name, dtype, tolerance):
    oracle = np.load(shared / "oracles" / f"{name}.npz")
    layer = MEmeL(
        top=int(oracle["n_n"]),
        per=str(oracle["per"]),
        delta=float(oracle["delta"]),
        epsilon=float(oracle["eps"]),
        forget_step=int(oracle["n_f"]),
        late_start=int(oracle["l_s"]),
    )
    first = 0
    for call, size in enumerate(oracle["sizes"]):
        rows = slice(first, first + size)
        first += size
        z = torch.tensor(oracle["z"][rows], dtype=dtype, requires_grad=True)
        scored = not np.isnan(oracle["phi"][rows]).any()
        if scored:
            np.testing.assert_allclose(layer.scale(z), oracle["phi"][rows], rtol=50 * tolerance)
        out = layer(z)
        out.sum().backward()
        np.testing.assert_allclose(out.detach(), oracle["z_out"][rows], rtol=tolerance, atol=1e-6)
        np.testing.assert_array_equal(z.grad, oracle["grad"][rows])
        np.testing.assert_allclose(layer.mean, oracle["mean"][call], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(layer.variance, oracle["var"][call], rtol=tolerance)
    assert layer.calls == len(oracle["sizes"])


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8), seed=st.integers(0, 2**31))
def test_statistics_are_those_of_all_samples_so_far_whatever_the_batches(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    history = torch.randn(sum(sizes), 3, 2, generator=generator, dtype=torch.float64) * 3 + 10
    layer = MEmeL(late_start=0)
    for batch in history.split(sizes):
        layer(batch)
    variance = history.var(0) if len(history) > 1 else torch.zeros(3, 2, dtype=torch.float64)
    torch.testing.assert_close(layer.mean, history.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.variance, variance, rtol=1e-10, atol=1e-12)
    assert layer.count == len(history)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), neurons=st.sampled_from(["element", "channel", "last"]))
def test_order_of_the_samples_in_a_batch_does_not_matter(seed, neurons):
    generator = torch.Generator().manual_seed(seed)
    past, z = torch.randn(2, 5, 4, 3, 3, generator=generator, dtype=torch.float64)
    order = torch.randperm(5, generator=generator)
    straight, shuffled = MEmeL(late_start=0, neurons=neurons), MEmeL(late_start=0, neurons=neurons)
    straight(past)
    shuffled(past[order])
    torch.testing.assert_close(straight(z)[order], shuffled(z[order]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("delta", [1.0, 0.0, -1.0, 50.0])
def test_value_of_a_deactivated_neuron_is_exactly_the_mean_and_its_gradient_exactly_minus_delta(
    delta,
):
    torch.manual_seed(0)
    layer = MEmeL(top=2, delta=delta, late_start=0)
    layer(torch.randn(6, 3, 4, 4))
    mean = layer.mean.clone()
    z = torch.randn(6, 3, 4, 4, requires_grad=True)
    out = layer(z)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    changed = out != z
    assert (changed.flatten(1).sum(1) == 2).all()
    assert torch.equal(out[changed], mean.expand_as(out)[changed])
    assert torch.equal(z.grad[changed], -delta * upstream[changed])
    assert torch.equal(z.grad[~changed], upstream[~changed])


def test_per_sample_selects_in_each_sample_and_per_batch_in_all():
    torch.manual_seed(0)
    past, z = torch.randn(8, 5), torch.zeros(4, 5)
    z[0, 1], z[0, 3], z[1, 2] = 90.0, 80.0, 70.0
    of_sample, of_batch = MEmeL(late_start=0), MEmeL(top=2, per="batch", late_start=0)
    of_sample(past)
    of_batch(past)
    assert ((of_sample(z) != z).sum(1) == 1).all()
    changed = (of_batch(z) != z).nonzero().tolist()
    assert changed == [[0, 1], [0, 3]]


@pytest.mark.parametrize(
    ("neurons", "samples", "where"),
    [("channel", [0, 2, 3], (1, 2, 0, 1)), ("last", [0, 1, 2], (1, 2, 0, 1))],
)
def test_neurons_may_be_channels_or_the_last_dimension(neurons, samples, where):
    torch.manual_seed(0)
    past, z = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    z[where] = 40.0
    layer = MEmeL(late_start=0, neurons=neurons)
    layer(past)
    torch.testing.assert_close(layer.mean, past.mean(samples), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(layer.variance, past.var(samples), rtol=1e-12, atol=1e-13)
    mean = past.mean(samples)[where[1] if neurons == "channel" else where[3]]
    out = layer(z)
    torch.testing.assert_close(out[where], mean, rtol=1e-12, atol=1e-13)
    # One selection per sample of the batch, though a neuron has many samples in each.
    assert ((out != z).flatten(1).sum(1) == 1).all()


def test_nothing_is_modified_before_late_start_nor_while_fewer_than_two_samples_are_known():
    torch.manual_seed(0)
    layer = MEmeL(late_start=3)
    for call in range(5):
        z = torch.randn(4, 6, requires_grad=True)
        out = layer(z)
        out.sum().backward()
        assert torch.equal(out, z) == (call < 3)
        assert bool((z.grad == 1).all()) == (call < 3)
    lone = MEmeL(late_start=0)
    for call in range(4):
        z = torch.randn(1, 6)
        assert torch.equal(lone(z), z) == (call < 2)


@pytest.mark.parametrize("neurons", ["element", "channel", "last"])
def test_before_late_start_it_hands_on_what_it_gets_unless_somebody_looks_on(neurons):
    """What nobody sees is not selected; the statistics are the same as where it is seen."""
    torch.manual_seed(0)
    alone, watched = (MEmeL(late_start=3, neurons=neurons) for _ in range(2))
    decisions = []
    watched.observer = lambda _, decision: decisions.append(decision)
    for call in range(5):
        z = torch.randn(4, 6, 2)
        assert (alone(z) is z) == (call < 3)
        watched(z)
    assert [decision.started for decision in decisions] == [False] * 3 + [True] * 2
    assert all(decision.selected.shape == (4, 1) for decision in decisions)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name])


def test_after_forget_step_the_past_weighs_as_batch_times_forget_step_samples():
    torch.manual_seed(0)
    batches = torch.randn(9, 4, 5, dtype=torch.float64)
    layer = MEmeL(forget_step=3)
    mean = variance = None
    for call, z in enumerate(batches):
        layer(z)
        if call < 3:
            mean, variance = batches[: call + 1].flatten(0, 1).mean(0), None
            variance = batches[: call + 1].flatten(0, 1).var(0)
            continue
        known, b = 3 * 4, 4
        shift = z.mean(0) - mean
        new_variance = (
            known * b * shift**2 / ((known + b - 1) * (known + b))
            + (b * z.var(0, correction=0) + (known - 1) * variance) / (known + b - 1)
        )  # fmt: skip
        mean, variance = (known * mean + b * z.mean(0)) / (known + b), new_variance
        torch.testing.assert_close(layer.mean, mean, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(layer.variance, variance, rtol=1e-12, atol=1e-13)


def test_constant_neurons_give_neither_nan_nor_inf():
    layer = MEmeL(late_start=0)
    z = torch.full((4, 6), 3.0, requires_grad=True)
    for _ in range(4):
        out = layer(z)
    assert torch.equal(out, z)
    jump = torch.full((4, 6), 3.0)
    jump[2, 4] = 1e4
    assert torch.isfinite(layer.scale(jump)).all()
    assert layer(jump)[2, 4] == 3.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_activations_of_ten_thousand_keep_float32_statistics(dtype):
    torch.manual_seed(0)
    layer = MEmeL(late_start=0)
    for _ in range(3):
        z = (torch.randn(4, 50) * 1e4).to(dtype)
        out = layer(z)
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    assert layer.mean.dtype == layer.variance.dtype == torch.float32
    assert torch.isfinite(layer.variance).all()
    layer.half()
    assert layer.mean.dtype == torch.float32


def test_evaluation_is_the_identity_and_leaves_the_statistics():
    torch.manual_seed(0)
    layer = MEmeL(late_start=0)
    layer(torch.randn(4, 6))
    layer(torch.randn(4, 6))
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    z = torch.randn(4, 6)
    assert layer(z) is z
    layer.in_evaluation = True
    assert ((layer(z) != z).sum(1) == 1).all()
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_statistics_are_saved_restored_and_refused_for_another_grid():
    torch.manual_seed(0)
    trained = MEmeL()
    trained(torch.randn(4, 2, 3, 3))
    fresh = MEmeL()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.mean, trained.mean)
    assert fresh.calls == 1
    with pytest.raises(ValueError, match=r"neurons \(2, 3, 3\), activations have \(2, 6, 6\)"):
        fresh(torch.randn(4, 2, 6, 6))
    fresh.reset()
    fresh(torch.randn(4, 2, 6, 6))
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict(trained.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [{"top": 0}, {"per": "frame"}, {"epsilon": -1.0}, {"late_start": -1}, {"neurons": "row"}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MEmeL(**wrong)


def test_more_activations_than_there_are_cannot_be_selected():
    layer = MEmeL(top=7)  # Told at once, not when late start is over.
    with pytest.raises(ValueError, match="top=7 of 6"):
        layer(torch.randn(2, 6))


def test_twenty_steps_of_training_equal_the_formula_written_out_by_hand():
    class ByHand(nn.Module):
        """E.3's formula and the mean and variance of the whole history, all in the open."""

        def __init__(self):
            super().__init__()
            self.history = torch.empty(0, 8, dtype=torch.float64)

        def forward(self, z):
            out = z
            if len(self.history) >= 6 * 3:
                mean, variance = self.history.mean(0), self.history.var(0)
                phi = (z.detach() - mean) ** 2 / (variance + 1e-3 * variance.mean())
                chosen = phi == phi.max(1, keepdim=True).values
                out = torch.where(chosen, -2.0 * z + (mean + 2.0 * z).detach(), z)
            self.history = torch.cat([self.history, z.detach()])
            return out

    def train(layer):
        torch.manual_seed(3)
        first, last = nn.Linear(5, 8).double(), nn.Linear(8, 1).double()
        optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], lr=0.05)
        for _ in range(20):
            x = torch.randn(6, 5, dtype=torch.float64)
            loss = (last(layer(torch.tanh(first(x)))) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return torch.cat([p.flatten() for p in [*first.parameters(), *last.parameters()]])

    torch.testing.assert_close(
        train(MEmeL(delta=2.0, late_start=3)), train(ByHand()), rtol=1e-6, atol=1e-9
    )
    assert not torch.allclose(train(MEmeL(delta=2.0, late_start=3)), train(nn.Identity()))
