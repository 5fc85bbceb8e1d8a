"""Pixel value, reflectivity and rain rate against closed forms, in every array library."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nowcast.radar.units import (
    HKO7,
    ZRRelation,
    dbz_to_pixel,
    pixel_to_dbz,
    pixel_to_rain_rate,
    rain_rate_to_pixel,
)

THRESHOLDS_MM_H = (0.5, 2.0, 5.0, 10.0, 30.0)
PUBLISHED_PIXELS = (0.3283, 0.4624, 0.5511, 0.6182, 0.7245)
MARSHALL_PALMER = ZRRelation(a=200.0, b=1.6)

pixels = st.floats(0, 1)
rates = st.floats(1e-3, 300)
relations = st.builds(ZRRelation, a=st.floats(10, 1000), b=st.floats(1, 3))


def test_the_benchmarks_thresholds_have_the_published_pixel_values():
    found = [rain_rate_to_pixel(rate) for rate in THRESHOLDS_MM_H]
    np.testing.assert_allclose(found, PUBLISHED_PIXELS, rtol=0, atol=5e-5)


@given(rates)
def test_a_pixel_value_follows_from_the_benchmarks_formula(rate):
    dbz = 10 * math.log10(58.53) + 15.6 * math.log10(rate)
    assert rain_rate_to_pixel(rate) == pytest.approx((dbz + 10) / 70, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("pixel", "dbz"), [(0.0, -10.0), (1 / 7, 0.0), (0.5, 25.0), (1.0, 60.0)])
def test_pixel_values_run_from_minus_10_to_60_dbz(pixel, dbz):
    assert pixel_to_dbz(pixel) == pytest.approx(dbz, abs=1e-12)
    assert dbz_to_pixel(dbz) == pytest.approx(pixel, abs=1e-15)


def test_an_empty_pixel_is_a_trace_of_rain_and_no_rain_is_below_every_pixel():
    assert pixel_to_rain_rate(0.0) == pytest.approx(10 ** ((-1 - math.log10(58.53)) / 1.56))
    for none in (np.zeros(3), np.zeros(3, np.float32), torch.zeros(3)):
        assert (np.asarray(rain_rate_to_pixel(none)) == -np.inf).all()
    assert HKO7.dbz_to_rain_rate(-np.inf) == 0


def test_another_relation_gives_the_textbooks_reflectivities():
    # Marshall and Palmer: Z = 200 R^1.6, hence 23.0 dBZ at 1 mm/h and 39.0 dBZ at 10 mm/h.
    dbz = MARSHALL_PALMER.rain_rate_to_dbz(np.array([1.0, 10.0]))
    np.testing.assert_allclose(dbz, [10 * math.log10(200), 10 * math.log10(200) + 16], rtol=1e-14)
    assert MARSHALL_PALMER.dbz_to_rain_rate(23.0103) == pytest.approx(1.0, rel=1e-5)
    # The same pixel value is other rain by another relation: FMI's 2 mm/h is not HKO-7's.
    fmi = ZRRelation(a=223.0, b=1.53)
    mistaken = HKO7.dbz_to_rain_rate(fmi.rain_rate_to_dbz(2.0))
    assert mistaken == pytest.approx(4.65, abs=0.01)


@given(pixels, relations)
def test_a_pixel_value_survives_the_way_to_rain_rate_and_back(pixel, relation):
    back = rain_rate_to_pixel(pixel_to_rain_rate(pixel, relation), relation)
    assert back == pytest.approx(pixel, abs=1e-12)


@given(rates, relations)
def test_a_rain_rate_survives_the_way_to_pixel_value_and_back(rate, relation):
    there = rain_rate_to_pixel(rate, relation)
    assert pixel_to_rain_rate(there, relation) == pytest.approx(rate, rel=1e-10)


@given(rates, rates, relations)
def test_more_rain_is_a_higher_pixel_value(one, other, relation):
    low, high = sorted((one, other))
    assert rain_rate_to_pixel(low, relation) <= rain_rate_to_pixel(high, relation)
    if high > low * (1 + 1e-9):
        assert rain_rate_to_pixel(low, relation) < rain_rate_to_pixel(high, relation)


@pytest.mark.parametrize(
    "convert", [pixel_to_dbz, dbz_to_pixel, pixel_to_rain_rate, rain_rate_to_pixel]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_tensors_and_numbers_give_the_same_and_keep_dtype_and_shape(convert, dtype):
    values = np.array([[0.05, 0.3283, 0.5], [0.7245, 0.9, 1.0]])
    exact = np.array([[convert(float(value)) for value in row] for row in values])
    # Each is as exact as its dtype allows: the conversions raise to powers of at most 10^4.
    tolerance = 64 * float(np.finfo(dtype).eps)
    array = convert(values.astype(dtype))
    assert array.dtype == dtype
    assert array.shape == values.shape
    np.testing.assert_allclose(array.astype(float), exact, rtol=tolerance, atol=tolerance)
    tensor = convert(torch.from_numpy(values.astype(dtype)))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == getattr(torch, dtype)
    assert tensor.shape == values.shape
    np.testing.assert_allclose(tensor.double().numpy(), exact, rtol=tolerance, atol=tolerance)


def test_gradients_pass_through_tensors():
    pixel = torch.tensor([0.2, 0.6], dtype=torch.float64, requires_grad=True)
    pixel_to_rain_rate(pixel).sum().backward()
    # d/dp 10^((70 p − 10)/(10 b) − …) = R · 7 ln 10 / b.
    expected = pixel_to_rain_rate(pixel.detach()) * 7 * math.log(10) / 1.56
    torch.testing.assert_close(pixel.grad, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("a", "b"), [(0, 1.6), (200, 0), (-1, 1.6), (200, -1), (math.nan, 1.6)])
def test_a_relation_needs_positive_numbers(a, b):
    with pytest.raises(ValueError, match=f"positive, found a={a}, b={b}"):
        ZRRelation(a, b)
