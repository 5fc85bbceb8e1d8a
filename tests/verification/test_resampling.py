"""Bootstrap over events and the paired test, against plain loops and simulations."""

import copy
import itertools
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.verification.accumulator import Accumulator, merged
from nowcast.verification.fractions import FractionsSkill
from nowcast.verification.resampling import (
    bootstrap_intervals,
    paired_test,
    resample_weights,
)

EXCHANGEABLE = 200


class Ratios(Accumulator):
    """Sums that tests choose, a ratio of them by lead time and class, and a count."""

    DIMENSIONS: ClassVar = {
        "ratio": ("lead_time", "class"),
        "error": ("lead_time",),
        "wet": ("lead_time",),
    }
    COUNTS: ClassVar = frozenset(("wet",))

    def __init__(self, wet, all_, error=None, clips=1):
        super().__init__(len(wet))
        self.sums["wet"] = np.asarray(wet)
        self.sums["all"] = np.asarray(all_)
        self.sums["error"] = np.asarray(all_ if error is None else error)[:, 0]
        self.sums["clips"] = np.asarray(clips)

    def update(self, prediction, truth, mask):
        raise NotImplementedError

    def scores_from(self, sums):
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "ratio": sums["wet"] / sums["all"],
                "error": np.sqrt(sums["error"] / sums["clips"][..., None]),
                "wet": sums["wet"][..., 0],
            }


def events_of(number, seed=0, lead_times=3, dry=0.0):
    """Events of very different sizes; some have nothing to divide by in class 1."""
    generator = np.random.default_rng(seed)
    events = []
    for _ in range(number):
        shape = (lead_times, 2)
        all_ = generator.integers(1, 200, size=shape)
        if generator.random() < dry:
            all_[:, 1] = 0
        wet = generator.binomial(all_, generator.uniform(0.2, 0.6))
        events.append(Ratios(wet, all_, generator.gamma(2.0, 3.0, size=shape), clips=4))
    return events


def loop(events, weights, scores_of):
    """Scores of every resample, by merging accumulators one after another."""
    found = []
    for row in weights:
        drawn = [event for event, times in zip(events, row, strict=True) for _ in range(times)]
        found.append(scores_of(merged(drawn)))
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def test_weights_are_draws_with_replacement():
    weights = resample_weights(7, 4000, seed=3)
    assert weights.shape == (4000, 7)
    assert weights.dtype == np.int64
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, resample_weights(7, 4000, seed=3))
    assert (weights != resample_weights(7, 4000, seed=4)).any()
    # Binomial of 7 draws with probability 1/7: variance 6/7; 4000 rows know it to about 2.5 %.
    np.testing.assert_allclose(weights.var(axis=0), 6 / 7, rtol=0.1)
    for arguments in ((0, 10), (3, 0)):
        with pytest.raises(InputError, match="resampling"):
            resample_weights(*arguments)


@pytest.mark.parametrize("over_lead_times", [True, False])
@pytest.mark.parametrize("dry", [0.0, 0.7])
def test_intervals_are_those_of_a_loop_that_merges(over_lead_times, dry):
    events = events_of(5, dry=dry)
    weights = resample_weights(5, 200, seed=1)
    found = bootstrap_intervals(events, weights, 0.9, over_lead_times)
    assert found.keys() == {"ratio", "error"}
    scores_of = (lambda one: one.summary()) if over_lead_times else (lambda one: one.compute())
    by_loop = loop(events, weights, scores_of)
    assert (dry > 0) == bool(np.isnan(by_loop["ratio"]).any())
    for name, interval in found.items():
        expected = np.nanquantile(by_loop[name], [0.05, 0.95], axis=0)
        np.testing.assert_allclose(interval.low, expected[0], rtol=1e-12)
        np.testing.assert_allclose(interval.high, expected[1], rtol=1e-12)
        assert interval.low.shape == by_loop[name].shape[1:]


def test_intervals_of_a_real_accumulator_in_small_pieces(monkeypatch):
    generator = np.random.default_rng(0)
    events = []
    for _ in range(4):
        scores = FractionsSkill(2, (0.5, 2.0), (1, 5))
        forecast, truth = generator.random((2, 2, 2, 1, 12, 12), dtype=np.float32)
        scores.update(forecast, truth, generator.random(truth.shape) < 0.9)
        events.append(scores)
    weights = resample_weights(4, 50, seed=1)
    monkeypatch.setattr("nowcast.verification.resampling.VALUES_AT_A_TIME", 200)
    found = bootstrap_intervals(events, weights)["fss"]
    expected = np.quantile(
        loop(events, weights, lambda one: one.summary())["fss"], [0.025, 0.975], axis=0
    )
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)


