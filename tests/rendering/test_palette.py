"""Which colour a rain rate gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.rendering.palette import (
    DRY,
    NO_COVERAGE,
    NO_COVERAGE_STRIPE,
    RAIN_COLOURS,
    RAIN_EDGES_MM_H,
    hatched,
    palette_bytes,
    rain_classes,
)


def pixels_of(rain_rate_mm_h):
    dbz = 10 * np.log10(58.53) + 15.6 * np.log10(np.asarray(rain_rate_mm_h, float))
    return ((dbz + 10) / 70).astype(np.float32)


def luminance(colour):
    linear = (np.array(colour) / 255) ** 2.2
    return linear @ [0.2126, 0.7152, 0.0722]


def test_a_rate_at_an_edge_falls_in_the_bin_above_and_just_below_in_the_bin_below():
    at = pixels_of(RAIN_EDGES_MM_H)
    assert rain_classes(at).tolist() == list(range(1, 10))
    assert rain_classes(np.nextafter(at, np.float32(0))).tolist() == list(range(9))
    assert rain_classes(np.array([0.0, 1.0], np.float32)).tolist() == [DRY, 9]


@given(st.floats(0.0171, 300.0))
def test_the_bin_of_a_rate_is_the_number_of_edges_that_it_reaches(rate):
    edges = np.array(RAIN_EDGES_MM_H)
    if np.min(np.abs(edges / rate - 1)) > 1e-5:
        assert rain_classes(pixels_of([rate]))[0] == np.sum(edges <= rate)


def test_masked_and_nan_pixels_are_no_coverage_whatever_they_hold():
    pixels = np.array([[0.9, np.nan], [0.0, 0.9]], np.float32)
    mask = np.array([[False, True], [False, True]])
    assert rain_classes(pixels, mask).tolist() == [[NO_COVERAGE] * 2, [NO_COVERAGE, 9]]


def test_many_pixels_are_binned_and_masked_as_one_by_one():
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 1, (3, 190, 231)).astype(np.float32)
    pixels[rng.uniform(size=pixels.shape) < 0.02] = np.nan
    mask = rng.uniform(size=pixels.shape[1:]) < 0.9
    edges = np.array([rain_rate_to_pixel(rate) for rate in RAIN_EDGES_MM_H]).astype(np.float32)
    expected = np.searchsorted(edges, pixels, side="right")
    expected[np.isnan(pixels) | ~mask] = NO_COVERAGE
    assert pixels.size > 2 * 65_536
    np.testing.assert_array_equal(rain_classes(pixels, mask), expected)
    # Not in one piece of memory.
    np.testing.assert_array_equal(rain_classes(pixels[:, ::2, ::-1]), np.where(
        np.isnan(pixels), NO_COVERAGE, np.searchsorted(edges, pixels, side="right")
    )[:, ::2, ::-1])  # fmt: skip


def test_stripes_run_diagonally_and_are_as_wide_as_asked():
    classes = np.full((7, 13), NO_COVERAGE, np.uint8)
    for width in (1, 2, 5):
        expected = [
            [NO_COVERAGE if (x + y) // width % 2 else NO_COVERAGE_STRIPE for x in range(13)]
            for y in range(7)
        ]
        assert hatched(classes, width).tolist() == expected


def test_stripes_cover_half_of_what_has_no_coverage_and_nothing_else():
    classes = np.full((12, 12), NO_COVERAGE, np.uint8)
    classes[:, 6:] = 3
    found = hatched(classes)
    assert (found[:, 6:] == 3).all()
    assert (found[:, :6] == NO_COVERAGE_STRIPE).sum() == 36
    assert (found[:, :6] == NO_COVERAGE).sum() == 36


def test_colours_are_distinct_and_darken_within_light_and_within_heavy_rain():
    palette = np.frombuffer(palette_bytes(), np.uint8).reshape(256, 3)
    used = palette[: NO_COVERAGE_STRIPE + 2]
    assert len({tuple(colour) for colour in used}) == len(used)
    shades = [luminance(colour) for colour in palette[: len(RAIN_COLOURS) + 1]]
    assert shades[:6] == sorted(shades[:6], reverse=True)
    assert shades[6:] == sorted(shades[6:], reverse=True)
    assert luminance(palette[DRY]) > 0.9


def test_stored_bytes_and_float_masks_are_refused():
    with pytest.raises(InputError, match="uint8"):
        rain_classes(np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="mask"):
        rain_classes(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
