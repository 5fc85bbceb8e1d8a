"""Area averages, crops and tiles against plain restatements and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.regrid import (
    average_pixels,
    average_rain_rate,
    central_crop,
    coarsening_factor,
    tile_origins,
    tiles,
)


def plain_average(frame, mask, factor):
    """One cell after the other, in exact whole numbers."""
    rows, columns = frame.shape[0] // factor, frame.shape[1] // factor
    average, counts = np.zeros((rows, columns), np.uint8), np.zeros((rows, columns), bool)
    for row in range(rows):
        for column in range(columns):
            cell = np.s_[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            values = [int(v) for v, m in zip(frame[cell].flat, mask[cell].flat, strict=True) if m]
            if 2 * len(values) >= factor * factor:
                counts[row, column] = True
                average[row, column] = int(np.floor(sum(values) / len(values) + 0.5))
    return average, counts


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
)
def test_pixel_average_equals_a_plain_restatement(seed, factor, rows, columns, share):
    random = np.random.default_rng(seed)
    shape = (2, rows * factor, columns * factor)
    frames = random.integers(0, 256, shape, dtype=np.uint8)
    mask = random.random(shape) < share
    average, counts = average_pixels(frames, mask, factor)
    if factor == 1:
        np.testing.assert_array_equal(average, frames)
        np.testing.assert_array_equal(counts, mask)
        return
    for number in range(2):
        plain, plain_counts = plain_average(frames[number], mask[number], factor)
        np.testing.assert_array_equal(average[number], plain)
        np.testing.assert_array_equal(counts[number], plain_counts)


def test_a_cell_counts_if_exactly_half_of_its_pixels_do():
    frames = np.full((2, 4), 100, np.uint8)
    mask = np.array([[True, False, True, False], [True, False, False, False]])
    average, counts = average_pixels(frames, mask, 2)
    np.testing.assert_array_equal(counts, [[True, False]])
    np.testing.assert_array_equal(average, [[100, 0]])


def test_pixel_average_refuses_sides_that_do_not_divide():
    with pytest.raises(InputError, match="divisible by 4"):
        average_pixels(np.zeros((8, 10), np.uint8), np.ones((8, 10), bool), 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(5, 17), st.integers(5, 17))
def test_rain_rate_average_equals_nanmean_of_each_cell_with_the_rest_cut_evenly(
    seed, factor, height, width
):
    random = np.random.default_rng(seed)
    rate = random.gamma(0.5, 4.0, (height, width))
    rate[random.random(rate.shape) < 0.4] = np.nan
    average = average_rain_rate(rate, factor)
    top, left = (height % factor) // 2, (width % factor) // 2
    for row in range(height // factor):
        for column in range(width // factor):
            cell = rate[top + row * factor :, left + column * factor :][:factor, :factor]
            observed = cell[~np.isnan(cell)]
            if 2 * observed.size >= factor * factor:
                assert average[row, column] == pytest.approx(observed.mean(), rel=1e-12)
            else:
                assert np.isnan(average[row, column])
    assert average.shape == (height // factor, width // factor)


def test_rain_rate_average_keeps_the_total_rain():
    rate = np.random.default_rng(1).gamma(0.5, 4.0, (12, 20))
    assert average_rain_rate(rate, 4).sum() * 16 == pytest.approx(rate.sum(), rel=1e-12)


def test_central_crop_takes_the_middle():
    grid = np.arange(7 * 6).reshape(7, 6)
    np.testing.assert_array_equal(central_crop(grid, 4), grid[1:5, 1:5])
    with pytest.raises(InputError, match="at least 7 × 7"):
        central_crop(grid, 7)


def test_coarsening_takes_whole_multiples_only():
    assert coarsening_factor(4.0, 0.99962859) == 4
    assert coarsening_factor(2.0, 2.0) == 1
    for spacing in (3.5, 0.5):
        with pytest.raises(InputError, match="whole multiple"):
            coarsening_factor(spacing, 1.0)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_tiles_lie_inside_at_the_stride_with_an_even_margin(length, size, stride):
    if size > length:
        with pytest.raises(InputError):
            tile_origins(length, size, stride)
        return
    origins = tile_origins(length, size, stride)
    before, after = origins[0], length - origins[-1] - size
    assert 0 <= before <= after <= before + 1
    assert before + after < stride
    assert set(np.diff(origins)) <= {stride}


def test_tiles_tell_coverage_and_wet_fraction():
    random = np.random.default_rng(2)
    mask = random.random((3, 8, 12)) < 0.6
    wet = mask & (random.random(mask.shape) < 0.3)
    found = list(tiles(mask.sum(axis=0), wet.sum(axis=0), 3, size=4))
    assert [(tile.row, tile.column) for tile in found] == [
        (row, column) for row in (0, 4) for column in (0, 4, 8)
    ]
    for tile in found:
        here = np.s_[:, tile.row : tile.row + 4, tile.column : tile.column + 4]
        assert tile.coverage == pytest.approx(mask[here].mean(), rel=1e-12)
        assert tile.wet_fraction == pytest.approx(wet[here][mask[here]].mean(), rel=1e-12)
    nothing = np.zeros((4, 4), int)
    assert next(tiles(nothing, nothing, 3, size=4)).wet_fraction == 0.0