def test_undefined_in_all_resamples_is_undefined():
    events = [Ratios([[1, 0]], [[4, 0]]), Ratios([[3, 0]], [[4, 0]])]
    interval = bootstrap_intervals(events, resample_weights(2, 100))["ratio"]
    np.testing.assert_array_equal(np.isnan(interval.low), [False, True])
    np.testing.assert_array_equal(np.isnan(interval.high), [False, True])


def test_infinite_scores_stay_within_their_interval():
    """A ratio with nothing to divide by is infinite; what lies between two such is, too."""
    events = [Ratios([[1, 2]], [[4, 0]]), Ratios([[3, 2]], [[4, 0]]), Ratios([[3, 2]], [[4, 0]])]
    interval = bootstrap_intervals(events, resample_weights(3, 100))["ratio"]
    assert interval.low[1] == interval.high[1] == np.inf
    difference = paired_test(events, events, resample_weights(3, 100))["ratio"]
    assert np.isnan(difference.difference[1])
    assert np.isnan(difference.p_value[1])


def test_one_event_tells_nothing():
    one, two = events_of(1, seed=1), events_of(1, seed=2)
    weights = resample_weights(1, 20)
    for interval in bootstrap_intervals(one, weights).values():
        assert np.isnan(interval.low).all()
        assert np.isnan(interval.high).all()
    for found in paired_test(one, two, weights).values():
        assert np.isnan(found.low).all()
        assert np.isnan(found.high).all()
        assert np.isfinite(found.difference).all()
        np.testing.assert_array_equal(found.p_value, 1.0)


def test_intervals_cover_the_truth():
    """30 events of gamma-distributed size; 300 experiments know a coverage of 0.95 to ± 0.025."""
    generator = np.random.default_rng(5)
    experiments, number, probability = 300, 30, 0.3
    covered = 0
    for experiment in range(experiments):
        sizes = np.maximum(1, generator.gamma(4.0, 50.0, size=number)).astype(int)
        # Events differ in how wet they are, as a beta distribution of that mean.
        wet = generator.binomial(sizes, generator.beta(6.0, 14.0, size=number))
        events = [Ratios([[a]], [[b]]) for a, b in zip(wet, sizes, strict=True)]
        weights = resample_weights(number, 400, seed=experiment)
        interval = bootstrap_intervals(events, weights)["ratio"]
        covered += int(interval.low[0] <= probability <= interval.high[0])
    assert 0.90 <= covered / experiments <= 0.98


def test_intervals_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(2).gamma(2.0, size=40)
    events = [Ratios([[value]], [[1.0]]) for value in values]
    found = bootstrap_intervals(events, resample_weights(40, 20_000), 0.9)["ratio"]
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    # Both are draws: a bound is known to about 1 % of the interval's width.
    width = expected.high - expected.low
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, atol=0.04 * width)


def pair_of(number, seed=0, dry=0.0):
    return events_of(number, seed, dry=dry), events_of(number, seed + 100, dry=dry)


@pytest.mark.parametrize("dry", [0.0, 0.6])
def test_all_swaps_are_those_of_a_loop(dry):
    first, second = pair_of(5, seed=7, dry=dry)
    weights = resample_weights(5, 100, seed=1)
    found = paired_test(first, second, weights, swaps=32)
    one, two = merged(first).summary(), merged(second).summary()
    resampled = [loop(events, weights, lambda total: total.summary()) for events in (first, second)]
    for name, paired in found.items():
        np.testing.assert_allclose(paired.difference, one[name] - two[name], rtol=1e-12)
        reached, defined = np.zeros(paired.difference.shape), np.zeros(paired.difference.shape)
        for swap in itertools.product((False, True), repeat=5):
            pairs = zip(first, second, swap, strict=True)
            sides = zip(*[(b, a) if swapped else (a, b) for a, b, swapped in pairs], strict=True)
            left, right = (merged(side).summary()[name] for side in sides)
            reached += np.abs(left - right) >= np.abs(paired.difference) * (1 - 1e-9)
            defined += ~np.isnan(left - right)
        np.testing.assert_allclose(paired.p_value, reached / defined, rtol=1e-12)
        assert (paired.p_value > 0).all()
        low, high = np.nanquantile(resampled[0][name] - resampled[1][name], [0.025, 0.975], axis=0)
        np.testing.assert_allclose(paired.low, low, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(paired.high, high, rtol=1e-10, atol=1e-14)


def test_drawn_swaps_approach_all_of_them():
    first, second = pair_of(9, seed=3)
    weights = resample_weights(9, 10)
    exact = paired_test(first, second, weights, swaps=512)
    drawn = paired_test(first, second, weights, swaps=511, seed=1)
    for name, paired in exact.items():
        # All 512 ways are symmetric, so that an even number of them reaches the difference.
        np.testing.assert_array_equal(paired.p_value * 512 % 2, 0.0)
        np.testing.assert_allclose(drawn[name].p_value, paired.p_value, atol=0.08)
        np.testing.assert_allclose(drawn[name].p_value * 512, np.rint(drawn[name].p_value * 512))


def test_p_values_are_uniform_if_the_methods_are_alike():
    """Share below a level is near the level; 200 experiments know 0.1 to ± 0.04."""
    generator = np.random.default_rng(11)
    weights = resample_weights(8, 2)
    p_values = []
    for _ in range(EXCHANGEABLE):
        sizes = generator.gamma(2.0, size=(8, 1)) * 10 + generator.gamma(1.0, size=(8, 2))
        first, second = (
            [Ratios([[value]], [[1.0]]) for value in sizes[:, side]] for side in range(2)
        )
        p_values.append(paired_test(first, second, weights)["ratio"].p_value[0])
    for level in (0.1, 0.25, 0.5, 0.75):
        width = 3 * np.sqrt(level * (1 - level) / EXCHANGEABLE)
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=width)


