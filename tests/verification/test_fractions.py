"""Fractions skill score against pysteps, `scores` and closed forms."""

import numpy as np
import pytest
import torch

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.verification.fractions import FractionsSkill, check_windows

THRESHOLDS = (0.5, 2.0, 10.0)
PIXELS = [np.float32(rain_rate_to_pixel(rate)) for rate in THRESHOLDS]
SIZES = [(16, 16), (17, 23), (31, 40)]
WINDOWS = (1, 3, 5, 11)


def fields(size, batch=1, lead_times=1, seed=0):
    """Forecast and truth with patches of rain, and a mask with holes."""
    generator = np.random.default_rng(seed)
    shape = (batch, lead_times, 1, *size)
    noise = generator.random((2, *shape), dtype=np.float32)
    smooth = sum(np.roll(noise, step, axis=axis) for step in range(3) for axis in (-1, -2)) / 6
    forecast, truth = np.clip(0.5 + 2.0 * (smooth - 0.5), 0.0, 1.0).astype(np.float32)
    return forecast, truth, generator.random(shape) < 0.9


def accumulated(forecast, truth, mask, windows=WINDOWS, thresholds=THRESHOLDS):
    scores = FractionsSkill(forecast.shape[1], thresholds, windows)
    scores.update(torch.from_numpy(forecast), torch.from_numpy(truth), torch.from_numpy(mask))
    return scores


@pytest.fixture(scope="module")
def spatialscores():
    return pytest.importorskip(
        "pysteps.verification.spatialscores", reason="pysteps is the reference"
    )


def by_pysteps(spatialscores, clips, threshold, window):
    """The score over several clips; masked pixels are NaN, which pysteps takes for no event."""
    state = spatialscores.fss_init(threshold, window)
    for forecast, truth, mask in clips:
        spatialscores.fss_accum(
            state, *(np.where(mask, field, np.nan).astype(float) for field in (forecast, truth))
        )
    return spatialscores.fss_compute(state)


@pytest.mark.parametrize("size", SIZES)
def test_pysteps_gives_the_same(spatialscores, size):
    forecast, truth, mask = fields(size, batch=3, lead_times=2)
    found = accumulated(forecast, truth, mask).compute()["fss"]
    for lead_time in range(2):
        clips = [
            tuple(field[clip, lead_time, 0] for field in (forecast, truth, mask))
            for clip in range(3)
        ]
        expected = [
            [by_pysteps(spatialscores, clips, float(pixel), window) for window in WINDOWS]
            for pixel in PIXELS
        ]
        np.testing.assert_allclose(found[lead_time], expected, rtol=0, atol=1e-10)
    assert 0.1 < found.min() < found.max() < 1.0


def test_pysteps_gives_the_same_with_windows_wider_than_the_frame(spatialscores):
    """Counts of these do not fit 16 bits, and those of 181 just do."""
    forecast, truth, mask = fields((100, 92))
    truth[..., :50, :] = 0.0
    for windows in ((1, 181), (5, 183, 199)):
        found = accumulated(forecast, truth, mask, windows).compute()["fss"]
        clips = [tuple(field[0, 0, 0] for field in (forecast, truth, mask))]
        for place, window in enumerate(windows):
            expected = by_pysteps(spatialscores, clips, float(PIXELS[1]), window)
            assert found[0, 1, place] == pytest.approx(expected, abs=1e-10)


def by_scores_package(forecast, truth, threshold, window):
    xarray = pytest.importorskip("xarray")
    spatial = pytest.importorskip("scores.spatial", reason="`scores` is the reference")
    return float(
        spatial.fss_2d(
            *(xarray.DataArray(field, dims=("y", "x")) for field in (forecast, truth)),
            event_threshold=threshold,
            window_size=(window, window),
            spatial_dims=("y", "x"),
            zero_padding=True,
            threshold_operator=np.greater_equal,
        )
    )


