"""Monosemanticity profile against NumPy restatements, closed forms and invariants."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from nowcast import memel
from nowcast.memel import PHI_EDGES, LayerProfile, profile

WIDTH = PHI_EDGES[1] / PHI_EDGES[0]
"""By this factor a quantile may be off."""


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return nn.functional.leaky_relu(self.convolution(x), 0.2)


class Recurrent(nn.Module):
    """A cell that is called three times, and what it gave in each call."""

    def __init__(self, layout):
        super().__init__()
        self.cell = Cell()
        self.to(torch.float64).to(memory_format=layout)
        self.layout = layout
        self.seen = []

    def forward(self, x):
        x = x.to(memory_format=self.layout)
        for _ in range(3):
            x = self.cell(x)
            self.seen.append(x.detach().numpy().copy())


def restated(calls, neurons, epsilon):
    """φ as (sample, neuron), and the neuron selected in every sample of every call, by NumPy."""
    as_matrix = {
        "element": lambda z: z.reshape(len(z), -1),
        "channel": lambda z: np.moveaxis(z, 1, -1).reshape(-1, z.shape[1]),
        "last": lambda z: z.reshape(-1, z.shape[-1]),
    }[neurons]
    samples = np.concatenate([as_matrix(z) for z in calls])
    mean, variance = samples.mean(0), samples.var(0, ddof=1)
    compensated = variance + epsilon * variance.mean()
    selected = [
        np.unravel_index(one.argmax(), one.shape)[1]
        for z in calls
        for one in (((as_matrix(x[None]) - mean) ** 2 / compensated) for x in z)
    ]
    return (samples - mean) ** 2 / compensated, np.array(selected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("neurons", ["element", "channel", "last"])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_profile_of_a_recurrent_network_equals_a_restatement(neurons, layout, epsilon):
    torch.manual_seed(0)
    model = Recurrent(layout)
    batches = [torch.randn(size, 3, 4, 5, dtype=torch.float64) for size in (4, 4, 2)]
    found = profile(model, batches, ["cell"], neurons=neurons, epsilon=epsilon, top=7)["cell"]
    calls = model.seen[: len(model.seen) // 2]
    assert len(calls) == 9
    phi, selected = restated(calls, neurons, epsilon)

    assert (found.samples, found.neurons, found.calls) == (*phi.shape, 9)
    assert found.neuron_shape == {"element": (3, 4, 5), "channel": (3,), "last": (5,)}[neurons]
    expected, _ = np.histogram(phi, [-np.inf, *PHI_EDGES, np.inf])
    assert found.counts == tuple(expected)
    assert found.largest == pytest.approx(phi.max(), rel=1e-10)
    assert found.mean_square == pytest.approx((phi**2).mean(), rel=1e-10)
    assert found.selections == len(selected) == 30
    assert found.ever_selected == pytest.approx(len(set(selected)) / found.neurons, abs=1e-15)
    largest = phi.max(0)
    order = np.argsort(-largest, kind="stable")[:7]
    assert len(found.most_monosemantic) == len(order)
    for one, neuron in zip(found.most_monosemantic, order, strict=True):
        assert one.index == np.unravel_index(neuron, found.neuron_shape)
        assert one.largest == pytest.approx(largest[neuron], rel=1e-10)
        assert one.selections == (selected == neuron).sum()
    for probability in (0.1, 0.5, 0.9, 0.99):
        exact = np.quantile(phi, probability, method="inverted_cdf")
        assert 1 / WIDTH < found.quantile(probability) / exact < WIDTH
    shares = [(phi >= edge).mean() for edge in PHI_EDGES]
    np.testing.assert_allclose(found.survival, shares, rtol=1e-12)


@pytest.mark.parametrize("samples", [6, 4000])
def test_independent_normal_neurons_have_the_closed_form(samples):
    generator = torch.Generator().manual_seed(0)
    neurons = 400_000 // samples
    draws = 3 + 2 * torch.randn(samples, neurons, generator=generator, dtype=torch.float64)
    model = nn.ModuleDict({"z": nn.Identity()})
    found = profile(model, draws.split(samples // 2), ["z"], lambda m, x: m["z"](x), epsilon=0)["z"]
    n = samples
    expected = stats.beta(0.5, (n - 2) / 2, scale=(n - 1) ** 2 / n)
    for probability in (0.5, 0.9, 0.99, 0.999):
        assert found.quantile(probability) == pytest.approx(expected.ppf(probability), rel=0.03)
    mean_square = 3 * (n - 1) ** 3 / (n**2 * (n + 1))
    assert found.mean_square == pytest.approx(mean_square, rel=0.02)
    assert expected.moment(2) == pytest.approx(mean_square, rel=1e-9)
    if samples > 1000:
        assert found.mean_square == pytest.approx(3, rel=0.02)
        chi_square = stats.chi2(1)
        for probability in (0.5, 0.9, 0.99, 0.999):
            assert found.quantile(probability) == pytest.approx(
                chi_square.ppf(probability), rel=0.03
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_neuron_that_fires_once_is_found_first_with_the_largest_possible_scale(dtype):
    torch.manual_seed(1)
    n, epsilon = 200, 1e-3
    z = torch.randn(n, 2, 3, 4, dtype=dtype)
    z[:, 1, 2, 0] = 5
    z[37, 1, 2, 0] = 9
    model = nn.ModuleDict({"z": nn.Identity()})
    found = profile(
        model, z.split(25), ["z"], lambda m, x: m["z"](x), epsilon=epsilon, top=3
    )["z"]  # fmt: skip
    first, second, _ = found.most_monosemantic
    variance = z.double().var(0)
    planted = 4**2 / n
    assert variance[1, 2, 0] == pytest.approx(planted, rel=1e-6)
    compensation = 1 + epsilon * float(variance.mean()) / planted
    assert first.index == (1, 2, 0)
    assert first.selections == 1
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert first.largest == pytest.approx((n - 1) ** 2 / n / compensation, rel=tolerance)
    assert found.bound == (n - 1) ** 2 / n
    assert found.largest == first.largest < found.bound
    assert second.largest < 25


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    neurons=st.sampled_from(["element", "channel", "last"]),
    seed=st.integers(0, 2**31),
)
def test_batch_sizes_and_order_do_not_matter_and_no_scale_exceeds_its_bound(sizes, neurons, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.rand(sum(sizes), 3, 2, 2, generator=generator, dtype=torch.float64) ** 6 + 4
    model = nn.ModuleDict({"z": nn.Identity()})

    def of(batches):
        return profile(model, batches, ["z"], lambda m, x: m["z"](x), neurons=neurons)["z"]

    split, whole = of(z.split(sizes)), of([z.flip(0)])
    assert sum(split.counts) == split.neurons * split.samples == z.numel()
    assert 0 <= split.largest <= split.bound
    assert split.counts == whole.counts
    assert split.selections == whole.selections == len(z)
    assert split.mean_square == pytest.approx(whole.mean_square, rel=1e-8)
    for one, other in zip(split.most_monosemantic, whole.most_monosemantic, strict=True):
        assert one.largest == pytest.approx(other.largest, rel=1e-8)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neurons_that_never_vary_have_no_scale(value, dtype):
    model = nn.ModuleDict({"z": nn.Identity()})
    z = torch.full((7, 5), value, dtype=dtype)
    found = profile(model, [z, z, z[:3]], ["z"], lambda m, x: m["z"](x))["z"]
    assert (found.largest, found.mean_square, found.quantile(0.999)) == (0, 0, 0)
    assert found.counts[0] == 17 * 5


def test_the_layer_and_the_profile_call_the_same_neurons_most_monosemantic():
    """A layer that has seen all batches judges them by the statistics that the profile uses."""
    torch.manual_seed(2)
    z = torch.randn(40, 6, 5, dtype=torch.float64) ** 3
    layer = memel.MEmeL(late_start=2**60, forget_step=2**60)
    for batch in z.split(8):
        layer(batch)
    model = nn.ModuleDict({"z": nn.Identity()})
    found = profile(model, z.split(10), ["z"], lambda m, x: m["z"](x), top=30)["z"]
    phi = layer.scale(z)
    assert found.largest == pytest.approx(float(phi.max()), rel=1e-12)
    for one in found.most_monosemantic:
        assert one.largest == pytest.approx(float(phi[:, *one.index].max()), rel=1e-12)
        flat = one.index[0] * 5 + one.index[1]
        assert one.selections == int((phi.flatten(1).argmax(1) == flat).sum())


def test_the_model_is_left_as_it_was_and_layers_in_it_stay_off():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=0), nn.Dropout(0.5), nn.Linear(8, 2)
    )
    batches = torch.randn(6, 5, 4)
    plain = profile(copy.deepcopy(model), batches, ["1", "3"])
    memel.insert(model, at=["1"], late_start=0)
    for batch in batches:
        model(batch)
    model[1].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {True, False}
    state = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    with_layers = profile(model, batches, ["1", "3"])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {n: len(module._forward_hooks) for n, module in model.named_modules()} == hooks
    assert torch.equal(torch.random.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert with_layers == plain
    assert list(with_layers) == ["1", "3"]


def test_a_layer_that_is_on_in_evaluation_does_not_hide_what_its_module_returns():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8))
    batches = torch.randn(6, 5, 4)
    before = profile(model, batches, ["0"])
    memel.insert(model, at=["0"], late_start=0, in_evaluation=True)
    for batch in batches:
        model(batch)
    model.eval()
    plain = nn.functional.linear(batches[0], model[0].weight, model[0].bias)
    assert not torch.equal(model(batches[0]), plain)
    assert profile(model, batches, ["0"]) == before


def test_modules_that_return_more_than_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return {"text": "state", "first": x, "second": x**3}

    model = nn.ModuleDict({"pair": Pair()})
    batches = torch.randn(4, 5, 3, dtype=torch.float64)
    forward = lambda m, x: m["pair"](x)  # noqa: E731
    first = profile(model, batches, ["pair"], forward)["pair"]
    second = profile(model, batches, ["pair"], forward, item="second")["pair"]
    assert first == profile(nn.Sequential(nn.Identity()), batches, ["0"])["0"]
    assert second == profile(nn.Sequential(nn.Identity()), batches**3, ["0"])["0"]
    with pytest.raises(TypeError, match=r"Pair returns dict .* expected a tensor as 'third' in it"):
        profile(model, batches, ["pair"], forward, item="third")


def test_what_cannot_be_profiled_is_refused_and_the_model_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 2), nn.Identity()).train()
    batches = torch.randn(4, 5, 3)
    for wrong, at, forward, said in (
        (batches, ["2"], None, "no module is called '2'; there is 0, 1"),
        (batches, ["1"], lambda m, x: m[0](x), "1 was never called"),
        ([], ["0"], None, "0 was never called"),
        (iter(batches), ["0"], None, "called 4 times in the first pass and 0 times in the second"),
        (torch.full((1, 2, 3), torch.nan), ["0"], None, "0 has activations that are not finite"),
        (torch.full((1, 2, 3), torch.inf), ["1"], None, "1 has activations that are not finite"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], ["1"], lambda m, x: m[1](x),
         r"1 has neurons \(3,\) in one call and \(4,\) in another"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            profile(model, wrong, at, forward)
        assert all(module.training for module in model.modules())
        assert not any(module._forward_hooks for module in model.modules())


def test_quantiles_reach_from_the_lowest_bin_to_the_largest_scale():
    counts = [0] * (len(PHI_EDGES) + 1)
    counts[0], counts[-1] = 50, 50
    layer = LayerProfile((2,), 50, 1, tuple(counts), 4e6, 1.0, 1, 0.5, ())
    assert layer.quantile(0.25) == pytest.approx(PHI_EDGES[0] / 2, rel=1e-12)
    assert layer.quantile(0.75) == pytest.approx(2e6, rel=1e-12)  # 1e6 to 4e6, by the logarithm.
    assert layer.quantile(1.0) == 4e6
    assert layer.survival == (0.5,) * len(PHI_EDGES)
