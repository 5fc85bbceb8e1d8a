"""Selection by the moving threshold (`share`) instead of the top."""

import copy

import pytest
import torch
from scipy.stats import chi2, t

from nowcast.memel import MEmeL

LAYOUTS = {
    "contiguous": lambda z: z.clone(),
    "channels last": lambda z: z.contiguous(memory_format=torch.channels_last),
    "permuted": lambda z: z.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
}


def replaced_share(layer, batches):
    """Share of all activations that the layer replaces."""
    replaced = activations = 0
    for z in batches:
        replaced += int((layer(z) != z).sum())
        activations += z.numel()
    return replaced / activations


@pytest.mark.parametrize("share", [0.001, 0.01, 0.02, 0.3, 0.9])
def test_it_starts_at_the_quantile_of_normally_distributed_neurons(share):
    assert MEmeL(share=share).threshold.item() == pytest.approx(chi2.ppf(1 - share, 1), rel=1e-5)


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_on_normal_activations_it_tends_to_the_chi_square_quantile(factor):
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(share=0.02, late_start=0)
    layer.threshold.mul_(factor)
    thresholds = []
    for _ in range(600):
        layer(torch.randn(16, 500, generator=generator) * 3 + 7)
        thresholds.append(layer.threshold.item())
    # 160 of 8,000 activations lie above it, give or take 8 %, which moves it by 0.4 % a call; what
    # remains is half the compensation's part, 0.1 % of the variance, and the last calls' noise.
    late = torch.tensor(thresholds[200:])
    assert late.mean().item() == pytest.approx(chi2.ppf(0.98, 1), rel=0.01)
    assert (late / chi2.ppf(0.98, 1) - 1).abs().max() < 0.1


@pytest.mark.parametrize(
    ("share", "batch", "neurons", "calls"),
    [
        (0.01, 8, 1000, 500),
        (0.3, 4, 50, 500),
        # Few or no activations above it in most calls.
        (0.01, 4, 6, 6000),
    ],
)
def test_in_the_long_run_it_replaces_the_share(share, batch, neurons, calls):
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(share=share, late_start=0)
    batches = (torch.randn(batch, neurons, generator=generator) for _ in range(calls))
    # The sum over calls of what is too many and too few is what moved the threshold: it stays small
    # while the calls grow in number.
    assert replaced_share(layer, batches) == pytest.approx(share, rel=0.05)


def test_batches_of_changing_size_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(share=0.02, late_start=0)
    sizes = [16, 1, 5] * 400
    batches = (torch.randn(size, 300, generator=generator) for size in sizes)
    assert replaced_share(layer, batches) == pytest.approx(0.02, rel=0.05)


def test_it_follows_activations_that_become_heavy_tailed():
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(share=0.02, late_start=0, forget_step=20)
    for _ in range(100):
        layer(torch.randn(16, 500, generator=generator))
    normal = layer.threshold.item()
    # Student's t with 3 degrees of freedom: a normal one over the root of a mean of squares.
    heavy = []
    for _ in range(600):
        parts = torch.randn(4, 16, 500, generator=generator)
        heavy.append(parts[0] / parts[1:].square().mean(0).sqrt())
    replaced_share(layer, heavy[:200])
    assert replaced_share(layer, heavy[200:]) == pytest.approx(0.02, rel=0.03)
    # Variance 3, 2 % beyond ± 4.54.
    assert layer.threshold.item() == pytest.approx(t.ppf(0.99, 3) ** 2 / 3, rel=0.2)
    assert layer.threshold.item() > 1.15 * normal


@pytest.mark.parametrize("phi", [0.0, float("inf")])
def test_it_comes_back_from_activations_that_have_no_quantile(phi):
    """However long all activations are constant, or all are beyond any number."""
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(share=0.1, late_start=0)
    layer(torch.randn(8, 20, generator=generator))
    layer(torch.randn(8, 20, generator=generator))
    start = layer.threshold.item()
    frozen = layer.mean.clone(), layer.variance.clone()
    z = layer.mean.expand(8, 20) if phi == 0 else torch.full((8, 20), 1e30)
    for _ in range(2500):
        layer(z)
        layer.mean.copy_(frozen[0])
        layer.variance.copy_(frozen[1])
    assert not 1e-30 < layer.threshold.item() / start < 1e30
    for _ in range(2500):
        layer(torch.randn(8, 20, generator=generator))
    assert layer.threshold.item() == pytest.approx(chi2.ppf(0.9, 1), rel=0.2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("neurons", "samples"), [("element", [0]), ("channel", [0, 2, 3]), ("last", [0, 1, 2])]
)
def test_all_above_it_become_the_mean_before_the_call_with_gradient_minus_delta(
    neurons, samples, layout
):
    generator = torch.Generator().manual_seed(0)
    past, z = torch.randn(2, 6, 5, 4, 3, generator=generator, dtype=torch.float64)
    layer = MEmeL(share=0.2, delta=0.3, late_start=0, neurons=neurons)
    layer(LAYOUTS[layout](past))
    before = layer.mean.clone()
    shape = {"element": (1, 5, 4, 3), "channel": (1, 5, 1, 1), "last": (1, 1, 1, 3)}[neurons]
    mean, variance = past.mean(samples).view(shape), past.var(samples).view(shape)
    above = (z - mean) ** 2 / (variance + 1e-3 * variance.mean()) > layer.threshold.item()
    assert 0.1 < above.double().mean() < 0.4
    z = LAYOUTS[layout](z).requires_grad_()
    out = layer(z)
    assert not torch.equal(layer.mean, before)
    assert torch.equal(out[above], before.view(shape).expand_as(z)[above])
    assert torch.equal(out[~above], z[~above])
    upstream = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    out.backward(upstream)
    assert torch.equal(z.grad[above], -0.3 * upstream[above])
    assert torch.equal(z.grad[~above], upstream[~above])