@pytest.mark.parametrize("size", SIZES)
def test_scores_package_gives_the_same_with_one_more_row_and_column(size):
    """It looks at windows around one more row and column, so ours are given them, dry."""
    forecast, truth, mask = fields(size, seed=1)
    mask[:] = True
    more = [(0, 0)] * 3 + [(0, 1)] * 2
    found = accumulated(*(np.pad(field, more) for field in (forecast, truth, mask)))
    for place, window in enumerate(WINDOWS):
        expected = by_scores_package(forecast[0, 0, 0], truth[0, 0, 0], PIXELS[1], window)
        assert found.compute()["fss"][0, 1, place] == pytest.approx(expected, abs=1e-10)


def test_how_much_the_scores_package_differs():
    """By up to 0.02 on a small frame with rain at its edge, and not at all with a dry margin."""
    forecast, truth, mask = fields((31, 40), seed=1)
    mask[:] = True
    for dry_margin in (0, 6):
        if dry_margin:
            for field in (forecast, truth):
                field[..., -dry_margin:, :] = field[..., -dry_margin:] = 0.0
        found = accumulated(forecast, truth, mask).compute()["fss"][0, 1]
        expected = [
            by_scores_package(forecast[0, 0, 0], truth[0, 0, 0], PIXELS[1], window)
            for window in WINDOWS
        ]
        difference = np.abs(found - expected)
        assert difference[0] < 1e-10
        if dry_margin:
            assert difference.max() < 1e-10
        else:
            assert 1e-4 < difference.max() < 0.02


@pytest.mark.parametrize("shift", [0, 1, 2, 4, 7])
def test_one_displaced_pixel(shift):
    """Windows of n pixels around points d apart overlap in n (n − d): the score is 1 − d / n."""
    forecast, truth = np.zeros((2, 1, 1, 1, 40, 50), np.float32)
    truth[..., 20, 20] = forecast[..., 20, 20 + shift] = 0.9
    found = accumulated(forecast, truth, np.ones(truth.shape, bool)).compute()["fss"][0]
    expected = [max(0.0, 1.0 - shift / window) for window in WINDOWS]
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), atol=1e-14)


def test_an_event_is_a_value_at_the_threshold():
    truth = np.zeros((1, 1, 1, 9, 9), np.float32)
    truth[..., 4, 4] = PIXELS[1]
    below = np.where(truth > 0, np.nextafter(PIXELS[1], np.float32(0)), truth).astype(np.float32)
    everything = np.ones(truth.shape, bool)
    assert accumulated(truth, truth, everything).compute()["fss"][0, 1, 0] == 1.0
    assert accumulated(below, truth, everything).compute()["fss"][0, 1, 0] == 0.0


def test_without_events_the_score_is_undefined():
    dry = np.zeros((1, 2, 1, 8, 9), np.float32)
    wet_but_masked = np.full_like(dry, 0.9)
    mask = np.zeros(dry.shape, bool)
    assert np.isnan(accumulated(wet_but_masked, dry, mask).compute()["fss"]).all()
    scores = accumulated(dry, dry, ~mask)
    assert np.isnan(scores.compute()["fss"]).all()
    assert np.isnan(scores.summary()["fss"]).all()
    np.testing.assert_array_equal(scores.compute()["fss_target_skill"], 0.5)


def test_masked_pixels_are_dry_even_below_the_rate_of_pixel_value_0():
    """0.01 mm/h is below pixel value 0: all that counts is an event, what is masked is not."""
    forecast, truth, mask = fields((12, 14))
    scores = accumulated(forecast, truth, mask, thresholds=(0.01,))
    assert scores.compute()["fss"][0, 0, 0] == 1.0
    assert scores.sums["squared_observations"][0, 0, 0] == mask.sum()


def test_target_skill():
    forecast, truth, mask = fields((16, 23), batch=2, lead_times=2)
    found = accumulated(forecast, truth, mask).compute()["fss_target_skill"]
    for place, pixel in enumerate(PIXELS):
        events = ((truth >= pixel) & mask).mean(axis=(0, 2, 3, 4))
        np.testing.assert_allclose(found[:, place], 0.5 + events / 2, rtol=1e-14)


