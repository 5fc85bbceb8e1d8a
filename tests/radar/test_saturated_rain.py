"""The rain of a frame: against its formula in plain numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nowcast.radar.saturated_rain import mean_saturated_rain


def _saturated(value):
    dbz = 70 * value / 255 - 10
    rain_rate_mm_h = 10 ** ((dbz - 10 * math.log10(58.53)) / 15.6)
    return 1 - math.exp(-rain_rate_mm_h) if value else 0.0


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 9), st.integers(1, 9))
def test_rain_is_the_mean_of_its_formula_over_the_pixels_that_count(seed, share, height, width):
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (3, height, width), dtype=np.uint8)
    masks = random.random((3, height, width)) < share
    found = mean_saturated_rain(frames, masks)
    assert (found.dtype, found.shape) == (np.float32, (3,))
    for frame, mask, rain in zip(frames, masks, found, strict=True):
        counted = [_saturated(int(value)) for value in frame[mask]]
        expected = sum(counted) / len(counted) if counted else 0.0
        assert rain == pytest.approx(expected, abs=1e-7)


def test_no_echo_is_no_rain_and_the_hardest_rain_is_almost_one():
    frames = np.stack([np.full((40, 50), value, dtype=np.uint8) for value in (0, 255)])
    rain = mean_saturated_rain(frames, np.ones(frames.shape, dtype=bool))
    # 60 dBZ are 517 mm/h by HKO-7's relation, and exp(-517) is nothing.
    assert rain.tolist() == [0.0, 1.0]
    assert mean_saturated_rain(frames, np.zeros(frames.shape, dtype=bool)).tolist() == [0.0, 0.0]
