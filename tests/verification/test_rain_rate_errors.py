"""Errors of rain rates against the `scores` package and a restatement in double precision."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scores.continuous import additive_bias, mae, rmse

from nowcast.errors import InputError
from nowcast.radar.units import pixel_to_rain_rate
from nowcast.verification.rain_rate import RAIN_RATE_NAMES, RainRateErrors

DIMS = ("batch", "time", "channel", "y", "x")


def random_fields(seed, shape=(3, 4, 1, 21, 26)):
    random = np.random.default_rng(seed)
    truth = (np.round(random.uniform(-0.4, 1, shape).clip(0) * 255) / 255).astype(np.float32)
    prediction = (truth + random.normal(0, 0.1, shape)).astype(np.float32)
    return prediction, truth, random.uniform(size=shape) > 0.2


def rate(pixels):
    """HKO-7's Z–R relation in double precision: dBZ = 70 p − 10, Z = 58.53 R^1.56; 0 is dry."""
    pixels = np.clip(pixels.astype(np.float64), 0, 1)
    return np.where(pixels > 0, (10 ** ((70 * pixels - 10) / 10) / 58.53) ** (1 / 1.56), 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_errors_are_those_of_the_scores_package_in_double_precision(seed):
    prediction, truth, mask = random_fields(seed)
    errors = RainRateErrors(4)
    errors.update(prediction, truth, mask)
    found = errors.compute()
    assert tuple(found) == RAIN_RATE_NAMES
    forecast, observed = (
        xr.DataArray(np.where(mask, rate(field), np.nan), dims=DIMS)
        for field in (prediction, truth)
    )
    expected = {
        "mae_mm_h": mae(forecast, observed, preserve_dims="time"),
        "rmse_mm_h": rmse(forecast, observed, preserve_dims="time"),
        "mean_forecast_mm_h": forecast.mean(("batch", "channel", "y", "x")),
        "mean_observed_mm_h": observed.mean(("batch", "channel", "y", "x")),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
    # A difference of two means: as exact as they are.
    bias = additive_bias(forecast, observed, preserve_dims="time")
    scale = 1e-6 * float(found["mean_observed_mm_h"].max())
    np.testing.assert_allclose(found["mean_error_mm_h"], bias, rtol=0, atol=scale)


def test_every_stored_pixel_value_has_the_rain_rate_of_units_and_zero_is_dry():
    pixels = (np.arange(256) / 255).astype(np.float32).reshape(256, 1, 1, 1, 1)
    for start in range(256):
        errors = RainRateErrors(1)
        pixel = pixels[start : start + 1]
        errors.update(pixel, np.zeros_like(pixel), pixel >= 0)
        expected = pixel_to_rain_rate(float(pixel.item())) if start else 0.0
        found = errors.compute()
        assert found["mean_error_mm_h"] == pytest.approx(expected, rel=2e-6)
        assert found["rmse_mm_h"] == pytest.approx(expected, rel=2e-6)
        assert found["mean_observed_mm_h"] == 0


def test_known_rain_rates_have_known_errors():
    # 1 and 4 mm/h are forecast where 2 and 1 mm/h fall; the third pixel is masked, the fourth dry.
    def pixel(rain_rate):
        return (10 * np.log10(58.53) + 15.6 * np.log10(rain_rate) + 10) / 70

    prediction = np.array([pixel(1.0), pixel(4.0), 1.0, 0.0]).reshape(1, 1, 1, 2, 2)
    truth = np.array([pixel(2.0), pixel(1.0), 0.1, 0.0]).reshape(prediction.shape)
    errors = RainRateErrors(1)
    errors.update(prediction, truth, np.array([True, True, False, True]).reshape(truth.shape))
    found = {name: values.item() for name, values in errors.compute().items()}
    assert found == pytest.approx(
        {
            "mean_error_mm_h": (-1 + 3 + 0) / 3,
            "mae_mm_h": (1 + 3 + 0) / 3,
            "rmse_mm_h": np.sqrt((1 + 9 + 0) / 3),
            "mean_forecast_mm_h": 5 / 3,
            "mean_observed_mm_h": 1,
        },
        rel=1e-6,
    )


def test_rmse_is_the_root_of_the_mean_over_all_clips_not_the_mean_of_their_roots():
    truth = np.zeros((2, 1, 1, 1, 1), np.float32)
    prediction = np.array([1.0, 0.0], np.float32).reshape(truth.shape)
    errors = RainRateErrors(1)
    for clip in range(2):
        errors.update(prediction[clip : clip + 1], truth[:1], truth[:1] == 0)
    strongest = pixel_to_rain_rate(1.0)
    assert errors.compute()["rmse_mm_h"] == pytest.approx(strongest / np.sqrt(2), rel=1e-6)
    assert errors.summary()["rmse_mm_h"] == errors.compute()["rmse_mm_h"][0]


def test_a_mask_that_hides_everything_leaves_means_undefined_and_out_of_the_summary():
    prediction, truth, mask = random_fields(3)
    errors = RainRateErrors(4)
    errors.update(prediction, truth, np.zeros_like(mask))
    assert all(np.isnan(values).all() for values in errors.compute().values())
    assert all(np.isnan(value) for value in errors.summary().values())
    mask[:, 2] = False
    errors.update(prediction, truth, mask)
    found = errors.compute()
    for name in RAIN_RATE_NAMES:
        defined = found[name][[0, 1, 3]]
        assert np.isnan(found[name][2])
        assert errors.summary()[name] == pytest.approx(defined.mean(), rel=1e-12)


def test_predictions_are_clipped_infinities_too():
    truth = np.array([0.0, 1.0], np.float32).reshape(1, 1, 1, 1, 2)
    errors = RainRateErrors(1)
    errors.update(np.array([-np.inf, np.inf]).reshape(truth.shape), truth, truth >= 0)
    assert errors.compute()["mae_mm_h"] == 0


@pytest.mark.parametrize("value", [1.01, -0.2, np.inf, -np.inf])
def test_truth_outside_of_0_to_1_is_refused_where_the_mask_counts(value):
    prediction, truth, mask = random_fields(4)
    errors = RainRateErrors(4)
    truth[0, 2, 0, 3, 3], mask[0, 2, 0, 3, 3] = value, False
    errors.update(prediction, truth, mask)
    before = errors.compute()
    mask[0, 2, 0, 3, 3] = True
    with pytest.raises(InputError, match=r"truth to score: .*outside of \[0, 1\] at lead time 3"):
        errors.update(prediction, truth, mask)
    for name, values in errors.compute().items():
        np.testing.assert_array_equal(values, before[name])


def test_fields_that_do_not_fit_and_other_lead_times_are_refused():
    prediction, truth, mask = (torch.from_numpy(field) for field in random_fields(0))
    with pytest.raises(InputError, match="prediction to score: found shape"):
        RainRateErrors(3).update(prediction, truth, mask)
    with pytest.raises(InputError, match="5 lead times"):
        RainRateErrors(4).merge(RainRateErrors(5))
