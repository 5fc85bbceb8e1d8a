"""The ways by which scores are summed give one result: pieces, threads, devices, layouts, parts."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.verification.device_sums import sums_on_device
from nowcast.verification.fields import threshold_pixels
from nowcast.verification.rain_rate import RainRateErrors, rain_sums_on_device
from nowcast.verification.scores import COUNT_NAMES, SKILL_NAMES, THRESHOLDS_MM_H, Scores

MAKERS = {
    "benchmark": Scores,
    "other thresholds": lambda lead_times: Scores(lead_times, (0.01, 1.0, 10.0, 500.0)),
    "rain rate": RainRateErrors,
}
LEAD_TIMES = 3


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def random_fields(seed=0, shape=(4, LEAD_TIMES, 1, 19, 22), counting=0.8):
    """Rain with dry parts, with NaN and values out of range under the mask."""
    random = np.random.default_rng(seed)
    truth = np.round(random.uniform(-0.5, 1, shape).clip(0) * 255) / 255
    prediction = truth + random.normal(0, 0.1, shape)
    mask = random.uniform(size=shape) < counting
    masked = random.choice([0.5, 7.0, -2.0, np.nan, np.inf], shape)
    fields = [np.where(mask, field, masked).astype(np.float32) for field in (prediction, truth)]
    return [torch.from_numpy(field) for field in (*fields, mask)]


def added_up(make, fields):
    accumulator = make(LEAD_TIMES)
    accumulator.update(*fields)
    return accumulator


def assert_same(first, second, relative):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=relative, err_msg=name)


@pytest.mark.parametrize("pixels", [1, 60, 1 << 16])
def test_results_do_not_depend_on_the_number_of_threads_to_the_last_bit(
    make, threads, monkeypatch, pixels
):
    monkeypatch.setattr("nowcast.verification.pieces.PIXELS_AT_A_TIME", pixels)
    monkeypatch.setattr("nowcast.verification.pieces.PIXELS_FOR_THREADS", 1)
    fields = random_fields()
    found = []
    for number in (1, 2, 5):
        threads(number)
        found.append(added_up(make, fields).sums)
    for sums in found[1:]:
        assert_same(found[0], sums, relative=0)


@pytest.mark.parametrize("pixels", [1, 100, 320])
def test_pieces_of_any_size_give_what_whole_frames_give(make, monkeypatch, pixels):
    fields = random_fields()
    whole = added_up(make, fields).compute()
    monkeypatch.setattr("nowcast.verification.pieces.PIXELS_AT_A_TIME", pixels)
    assert_same(whole, added_up(make, fields).compute(), relative=3e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_frames_of_one_row_or_one_column_are_scored(shape):
    fields = random_fields(shape=(2, LEAD_TIMES, 1, *shape))
    found = added_up(Scores, fields).sums
    expected, _ = sums_on_device(*fields, threshold_pixels(THRESHOLDS_MM_H))
    np.testing.assert_allclose(found["gdl"], expected[:, -1], rtol=3e-7)
    np.testing.assert_array_equal(found["pixels"], expected[:, 15])


def one_after_the_other(sums, names):
    return np.concatenate([sums[name].reshape(LEAD_TIMES, -1) for name in names], axis=1)


@pytest.mark.parametrize("at_a_time", [500, 1 << 24])
@pytest.mark.parametrize("thresholds", [THRESHOLDS_MM_H, (0.01, 1.0, 10.0, 500.0)])
def test_sums_on_devices_are_those_of_the_cpu(monkeypatch, thresholds, at_a_time):
    monkeypatch.setattr("nowcast.verification.device_sums.PIXELS_AT_A_TIME", at_a_time)
    fields = random_fields()
    scores = Scores(LEAD_TIMES, thresholds)
    scores.update(*fields)
    found, outside = sums_on_device(*fields, threshold_pixels(thresholds))
    counts = one_after_the_other(
        scores.sums, ("hits", "forecast_events", "observed_events", "pixels")
    )
    np.testing.assert_array_equal(found[:, :-5], counts)
    errors = one_after_the_other(scores.sums, ("mse", "mae", "balanced_mse", "balanced_mae", "gdl"))
    np.testing.assert_allclose(found[:, -5:], errors, rtol=3e-7)
    assert (outside <= 0).all()


def test_rain_rates_on_devices_are_those_of_the_cpu():
    fields = random_fields()
    sums = added_up(RainRateErrors, fields).sums
    names = ("pixels", "forecast_mm_h", "observed_mm_h", "absolute_error_mm_h")
    found, outside = rain_sums_on_device(*fields)
    expected = one_after_the_other(sums, (*names, "squared_error_mm2_h2"))
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert (outside <= 0).all()


def test_truth_outside_and_nan_are_seen_on_devices_too():
    prediction, truth, mask = random_fields()
    mask[1, 1, 0, 2, 2:4] = True
    truth[1, 1, 0, 2, 2] = 1.25
    _, outside = sums_on_device(prediction, truth, mask, [0.5])
    np.testing.assert_allclose(outside, [0, 0.25, 0], atol=1e-7)
    prediction[1, 1, 0, 2, 3] = np.nan
    found, _ = sums_on_device(prediction, truth, mask, [0.5])
    assert np.isnan(found[1, -5:]).all()
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fields_on_a_gpu_are_scored_as_on_the_cpu(make):
    fields = random_fields()
    on_gpu = added_up(make, [field.cuda() for field in fields])
    assert_same(on_gpu.compute(), added_up(make, fields).compute(), relative=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_fields_of_other_precision_are_scored_as_their_values_in_single_precision(make, dtype):
    prediction, truth, mask = random_fields()
    prediction, truth = prediction.to(dtype), truth.to(dtype)
    single = added_up(make, (prediction.float(), truth.float(), mask))
    assert_same(added_up(make, (prediction, truth, mask)).sums, single.sums, relative=0)


def test_forecasts_beyond_single_precision_are_clipped(recwarn):
    field = torch.full((1, LEAD_TIMES, 1, 3, 3), 1.0)
    scores = added_up(Scores, (field.double() * 1e300, field, field > 0))
    assert (scores.compute()["mse"] == 0).all()
    assert not recwarn.list


def test_fields_in_any_layout_are_scored_alike(make):
    fields = random_fields(shape=(2, LEAD_TIMES, 1, 24, 24))
    expected = added_up(make, fields).sums
    turned = [field.transpose(3, 4).contiguous().transpose(3, 4) for field in fields]
    within = [torch.stack([field, field], dim=-1)[..., 1] for field in fields]
    assert turned[0].stride() != fields[0].stride()
    for layout in (turned, within, (fields[0].requires_grad_(), *fields[1:])):
        assert_same(added_up(make, layout).sums, expected, relative=1e-7)


def test_a_mask_given_once_for_all_frames_is_scored_like_its_copies(make):
    prediction, truth, mask = random_fields()
    prediction, truth = (field.nan_to_num(0.5).clamp(0, 1) for field in (prediction, truth))
    once = mask[:1, :1].expand_as(mask)
    copies = once.contiguous()
    assert_same(
        added_up(make, (prediction, truth, once)).sums,
        added_up(make, (prediction, truth, copies)).sums,
        relative=0,
    )


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, np.nan, "NaN at lead time 2"),
        (1, np.nan, "NaN at lead time 2"),
        (1, 1.25, r"by 0\.25 outside of \[0, 1\] at lead time 2"),
    ],
)
def test_one_wrong_pixel_in_any_row_is_refused_and_changes_nothing(
    make, monkeypatch, which, value, message
):
    monkeypatch.setattr("nowcast.verification.pieces.PIXELS_AT_A_TIME", 60)
    fields = random_fields()
    accumulator = added_up(make, fields)
    before = {name: np.copy(values) for name, values in accumulator.sums.items()}
    for row in range(19):
        spoilt = [field.clone() for field in fields]
        pixel = (2, 1, 0, row, (5 * row) % 22)
        spoilt[0][pixel], spoilt[1][pixel], spoilt[2][pixel] = 0.5, 0.5, True
        spoilt[which][pixel] = value
        with pytest.raises(InputError, match=message):
            accumulator.update(*spoilt)
        assert_same(accumulator.sums, before, relative=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 5)),
    counting=st.sampled_from([0.0, 0.1, 0.9]),
    maker=st.sampled_from(sorted(MAKERS)),
)
def test_parts_in_any_order_merged_are_all_at_once(seed, cuts, counting, maker):
    make = MAKERS[maker]
    fields = random_fields(seed, (6, LEAD_TIMES, 1, 7, 9), counting)
    at_once = added_up(make, fields)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(6))
    edges = [0, *sorted(cuts), 6]
    in_turn, merged = make(LEAD_TIMES), make(LEAD_TIMES)
    for first, end in itertools.pairwise(edges):
        part = [field[order[first:end]] for field in fields]
        in_turn.update(*part)
        assert merged.merge(added_up(make, part)) is merged
    for other in (in_turn, merged):
        assert other.clips == 6
        assert_same(at_once.compute(), other.compute(), relative=1e-12)
        assert_same(at_once.summary(), other.summary(), relative=1e-12)


def test_scores_of_many_sums_at_once_are_those_of_each(make):
    parts = [added_up(make, random_fields(seed)) for seed in range(4)]
    stacked = {
        name: np.stack([part.sums[name] for part in parts]).reshape(2, 2, *np.shape(values))
        for name, values in parts[0].sums.items()
    }
    for found, one_by_one in (
        (parts[0].scores_from(stacked), [part.compute() for part in parts]),
        (parts[0].summary_from(stacked), [part.summary() for part in parts]),
    ):
        for name, values in found.items():
            expected = np.stack([one[name] for one in one_by_one])
            np.testing.assert_array_equal(values.reshape(expected.shape), expected, err_msg=name)


def test_every_score_has_the_axes_that_it_says(make):
    accumulator = added_up(make, random_fields())
    found = accumulator.compute()
    assert found.keys() == accumulator.DIMENSIONS.keys()
    lengths = {"lead_time": LEAD_TIMES} | {
        axis: len(values) for axis, values in accumulator.coordinates.items()
    }
    for name, axes in accumulator.DIMENSIONS.items():
        assert axes[0] == "lead_time"
        assert found[name].shape == tuple(lengths[axis] for axis in axes), name
    assert accumulator.COUNTS <= found.keys()
    assert accumulator.summary().keys() == found.keys() - accumulator.COUNTS


def test_a_threshold_reached_at_one_lead_time_alone_is_averaged_over_that_one():
    truth = torch.full((1, LEAD_TIMES, 1, 4, 4), 0.2)
    truth[0, 1, 0, 0] = 0.9
    prediction = truth.clone()
    prediction[0, 1, 0, 0, 0] = 0.2
    scores = added_up(Scores, (prediction, truth, truth > 0))
    assert np.isnan(scores.compute()["csi"][[0, 2]]).all()
    assert (scores.summary()["csi"] == 3 / 4).all()
    assert (scores.summary()["frequency_bias"] == 3 / 4).all()
    never = added_up(Scores, (torch.zeros_like(truth), torch.zeros_like(truth), truth > 0))
    for name in SKILL_NAMES:
        assert np.isnan(never.summary()[name]).all(), name
    assert not any(never.compute()[name].any() for name in COUNT_NAMES[:3])
