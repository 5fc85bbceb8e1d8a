"""A field between two is where its motion has brought it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.plugins.fractional_steps import between

Y, X = np.mgrid[:40, :50].astype(np.float32)


def motion(right, down):
    return np.stack([np.full_like(X, right), np.full_like(X, down)])


@settings(deadline=None)
@given(
    fraction=st.floats(0.01, 0.99),
    right=st.floats(-4, 4),
    down=st.floats(-4, 4),
    slopes=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_a_slope_that_moves_is_where_it_should_be(fraction, right, down, slopes):
    """Linear fields are interpolated without error, but for OpenCV's 1/32 of a pixel."""

    def slope(ahead):
        return slopes[0] * (X - ahead * right) + slopes[1] * (Y - ahead * down)

    found = between(slope(0), slope(1), motion(right, down), fraction)
    assert found.dtype == np.float32
    inside = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(found[inside], slope(fraction)[inside], rtol=0, atol=0.07)


def test_by_whole_pixels_a_shower_keeps_its_shape():
    """Two steps of 4 pixels in one: half of it is exact."""
    shower = np.zeros((40, 50), np.float32)
    shower[15:18, 20:24] = np.random.default_rng(0).uniform(1, 9, (3, 4))
    later, half = np.roll(shower, (8, -4), (0, 1)), np.roll(shower, (4, -2), (0, 1))
    np.testing.assert_allclose(between(shower, later, motion(-4, 8), 0.5), half, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_growth_is_linear_in_time(fraction):
    fields = np.full((2, 40, 50), [[[2.0]], [[6.0]]], np.float32)
    found = between(*fields, motion(3, -2), fraction)
    np.testing.assert_allclose(found, 2 + 4 * fraction, rtol=1e-6)  # At the edges, too.
