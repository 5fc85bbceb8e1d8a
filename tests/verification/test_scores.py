"""Scores against the benchmark authors' own numbers, the `scores` package and restatements."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scores.categorical import BinaryContingencyManager

from nowcast.errors import InputError
from nowcast.verification import THRESHOLDS_MM_H, Scores, balanced_weights, skill_scores

COUNTS = ("hits", "misses", "false_alarms", "correct_negatives")
SKILL = ("pod", "far", "csi", "hss", "gss")  # What the authors' code gives besides errors.
ERRORS = ("mse", "mae", "balanced_mse", "balanced_mae")
# HKO-7's pixel values of 0.5, 2, 5, 10, 30 mm/h, to the four digits that the benchmark prints.
PUBLISHED_PIXELS = (0.3283, 0.4624, 0.5511, 0.6182, 0.7245)


def pixel_of(rain_rate_mm_h):
    return (10 * np.log10(58.53) + 15.6 * np.log10(rain_rate_mm_h) + 10) / 70


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracles/hko7_scores.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def oracle_fields(oracle):
    prediction = (oracle["prediction"] / 65535).astype(np.float32)
    truth = (oracle["truth"] / 255).astype(np.float32)
    mask = np.unpackbits(oracle["mask"], axis=-1).astype(bool)
    return [np.ascontiguousarray(np.swapaxes(field, 0, 1)) for field in (prediction, truth, mask)]


def random_fields(seed, shape=(3, 4, 1, 17, 23)):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1, shape).astype(np.float32)
    prediction = np.clip(truth + rng.normal(0, 0.15, shape), -0.5, 1.5).astype(np.float32)
    return prediction, truth, rng.uniform(size=shape) > 0.2


def assert_same(first, second, relative=1e-12):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=relative, err_msg=name)


@pytest.mark.parametrize("as_tensors", [False, True])
def test_scores_are_those_of_the_benchmark_authors_code(oracle, oracle_fields, as_tensors):
    fields = [torch.from_numpy(field) for field in oracle_fields] if as_tensors else oracle_fields
    scores = Scores(20)
    scores.update(*fields)
    found = scores.compute()
    for name in COUNTS:
        assert found[name].dtype == np.int64
        np.testing.assert_array_equal(found[name], oracle[name], err_msg=name)
    for name in SKILL:
        np.testing.assert_allclose(found[name], oracle[name], rtol=1e-14, err_msg=name)
    for name in ERRORS:
        np.testing.assert_allclose(found[name], oracle[name], rtol=1e-6, err_msg=name)
    # Their gradient difference is summed in single precision.
    np.testing.assert_allclose(found["gdl"], oracle["gdl"], rtol=2e-4)


def test_several_updates_and_merged_accumulators_give_the_same_as_one_update(oracle_fields):
    at_once, in_turn, first, second = (Scores(20) for _ in range(4))
    at_once.update(*oracle_fields)
    for clip, merged in ((slice(0, 1), first), (slice(1, 2), second)):
        in_turn.update(*(field[clip] for field in oracle_fields))
        merged.update(*(field[clip] for field in oracle_fields))
    assert_same(at_once.compute(), in_turn.compute())
    assert_same(at_once.compute(), first.merge(second).compute())
    assert first.clips == 2


def test_frames_larger_than_one_piece_give_the_float64_restatement(monkeypatch):
    fields = random_fields(5, (5, 2, 1, 40, 50))
    monkeypatch.setattr("nowcast.verification.pieces.PIXELS_AT_A_TIME", 450)
    scores = Scores(2)
    scores.update(*fields)
    assert_restatement(scores.compute(), *fields)


def assert_restatement(found, prediction, truth, mask):
    """Errors and gradient difference in float64, written as the benchmark states them."""
    truth32, truth, prediction = truth, np.float64(truth), np.clip(np.float64(prediction), 0, 1)
    steps = zip((0, 2, 5, 10, 30), (1, 2, 5, 10, 30), strict=True)
    weights = np.ones(truth.shape)
    for rate, weight in steps:
        if rate:
            weights[truth32 >= np.float32(pixel_of(rate))] = weight
    error = prediction - truth
    terms = {
        "mse": error**2,
        "mae": abs(error),
        "balanced_mse": weights * error**2,
        "balanced_mae": weights * abs(error),
    }
    for name, term in terms.items():
        total = np.where(mask, term, 0).sum(axis=(0, 2, 3, 4))
        np.testing.assert_allclose(found[name], total / len(truth), rtol=2e-7, err_msg=name)
        per_pixel = total / mask.sum(axis=(0, 2, 3, 4))
        np.testing.assert_allclose(found[f"{name}_per_pixel"], per_pixel, rtol=2e-7, err_msg=name)
    gdl = np.zeros(truth.shape[1])
    for axis in (3, 4):
        ahead = [slice(None)] * 5
        behind = list(ahead)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        both = mask[tuple(ahead)] & mask[tuple(behind)]
        change = abs(abs(np.diff(prediction, axis=axis)) - abs(np.diff(truth, axis=axis)))
        gdl += np.where(both, change, 0).sum(axis=(0, 2, 3, 4)) / len(truth)
    np.testing.assert_allclose(found["gdl"], gdl, rtol=2e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_errors_are_those_of_a_float64_restatement(seed):
    fields = random_fields(seed)
    scores = Scores(4)
    scores.update(*fields)
    assert_restatement(scores.compute(), *fields)


@pytest.mark.parametrize("thresholds", [THRESHOLDS_MM_H, (1.0,), tuple(np.linspace(0.1, 60, 20))])
def test_skill_is_that_of_the_scores_package_at_every_threshold(thresholds):
    prediction, truth, mask = random_fields(1)
    scores = Scores(4, thresholds)
    scores.update(prediction, truth, mask)
    found = scores.compute()
    dims = ("batch", "time", "channel", "y", "x")
    for index, rate in enumerate(thresholds):
        level = np.float32(pixel_of(rate))
        events = [
            xr.DataArray(np.where(mask, field >= level, np.nan), dims=dims)
            for field in (prediction, truth)
        ]
        reference = BinaryContingencyManager(*events).transform(preserve_dims="time")
        expected = {
            "pod": reference.probability_of_detection(),
            "far": reference.false_alarm_ratio(),
            "csi": reference.critical_success_index(),
            "hss": reference.heidke_skill_score(),
            "gss": reference.gilberts_skill_score(),
            "frequency_bias": reference.frequency_bias(),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][:, index], values, rtol=1e-12, err_msg=name)
        counts = reference.get_counts()
        np.testing.assert_array_equal(found["hits"][:, index], counts["tp_count"])
        np.testing.assert_array_equal(found["correct_negatives"][:, index], counts["tn_count"])


def test_a_value_equal_to_a_threshold_is_an_event_and_the_next_smaller_float_is_not():
    level = np.float32(pixel_of(5.0))
    truth = np.full((1, 1, 1, 1, 2), level)
    prediction = np.array([level, np.nextafter(level, np.float32(0))]).reshape(truth.shape)
    scores = Scores(1, (5.0,))
    scores.update(prediction, truth, np.ones(truth.shape, bool))
    assert [int(scores.compute()[name].item()) for name in COUNTS] == [1, 1, 0, 0]


def test_predictions_of_minus_0_3_and_1_4_are_scored_as_0_and_1():
    _, truth, mask = random_fields(2)
    outside = np.where(np.arange(23) % 2, np.float32(-0.3), np.float32(1.4)) + 0 * truth
    clipped = np.where(np.arange(23) % 2, np.float32(0), np.float32(1)) + 0 * truth
    found = []
    for prediction in (outside, clipped):
        scores = Scores(4)
        scores.update(prediction, truth, mask)
        found.append(scores.compute())
    assert_same(*found, relative=0)
    # Known by hand: truth 0 gives no error under −0.3, truth 1 none under 1.4.
    scores = Scores(1)
    field = np.array([[0.0, 1.0]], np.float32).reshape(1, 1, 1, 1, 2)
    scores.update(np.array([-0.3, 1.4], np.float32).reshape(field.shape), field, field >= 0)
    assert scores.compute()["mse"].item() == 0


def test_a_mask_that_hides_everything_leaves_sums_zero_and_ratios_undefined():
    prediction, truth, mask = random_fields(3)
    scores = Scores(4)
    scores.update(prediction, truth, np.zeros_like(mask))
    found = scores.compute()
    for name in (*COUNTS, *ERRORS, "gdl"):
        assert (found[name] == 0).all(), name
    for name in (*SKILL, *(f"{error}_per_pixel" for error in ERRORS)):
        assert np.isnan(found[name]).all(), name


def test_a_threshold_that_nothing_reaches_has_undefined_skill_and_only_correct_negatives():
    truth = np.full((1, 2, 1, 4, 4), 0.5, np.float32)
    scores = Scores(2)
    scores.update(truth, truth, np.ones(truth.shape, bool))
    found = scores.compute()
    np.testing.assert_array_equal(found["correct_negatives"], [[0, 0, 16, 16, 16]] * 2)
    np.testing.assert_array_equal(found["csi"], [[1, 1, np.nan, np.nan, np.nan]] * 2)
    assert np.isnan(found["hss"]).all()


def test_summary_averages_over_the_lead_times_at_which_a_score_is_defined():
    truth = np.zeros((1, 3, 1, 1, 4), np.float32)
    prediction = truth.copy()
    truth[0, 0, 0, 0] = [0.9, 0.9, 0, 0]
    prediction[0, 0, 0, 0] = [0.9, 0, 0, 0]
    truth[0, 1, 0, 0] = prediction[0, 1, 0, 0] = [0.9, 0, 0, 0]
    scores = Scores(3, (2.0,))
    scores.update(prediction, truth, np.ones(truth.shape, bool))
    np.testing.assert_allclose(scores.summary()["csi"], [(0.5 + 1.0) / 2], rtol=1e-15)
    np.testing.assert_allclose(scores.summary()["mse"], 0.81 / 3, rtol=1e-6)
    assert "hits" not in scores.summary()
    empty = Scores(3).summary()
    assert all(np.isnan(value).all() for value in empty.values())


def test_what_stands_under_the_mask_changes_nothing_not_even_nan():
    prediction, truth, mask = random_fields(4)
    found = []
    for filler in (0.7, np.nan):
        scores = Scores(4)
        scores.update(
            *(np.where(mask, field, np.float32(filler)) for field in (prediction, truth)), mask
        )
        found.append(scores.compute())
    assert_same(*found, relative=0)


def test_nan_where_the_mask_counts_is_refused_and_changes_nothing():
    prediction, truth, mask = random_fields(4)
    scores = Scores(4)
    scores.update(prediction, truth, mask)
    before = scores.compute()
    spoilt, mask = prediction.copy(), mask.copy()
    spoilt[0, 2, 0, 3, 3], mask[0, 2, 0, 3, 3] = np.nan, True
    with pytest.raises(InputError, match="lead time 3"):
        scores.update(spoilt, truth, mask)
    assert_same(before, scores.compute(), relative=0)


@pytest.mark.parametrize("value", [1.01, -0.2, np.inf, -np.inf])
def test_truth_outside_of_0_to_1_is_refused_where_the_mask_counts(value):
    prediction, truth, mask = random_fields(4)
    scores = Scores(4)
    truth, mask = truth.copy(), mask.copy()
    truth[0, 2, 0, 3, 3], mask[0, 2, 0, 3, 3] = value, False
    scores.update(prediction, truth, mask)
    before = scores.compute()
    mask[0, 2, 0, 3, 3] = True
    with pytest.raises(InputError, match=r"truth to score: .*outside of \[0, 1\] at lead time 3"):
        scores.update(prediction, truth, mask)
    assert_same(before, scores.compute(), relative=0)


def test_an_infinite_prediction_is_clipped_like_any_other():
    truth = np.array([0.25, 0.75], np.float32).reshape(1, 1, 1, 1, 2)
    scores = Scores(1)
    scores.update(np.array([-np.inf, np.inf]).reshape(truth.shape), truth, truth > 0)
    assert scores.compute()["mae"].item() == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t, m: (p[:, :3], t, m), r"prediction to score: found shape \(3, 3, 1, 17, 23\)"),
        (lambda p, t, m: (p, t[..., :-1], m), "truth to score: found shape"),
        (lambda p, t, m: (p, t, m[:1]), "mask to score: found shape"),
        (lambda p, t, m: (p, (t * 255).astype(np.uint8), m), "truth to score: found torch.uint8"),
        (lambda p, t, m: (p, t, m.astype(np.float32)), "mask to score: found torch.float32"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Scores(4).update(*change(*random_fields(0)))


def test_thresholds_and_lead_times_that_make_no_sense_are_refused():
    for thresholds in ((), (2.0, 0.5), (0.0, 1.0)):
        with pytest.raises(InputError, match="thresholds"):
            Scores(4, thresholds)
    with pytest.raises(InputError, match="lead times"):
        Scores(0)
    with pytest.raises(InputError, match="5 lead times"):
        Scores(4).merge(Scores(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_balanced_weights_rise_exactly_at_the_published_pixel_values(dtype):
    below = torch.tensor([0.0, *(pixel - 1e-4 for pixel in PUBLISHED_PIXELS), 1.0], dtype=dtype)
    above = torch.tensor([pixel + 1e-4 for pixel in PUBLISHED_PIXELS], dtype=dtype)
    assert balanced_weights(below).tolist() == [1, 1, 1, 2, 5, 10, 30]
    assert balanced_weights(above).tolist() == [1, 2, 5, 10, 30]
    assert balanced_weights(above).dtype == dtype


def test_balanced_weights_take_no_part_in_the_gradient():
    truth = torch.full((3,), 0.6, requires_grad=True)
    assert not balanced_weights(truth).requires_grad


def test_perfect_and_random_tables_have_skill_one_and_zero():
    perfect = skill_scores(10, 0, 0, 30)
    assert [perfect[name].item() for name in SKILL] == [1, 0, 1, 1, 1]
    chance = skill_scores(10, 30, 20, 60)
    assert chance["hss"] == 0
    assert chance["gss"] == 0
    assert chance["frequency_bias"] == 30 / 40
    never_observed = skill_scores([0, 0], [0, 0], [5, 0], [10, 10])["frequency_bias"]
    np.testing.assert_array_equal(never_observed, [np.nan, np.nan])