def test_before_late_start_it_moves_and_nothing_is_modified():
    torch.manual_seed(0)
    layer = MEmeL(share=0.1, late_start=5)
    thresholds = []
    for call in range(7):
        thresholds.append(layer.threshold.item())
        z = torch.randn(4, 60, requires_grad=True)
        out = layer(z)
        out.sum().backward()
        assert torch.equal(out, z) == (call < 5)
        assert bool((z.grad == 1).all()) == (call < 5)
    # No statistics in the first call, thus no φ that it could follow.
    assert thresholds[0] == thresholds[1]
    assert len(set(thresholds)) == 6


def test_while_fewer_than_two_samples_are_known_nothing_is_modified_and_it_stays():
    torch.manual_seed(0)
    layer = MEmeL(share=0.3, late_start=0)
    start = layer.threshold.clone()
    for _ in range(2):
        assert torch.equal(layer.threshold, start)
        z = torch.randn(1, 40)
        assert torch.equal(layer(z), z)
    z = torch.randn(1, 40)
    assert not torch.equal(layer(z), z)


def test_a_call_in_which_nothing_counts_leaves_it():
    torch.manual_seed(0)
    layer = MEmeL(share=0.1, late_start=0)
    for _ in range(3):
        layer(torch.randn(4, 60))
    before = layer.threshold.clone()
    layer(torch.randn(4, 60), torch.zeros(4, dtype=torch.bool))
    assert torch.equal(layer.threshold, before)


def test_what_does_not_count_is_not_counted():
    generator = torch.Generator().manual_seed(0)
    masked, lean = (MEmeL(share=0.1, late_start=0) for _ in range(2))
    mask = torch.tensor([True, False, True, True, False])
    for _ in range(50):
        z = torch.randn(5, 40, generator=generator)
        masked(z, mask)
        lean(z[mask])
    torch.testing.assert_close(masked.threshold, lean.threshold, rtol=1e-5, atol=0)


def test_in_evaluation_it_selects_where_asked_to_and_stays():
    torch.manual_seed(0)
    layer = MEmeL(share=0.1, late_start=0, in_evaluation=True)
    for _ in range(3):
        layer(torch.randn(4, 60))
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    z = torch.randn(4, 60)
    above = layer.scale(z) > layer.threshold
    assert torch.equal(layer(z) != z, above)
    assert above.any()
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_it_is_saved_restored_and_reset():
    torch.manual_seed(0)
    trained = MEmeL(share=0.1, late_start=0)
    for _ in range(5):
        trained(torch.randn(4, 60))
    assert trained.threshold != MEmeL(share=0.1).threshold
    restored = MEmeL(share=0.1, late_start=0)
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored.threshold, trained.threshold)
    z = torch.randn(4, 60)
    assert torch.equal(restored(z), trained(z))
    restored.reset()
    assert torch.equal(restored.threshold, MEmeL(share=0.1).threshold)
    assert restored.calls == restored.count == restored.mean.numel() == 0


def test_statistics_saved_without_it_load_into_a_layer_with_it_and_the_other_way():
    torch.manual_seed(0)
    top, share = MEmeL(late_start=0), MEmeL(share=0.1, late_start=0)
    for layer in (top, share):
        for _ in range(5):
            layer(torch.randn(4, 60))
    with_threshold = MEmeL(share=0.2, late_start=0)
    with_threshold.load_state_dict(top.state_dict())
    assert torch.equal(with_threshold.mean, top.mean)
    assert torch.equal(with_threshold.threshold, MEmeL(share=0.2).threshold)
    without = MEmeL(late_start=0)
    without.load_state_dict(share.state_dict())
    assert torch.equal(without.variance, share.variance)
    assert without.threshold is None
    assert "threshold" not in without.state_dict()


def test_it_stays_in_float32_in_a_model_of_half_precision():
    layer = MEmeL(share=0.1).half()
    assert layer.threshold.dtype == torch.float32
    assert layer.double().threshold.dtype == torch.float64


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share must be between 0 and 1, found"):
        MEmeL(share=share)