def test_parts_merge_and_clips_weigh_by_their_rain():
    forecast, truth, mask = fields((17, 23), batch=4, lead_times=2)
    whole = accumulated(forecast, truth, mask)
    parts = [
        accumulated(*(field[part] for field in (forecast, truth, mask)))
        for part in (slice(0, 1), slice(1, 4))
    ]
    merged = parts[0].merge(parts[1])
    assert merged.clips == whole.clips == 4
    for name, values in whole.sums.items():
        np.testing.assert_allclose(merged.sums[name], values, rtol=1e-13)
    difference, *squares = (
        whole.sums[name]
        for name in ("squared_differences", "squared_forecasts", "squared_observations")
    )
    np.testing.assert_allclose(whole.compute()["fss"], 1 - difference / sum(squares))
    with pytest.raises(InputError, match="window_pixels"):
        whole.merge(FractionsSkill(2, THRESHOLDS, (1, 3)))


def test_threads_and_dtypes_change_nothing():
    forecast, truth, mask = fields((17, 23), batch=2, lead_times=5)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(accumulated(forecast, truth, mask).sums)
    finally:
        torch.set_num_threads(threads)
    in_double = FractionsSkill(5, THRESHOLDS, WINDOWS)
    in_double.update(forecast.astype(np.float64), truth.astype(np.float64), mask)
    for name, values in found[0].items():
        np.testing.assert_array_equal(found[1][name], values)
        np.testing.assert_array_equal(in_double.sums[name], values)


def test_scores_of_several_sums_at_once():
    sums = [accumulated(*fields((17, 23), lead_times=2, seed=seed)).sums for seed in range(3)]
    scores = FractionsSkill(2, THRESHOLDS, WINDOWS)
    together = scores.summary_from(
        {name: np.stack([one[name] for one in sums]) for name in sums[0]}
    )
    for name, values in together.items():
        expected = np.stack([scores.summary_from(one)[name] for one in sums])
        np.testing.assert_array_equal(values, expected)


def test_bad_input_is_refused_and_changes_nothing():
    forecast, truth, mask = fields((9, 9), lead_times=2)
    scores = accumulated(forecast, truth, mask)
    before = {name: values.copy() for name, values in scores.sums.items()}
    hole = truth.copy()
    hole[0, 1, 0, 3, 3] = np.nan
    everything = np.ones_like(mask)
    for arguments, words in (
        ((forecast[:, :1], truth, mask), "found shape"),
        ((forecast, truth[..., :8], mask), "truth to score"),
        ((forecast, truth, mask.astype(np.float32)), "expected bool"),
        ((forecast > 0, truth, mask), "expected floats"),
        ((forecast, hole, everything), "NaN at lead time 2"),
        ((hole, truth, everything), "NaN at lead time 2"),
        (
            (forecast, truth + 1.0, everything),
            r"lead time 1 in pixels that count, expected \[0, 1\]",
        ),
    ):
        with pytest.raises(InputError, match=words):
            scores.update(*arguments)
    masked = np.isfinite(hole) & mask
    scores_with_hole = accumulated(hole, hole, masked)
    assert np.nanmin(scores_with_hole.compute()["fss"]) == 1.0
    for name, values in scores.sums.items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("windows", [(), (2,), (0,), (-1, 3), (5, 3), (3, 3), (1.0,)])
def test_windows_that_are_not_odd_and_rising_are_refused(windows):
    with pytest.raises(InputError, match="windows"):
        FractionsSkill(1, windows_pixels=windows)


@pytest.mark.parametrize("thresholds", [(), (0.0, 1.0), (2.0, 1.0)])
def test_thresholds_that_are_not_positive_and_rising_are_refused(thresholds):
    with pytest.raises(InputError, match="thresholds"):
        FractionsSkill(1, thresholds)


def test_windows_wider_than_twice_the_frame_are_refused():
    with pytest.raises(
        InputError, match="found 21 pixels, expected at most twice the frame of 9 × 9"
    ):
        accumulated(*fields((9, 9)), windows=(1, 21))
    # Before any frame is there.
    with pytest.raises(
        InputError, match="found 27 pixels, expected at most twice the frame of 9 × 13"
    ):
        check_windows((1, 27), (9, 13))
    check_windows((1, 25), (9, 13))
