"""Scales add up to the field, and are what Gaussians of an independent package leave."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from nowcast.models.scales import SCALES, SMOOTHING_PIXELS, split_scales


def field(seed, height=40, width=52, dtype=torch.float64):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(0, 1, (2, 1, height, width))).to(dtype)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_they_add_up_to_the_field(seed, height, width):
    whole = field(seed, height, width)
    scales = split_scales(whole)
    assert scales.shape == (2, SCALES, height, width)
    torch.testing.assert_close(scales.sum(dim=1, keepdim=True), whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("number", range(len(SMOOTHING_PIXELS)))
def test_what_is_coarser_than_a_scale_is_the_field_smoothed(number):
    whole = field(1)
    coarser = split_scales(whole)[:, number + 1 :].sum(dim=1)
    sigma = SMOOTHING_PIXELS[number]
    expected = [
        gaussian_filter(one, sigma, truncate=3, mode="nearest") for one in whole[:, 0].numpy()
    ]
    np.testing.assert_allclose(coarser, np.stack(expected), atol=1e-14)


def test_a_field_without_structure_is_of_the_coarsest_scale():
    scales = split_scales(torch.full((1, 1, 30, 30), 0.4))
    torch.testing.assert_close(scales[:, :-1], torch.zeros(1, SCALES - 1, 30, 30))
    torch.testing.assert_close(scales[:, -1], torch.full((1, 30, 30), 0.4))


def test_autocast_does_not_make_them_coarse():
    whole = field(2, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        half = split_scales(whole)
    assert torch.equal(half, split_scales(whole))
