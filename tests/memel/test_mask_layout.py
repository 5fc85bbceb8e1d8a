"""Padding masks of activations that lie in memory in any order."""

import itertools

import pytest
import torch

from nowcast.memel import MEmeL
from nowcast.memel.arrangement import arrange

SHAPE = (3, 5, 4, 6)


def in_memory(z, order):
    """The same values, the dimensions in another order in memory."""
    return z.permute(order).contiguous().permute([order.index(d) for d in range(z.ndim)])


@pytest.mark.parametrize("order", [(0, *rest) for rest in itertools.permutations((1, 2, 3))])
@pytest.mark.parametrize(
    ("neurons", "dimensions"),
    [("element", 1), ("channel", 1), ("last", 1), ("last", 2), ("last", 3)],
)
def test_a_mask_beside_the_grid_is_that_of_every_activation(neurons, dimensions, order):
    generator = torch.Generator().manual_seed(0)
    z = in_memory(torch.randn(SHAPE, generator=generator), order)
    mask = torch.rand(SHAPE[:dimensions], generator=generator) < 0.5
    everywhere = mask.reshape(*mask.shape, *[1] * (4 - dimensions)).expand(SHAPE)
    arrangement = arrange(z, neurons, "sample")
    grid = arrangement.in_grid(torch.where(everywhere, z, 0.0))
    beside = arrangement.mask_beside_grid(mask)
    assert beside.numel() == arrangement.samples
    assert torch.equal(torch.where(beside, arrangement.in_grid(z), 0.0), grid)


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 1, 3)])
def test_padding_that_is_not_a_number_in_any_order_of_memory_changes_nothing(order):
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(SHAPE[:3], generator=generator) < 0.6
    layers = [MEmeL(neurons="last", late_start=1, top=2) for _ in range(2)]
    for _ in range(3):
        z = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        z[~mask] = float("nan")
        outputs = layers[0](z, mask), layers[1](in_memory(z, order), mask)
        assert torch.equal(outputs[0].isnan(), outputs[1].isnan())
        # Means are sums, whose order is that of memory.
        torch.testing.assert_close(outputs[1][mask], outputs[0][mask], rtol=1e-12, atol=1e-13)
    assert ((outputs[0] != z) & mask[..., None]).flatten(1).sum(1).tolist() == [2, 2, 2]
    torch.testing.assert_close(layers[1].mean, layers[0].mean, rtol=1e-12, atol=1e-13)
