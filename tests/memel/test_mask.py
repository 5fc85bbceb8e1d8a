"""Padding masks of the layer: what does not count is neither selected, counted nor changed."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.memel import MEmeL

MASKS = {
    "element": ((6, 5, 4), (6,)),
    "channel": ((6, 5, 4, 3), (6,)),
    "last": ((6, 5, 4), (6, 5)),
    "last, of samples": ((6, 5, 4), (6,)),
}
"""Shapes of activations and mask for each kind of neurons."""


def samples_of(z, mask, neurons):
    """What counts in `z`, as (sample, neuron)."""
    if neurons == "channel":
        return z.movedim(1, -1)[mask].flatten(0, -2)
    return z[mask].flatten(1) if neurons == "element" else z[mask].flatten(0, -2)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(list(MASKS)),
    per=st.sampled_from(["sample", "batch"]),
    share=st.sampled_from([None, 0.2]),
    counting=st.lists(st.sampled_from([0.0, 0.2, 0.6, 1.0]), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
)
def test_statistics_are_those_of_the_samples_that_count(case, per, share, counting, seed):
    shape, mask_shape = MASKS[case]
    neurons = case.split(",")[0]
    generator = torch.Generator().manual_seed(seed)
    layer = MEmeL(top=3, per=per, share=share, late_start=0, neurons=neurons)
    history = []
    for probability in counting:
        z = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 10
        mask = torch.rand(mask_shape, generator=generator) < probability
        layer(z, mask)
        history.append(samples_of(z, mask, neurons))
    known = torch.cat(history)
    assert layer.count == len(known)
    assert layer.calls == len(counting)
    mean = known.mean(0) if len(known) else torch.zeros(known.shape[1], dtype=torch.float64)
    variance = known.var(0) if len(known) > 1 else torch.zeros_like(mean)
    torch.testing.assert_close(layer.mean.flatten(), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.variance.flatten(), variance, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(list(MASKS)),
    per=st.sampled_from(["sample", "batch"]),
    top=st.sampled_from([1, 2, 7]),
    counting=st.sampled_from([0.0, 0.2, 0.6]),
    seed=st.integers(0, 2**31),
)
def test_the_most_monosemantic_of_what_counts_are_selected_and_no_padding(
    case, per, top, counting, seed
):
    shape, mask_shape = MASKS[case]
    neurons = case.split(",")[0]
    generator = torch.Generator().manual_seed(seed)
    past, z = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(mask_shape, generator=generator) < counting
    counts = mask.reshape(*mask_shape, *[1] * (len(shape) - len(mask_shape))).expand(shape)
    # The largest scales of all are in the padding.
    z = torch.where(counts, z, 1e3 * z)
    layer = MEmeL(top=top, per=per, delta=0.3, late_start=0, neurons=neurons)
    layer(past)
    rows = layer.scale(z).masked_fill(~counts, -1.0).view(shape[0] if per == "sample" else 1, -1)
    expected = torch.zeros_like(rows, dtype=torch.bool)
    expected.scatter_(1, rows.topk(top).indices, True)
    expected = (expected & (rows >= 0)).view(shape)
    mean = layer.mean.view(-1, 1, 1) if neurons == "channel" else layer.mean
    mean = mean.expand(shape).clone()

    z.requires_grad_()
    out = layer(z, mask)
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
    out.backward(upstream)
    assert torch.equal(out[expected], mean[expected])
    assert torch.equal(out[~expected], z[~expected])
    assert torch.equal(z.grad[expected], -0.3 * upstream[expected])
    assert torch.equal(z.grad[~expected], upstream[~expected])


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e38])
@pytest.mark.parametrize("share", [None, 0.2])
@pytest.mark.parametrize("case", list(MASKS))
def test_whatever_stands_in_the_padding_changes_nothing(case, share, garbage):
    shape, mask_shape = MASKS[case]
    generator = torch.Generator().manual_seed(1)
    clean, dirty = (
        MEmeL(top=3, share=share, late_start=0, neurons=case.split(",")[0]) for _ in range(2)
    )
    # Garbage in the first call as well, in which the statistics start.
    for _ in range(4):
        mask = torch.rand(mask_shape, generator=generator) < 0.5
        counts = mask.reshape(*mask_shape, *[1] * (len(shape) - len(mask_shape))).expand(shape)
        z = torch.randn(shape, generator=generator)
        padded = torch.where(counts, z, garbage)
        wanted, got = clean(z, mask), dirty(padded, mask)
        assert torch.equal(got[counts], wanted[counts])
        # Bit for bit, as NaN is equal to nothing.
        assert torch.equal(got[~counts].view(torch.int32), padded[~counts].view(torch.int32))
    for name, value in clean.state_dict().items():
        assert torch.equal(dirty.state_dict()[name], value)


@pytest.mark.parametrize("share", [None, 0.2])
def test_a_mask_where_all_counts_is_no_mask(share):
    torch.manual_seed(0)
    plain, masked = (MEmeL(share=share, late_start=0, neurons="last") for _ in range(2))
    for _ in range(4):
        z = torch.randn(4, 5, 6, dtype=torch.float64)
        assert torch.equal(masked(z, torch.ones(4, 5, dtype=torch.bool)), plain(z))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value, rtol=1e-12, atol=1e-13)


def test_after_forget_step_the_past_weighs_by_what_counts_in_the_present_call():
    torch.manual_seed(0)
    masked, lean = (MEmeL(late_start=0, forget_step=2) for _ in range(2))
    for call in range(6):
        z = torch.randn(8, 5, dtype=torch.float64)
        mask = torch.arange(8) < 3 + call
        masked(z, mask)
        lean(z[mask])
        before = copy.deepcopy(masked.state_dict())
        masked(torch.randn(8, 5, dtype=torch.float64), torch.zeros(8, dtype=torch.bool))
        assert torch.equal(masked.mean, before["mean"])
        assert torch.equal(masked.variance, before["variance"])
        assert masked.count == before["count"]
        masked.calls.sub_(1)
    torch.testing.assert_close(masked.mean, lean.mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(masked.variance, lean.variance, rtol=1e-12, atol=1e-13)
    assert masked.count == lean.count


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("neurons", ["element", "channel"])
def test_masks_fit_channels_last_activations(neurons, layout):
    generator = torch.Generator().manual_seed(0)
    layer = MEmeL(late_start=0, neurons=neurons)
    z = torch.randn(6, 5, 4, 3, generator=generator, dtype=torch.float64)
    mask = torch.tensor([True, False, True, True, False, True])
    for _ in range(2):
        out = layer(z.contiguous(memory_format=layout), mask)
    known = samples_of(z, mask, neurons)
    torch.testing.assert_close(layer.mean.flatten(), known.mean(0), rtol=1e-12, atol=1e-13)
    assert ((out != z).flatten(1).sum(1) == mask).all()


@pytest.mark.parametrize(
    ("neurons", "mask", "found"),
    [
        ("last", torch.ones(4, 5), r"the mask is of torch.float32, expected torch.bool"),
        ("last", torch.ones(4, 5, dtype=torch.int64), r"the mask is of torch.int64, expected"),
        ("last", torch.ones(5, 4, dtype=torch.bool), r"shape \(5, 4\), expected the first 1 to 2"),
        ("last", torch.ones(4, 5, 6, dtype=torch.bool), r"shape \(4, 5, 6\), expected the first"),
        ("last", torch.tensor(True), r"shape \(\), expected the first 1 to 2 dimensions"),
        ("element", torch.ones(4, 5, dtype=torch.bool), r"of the activations \(4, 5, 6\)"),
        ("channel", torch.ones(4, 5, dtype=torch.bool), r"expected the first 1 to 1 dimensions"),
        ("channel", torch.ones(1, dtype=torch.bool), r"shape \(1,\), expected the first 1 to 1"),
    ],
)
def test_a_mask_of_another_dtype_or_shape_is_refused_in_one_line(neurons, mask, found):
    layer = MEmeL(neurons=neurons)
    with pytest.raises(ValueError, match=found) as refusal:
        layer(torch.randn(4, 5, 6), mask)
    assert "\n" not in str(refusal.value)
    assert layer.calls == 0
    assert not layer.mean.numel()