def test_a_clear_difference_is_found():
    first = events_of(12, seed=1)
    second = copy.deepcopy(first)
    for event in second:
        event.sums["error"] = event.sums["error"] * 1.3
    found = paired_test(first, second, resample_weights(12, 500))["error"]
    assert found.difference < 0
    assert found.low <= found.difference <= found.high < 0
    # Swapped all or not at all: 2 of 4096 ways reach it.
    assert found.p_value == pytest.approx(2 / 4096)
    drawn = paired_test(first, second, resample_weights(12, 500), swaps=1000, seed=2)["error"]
    assert drawn.p_value <= 5 / 1001


def test_a_method_does_not_differ_from_itself():
    events = events_of(6)
    for swaps in (64, 10):
        for found in paired_test(events, events, resample_weights(6, 50), swaps=swaps).values():
            np.testing.assert_array_equal(found.difference, 0.0)
            np.testing.assert_array_equal(found.p_value, 1.0)
            np.testing.assert_array_equal(found.low, 0.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([20, 10_000]), st.booleans())
def test_changing_sides_changes_the_sign(number, seed, swaps, some_dry):
    first, second = pair_of(number, seed, dry=0.5 if some_dry else 0.0)
    weights = resample_weights(number, 60, seed)
    one = paired_test(first, second, weights, swaps=swaps, seed=seed)
    other = paired_test(second, first, weights, swaps=swaps, seed=seed)
    for name, paired in one.items():
        np.testing.assert_array_equal(other[name].difference, -paired.difference)
        np.testing.assert_allclose(other[name].low, -paired.high, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other[name].high, -paired.low, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(other[name].p_value, paired.p_value)
        defined = ~np.isnan(paired.p_value)
        assert ((paired.p_value[defined] > 0) & (paired.p_value[defined] <= 1)).all()


def test_nothing_given_is_changed():
    first, second = pair_of(3)
    before = copy.deepcopy((first, second))
    paired_test(first, second, resample_weights(3, 10))
    bootstrap_intervals(first, resample_weights(3, 10))
    for events, earlier in zip((first, second), before, strict=True):
        for event, other in zip(events, earlier, strict=True):
            for name, values in event.sums.items():
                np.testing.assert_array_equal(values, other.sums[name])


def test_bad_input_is_refused():
    events, weights = events_of(3), resample_weights(3, 10)
    for arguments, words in (
        (([], weights), "scores to merge: found none"),
        ((events, weights[:, :2]), r"expected \(resamples, 3\)"),
        ((events, weights[:0]), "weights of events"),
        ((events, weights, 1.0), "confidence level"),
        ((events, weights, 0.0), "confidence level"),
        (([*events[:2], FractionsSkill(3)], weights), "scores to merge"),
    ):
        with pytest.raises(InputError, match=words):
            bootstrap_intervals(*arguments)
    others = events_of(3, seed=1)
    other_clips = copy.deepcopy(others)
    other_clips[1].sums["clips"] = np.asarray(5)
    for arguments, words in (
        ((events, others[:2], weights), "3 and 2 events"),
        ((events, other_clips, weights), "4 and 5 clips in event 2"),
        ((events, [FractionsSkill(3)] * 3, weights), "scores to merge"),
        ((events, others, weights, 0.95, 0), "found 0 swaps"),
    ):
        with pytest.raises(InputError, match=words):
            paired_test(*arguments)
