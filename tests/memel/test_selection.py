"""Which columns are the largest, and how exact float32 statistics are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.memel import MEmeL, deactivate, most_monosemantic, update_statistics
from nowcast.memel.inhibition import GROUP, LONG


@settings(max_examples=60, deadline=None)
@given(
    columns=st.one_of(
        st.integers(1, 50), st.integers(LONG - 2, LONG + 2 * GROUP), st.integers(LONG, 3 * LONG)
    ),
    rows=st.integers(1, 3),
    top=st.one_of(st.integers(1, 5), st.integers(1, 2000)),
    ties=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_selected_columns_are_those_of_the_largest_values(columns, rows, top, ties, seed):
    top = min(top, columns)
    generator = torch.Generator().manual_seed(seed)
    phi = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    if ties:
        phi = (phi * 50).floor()
    selected = most_monosemantic(phi, top)
    assert selected.shape == (rows, top)
    assert selected.dtype == torch.int64
    for row, columns_of_row in zip(phi, selected, strict=True):
        assert len(set(columns_of_row.tolist())) == top
        # Of equal values any will do: the values decide.
        wanted = row.topk(top)
        assert torch.equal(row[columns_of_row].sort().values, wanted.values.sort().values)
        if not ties:
            assert set(columns_of_row.tolist()) == set(wanted.indices.tolist())


@pytest.fixture(params=["by itself", "traced"])
def select(request):
    """On the CPU, NumPy finds the largest, but not where the code is traced."""
    torch._dynamo.reset()
    yield (
        most_monosemantic
        if request.param == "by itself"
        else torch.compile(most_monosemantic, backend="eager", fullgraph=True, dynamic=False)
    )
    torch._dynamo.reset()


@pytest.mark.parametrize("top", [1, 2, GROUP + 1, LONG // GROUP, LONG // GROUP + 1])
@pytest.mark.parametrize("rest", [0, 1, GROUP - 1])
def test_the_largest_are_found_at_the_ends_of_long_rows(top, rest, select):
    columns = LONG + rest
    for first in (0, columns - top):
        phi = torch.zeros(2, columns)
        phi[:, first : first + top] = torch.arange(1, top + 1)
        wanted = set(range(first, first + top))
        for row in select(phi, top):
            assert set(row.tolist()) == wanted


def test_infinite_scales_are_the_largest(select):
    phi = torch.rand(2, LONG + 5)
    phi[0, 7] = phi[1, LONG + 3] = float("inf")
    assert select(phi, 1).flatten().tolist() == [7, LONG + 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scales_of_any_precision_may_have_a_gradient(dtype):
    phi = torch.tensor([[0.5, 3.0, 1.0], [2.0, 0.0, 1.0]], dtype=dtype)
    for asked in (phi, phi.clone().requires_grad_(), phi.t().contiguous().t()):
        assert most_monosemantic(asked, 1).tolist() == [[1], [0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deactivation_by_columns_and_by_a_mask_are_the_same(dtype):
    torch.manual_seed(0)
    z = torch.randn(3, 7).to(dtype)
    columns = torch.tensor([[2], [0], [6]])
    mask = torch.zeros(3, 7, dtype=torch.bool).scatter_(1, columns, True)
    mean = torch.randn(1, 7).to(dtype)
    results = []
    for selected, means in ((columns, mean.expand(3, 7).gather(1, columns)), (mask, mean)):
        leaf = z.clone().requires_grad_()
        out = deactivate(leaf, selected, means, 2.0)
        out.sum().backward()
        results.append((out, leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][1], torch.where(mask, -2.0, 1.0).to(dtype))


def test_the_gradient_of_a_number_and_of_a_tensor_of_deltas_is_the_same():
    torch.manual_seed(0)
    z = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    columns = torch.tensor([[2, 3], [0, 1], [6, 5]])
    for delta in (0.3, torch.full((3, 2), 0.3, dtype=torch.float64)):
        z.grad = None
        deactivate(z, columns, torch.zeros(3, 2, dtype=torch.float64), delta).sum().backward()
        wanted = torch.full((3, 2), -0.3, dtype=torch.float64)
        assert torch.equal(z.grad.gather(1, columns), wanted)
        assert z.grad.sum() == pytest.approx(3 * 5 - 6 * 0.3, abs=1e-12)


@pytest.mark.parametrize("neurons", ["element", "channel", "last"])
@pytest.mark.parametrize(
    ("batches", "tolerance"), [([64], 1e-3), ([8] * 40, 1e-3), ([2, 1, 1], 3e-3), ([1] * 30, 3e-3)]
)
def test_float32_statistics_are_exact_where_the_mean_is_large(neurons, batches, tolerance):
    """1e4 ± 1, where neighbouring float32 numbers are 0.001 apart, from the first call on."""
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(late_start=0, neurons=neurons)
    history = []
    samples = {"element": [0], "channel": [0, 2], "last": [0, 1]}[neurons]
    for batch in batches:
        z = torch.randn(batch, 6, 5, generator=generator) + 1e4
        history.append(z.double())
        layer(z)
        known = torch.cat(history)
        if len(known) > 2 or neurons != "element":
            variance = known.var(samples)
            torch.testing.assert_close(
                layer.variance.double(), variance, rtol=tolerance, atol=tolerance / 10
            )
            assert (layer.mean.double() - known.mean(samples)).abs().max() < 5e-3


@pytest.mark.parametrize("size", [int, torch.tensor])
def test_numbers_and_tensors_of_samples_give_the_same_statistics_in_double_precision(size):
    torch.manual_seed(0)
    batches = torch.randn(3, 7, 4, dtype=torch.float64).add(5).split([1, 1, 1])
    mean, variance = torch.zeros(4).double(), torch.zeros(4).double()
    for call, z in enumerate(batch[0] for batch in batches):
        deviations = z - mean
        update_statistics(
            mean, variance, size(7 * call), deviations.sum(0), deviations.square().sum(0), size(7)
        )
    known = torch.cat([batch[0] for batch in batches])
    torch.testing.assert_close(mean, known.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(variance, known.var(0), rtol=1e-13, atol=0)


@settings(max_examples=50, deadline=None)
@given(
    value=st.floats(-1e6, 1e6, width=32),
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_variance_of_constant_neurons_is_nothing_and_they_stay_as_they_are(value, batches):
    layer = MEmeL(late_start=0, top=2)
    for batch in batches:
        z = torch.full((batch, 3), value)
        out = layer(z)
        torch.testing.assert_close(out, z, rtol=3e-7, atol=0)
    assert (layer.variance.abs() <= 1e-12 * value**2).all()


@pytest.mark.parametrize("chosen", [{"top": 1}, {"top": 3}, {"share": 0.3}])
def test_the_gradient_has_a_gradient(chosen):
    """As a penalty on the gradient's norm needs it."""
    torch.manual_seed(0)
    layer = MEmeL(delta=2.0, late_start=0, **chosen).double()
    layer(torch.randn(20, 5, dtype=torch.float64))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(3, 4, dtype=torch.float64)

    def penalty(weights):
        layer.load_state_dict(state)
        z = layer(torch.tanh(x @ weights))
        (gradient,) = torch.autograd.grad(z.square().sum(), weights, create_graph=True)
        return gradient.square().sum()

    weights = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(penalty(weights), weights)
    # By hand: z' is the mean where selected, with a slope of −Δ.
    layer.load_state_dict(state)
    with torch.no_grad():
        out = layer(torch.tanh(x @ weights))
        selected = out != torch.tanh(x @ weights)
    assert selected.any()
    z = torch.tanh(x @ weights)
    slope = torch.where(selected, -2.0, 1.0)
    upstream = torch.where(selected, 2 * out - 4.0 * (z - z.detach()), 2 * z)
    by_hand = x.T @ (upstream * slope * (1 - z.square()))
    (expected,) = torch.autograd.grad(by_hand.square().sum(), weights)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
