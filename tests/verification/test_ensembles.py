"""Ensemble scores against `scores`, pysteps, float64 restatements and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
from nowcast.verification.ensembles import EnsembleScores, sorting_network

THRESHOLDS = (0.5, 2.0, 10.0)
PIXELS = [np.float32(rain_rate_to_pixel(rate)) for rate in THRESHOLDS]


def fields(members, batch=1, lead_times=1, size=(13, 17), seed=0, dry=0.0):
    """Members and truth with something in common, and a mask with holes."""
    generator = np.random.default_rng(seed)
    shape = (batch, lead_times, 1, *size)
    common = generator.random(shape, dtype=np.float32)
    own = generator.random((members + 1, *shape), dtype=np.float32)
    drawn = 0.45 * common + 0.35 * own
    drawn[drawn < dry] = 0.0
    forecast = np.moveaxis(drawn[1:], 0, 1)
    return np.ascontiguousarray(forecast), drawn[0], generator.random(shape) < 0.9


def accumulated(forecast, truth, mask, thresholds=THRESHOLDS):
    scores = EnsembleScores(truth.shape[1], forecast.shape[1], thresholds)
    scores.update(torch.from_numpy(forecast), torch.from_numpy(truth), torch.from_numpy(mask))
    return scores


def rates_of(pixels):
    """In double precision, by the room's definition; pixel value 0 is dry."""
    return np.where(pixels > 0, pixel_to_rain_rate(pixels.astype(np.float64)), 0.0)


def at_lead_time(forecast, truth, mask, lead_time):
    """Pixel values of members (member, pixel) and truth (pixel,) where they count."""
    keep = mask[:, lead_time, 0]
    return np.moveaxis(forecast[:, :, lead_time, 0], 1, 0)[:, keep], truth[:, lead_time, 0][keep]


@pytest.mark.parametrize("members", [2, 5, 12])
@pytest.mark.parametrize("dry", [0.0, 0.35])
def test_crps_is_that_of_the_scores_package(members, dry):
    xarray = pytest.importorskip("xarray")
    probability = pytest.importorskip("scores.probability", reason="`scores` is the reference")
    forecast, truth, mask = fields(members, batch=2, lead_times=2, dry=dry)
    found = accumulated(forecast, truth, mask).compute()
    for lead_time in range(2):
        ours, observed = map(rates_of, at_lead_time(forecast, truth, mask, lead_time))
        for name, method in (("crps_mm_h", "ecdf"), ("crps_fair_mm_h", "fair")):
            expected = probability.crps_for_ensemble(
                xarray.DataArray(ours, dims=("member", "pixel")),
                xarray.DataArray(observed, dims=("pixel",)),
                "member",
                method=method,
            )
            assert found[name][lead_time] == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture(scope="module")
def probscores():
    return pytest.importorskip("pysteps.verification.probscores", reason="pysteps is the reference")


@pytest.mark.parametrize("members", [1, 3, 8])
def test_crps_is_that_of_pysteps_without_ties(probscores, members):
    forecast, truth, mask = fields(members)
    found = accumulated(forecast, truth, mask).compute()["crps_mm_h"][0]
    ours, observed = map(rates_of, at_lead_time(forecast, truth, mask, 0))
    assert found == pytest.approx(probscores.CRPS(ours, observed), rel=1e-5)


def test_how_much_pysteps_crps_differs_where_the_observation_equals_a_member(probscores):
    """Members of 1 and 3 mm/h, 3 observed: (1/2)² × 2 mm/h, of which pysteps counts nothing."""
    pixels = rain_rate_to_pixel(np.array([1.0, 3.0])).astype(np.float32)
    forecast = pixels.reshape(1, 2, 1, 1, 1, 1)
    truth = pixels[1].reshape(1, 1, 1, 1, 1)
    found = accumulated(forecast, truth, np.ones(truth.shape, bool)).compute()["crps_mm_h"][0]
    assert found == pytest.approx(0.5, rel=1e-5)
    rates = rates_of(pixels)
    assert probscores.CRPS(rates.reshape(2, 1, 1), rates[1].reshape(1, 1)) == 0.0


@pytest.mark.parametrize("members", [2, 7])
def test_spread_and_skill(members):
    forecast, truth, mask = fields(members, batch=2, lead_times=2, dry=0.3)
    found = accumulated(forecast, truth, mask).compute()
    for lead_time in range(2):
        ours, observed = map(rates_of, at_lead_time(forecast, truth, mask, lead_time))
        spread = np.sqrt(ours.var(axis=0, ddof=1).mean())
        error = np.sqrt(((ours.mean(axis=0) - observed) ** 2).mean())
        expected = {
            "spread_mm_h": spread,
            "error_of_mean_mm_h": error,
            "spread_skill_ratio": np.sqrt((members + 1) / members) * spread / error,
        }
        for name, value in expected.items():
            assert found[name][lead_time] == pytest.approx(value, rel=1e-5)


def test_a_reliable_ensemble():
    """Members and observation drawn alike: spread equals skill, ranks are equally likely, and the
    fair score does not depend on how many members there are."""
    generator = np.random.default_rng(3)
    drawn = generator.gamma(0.8, 3.0, size=(1, 9, 1, 1, 300, 300))
    pixels = np.clip(rain_rate_to_pixel(drawn), 0.0, 1.0).astype(np.float32)
    everything = np.ones((1, 1, 1, 300, 300), bool)
    fair = []
    for members in (2, 8):
        found = accumulated(pixels[:, 1 : members + 1], pixels[:, 0], everything).compute()
        assert found["spread_skill_ratio"][0] == pytest.approx(1.0, abs=0.02)
        ranks = found["rank_histogram"][0] * (members + 1) / 90_000
        np.testing.assert_allclose(ranks, 1.0, atol=0.05)
        fair.append(found["crps_fair_mm_h"][0])
    assert fair[0] == pytest.approx(fair[1], rel=0.02)


def test_one_member():
    forecast, truth, mask = fields(1, lead_times=2, dry=0.3)
    found = accumulated(forecast, truth, mask).compute()
    for lead_time in range(2):
        ours, observed = map(rates_of, at_lead_time(forecast, truth, mask, lead_time))
        mean_absolute_error = np.abs(ours[0] - observed).mean()
        assert found["crps_mm_h"][lead_time] == pytest.approx(mean_absolute_error, rel=1e-5)
    for name in ("crps_fair_mm_h", "spread_mm_h", "spread_skill_ratio"):
        assert np.isnan(found[name]).all()
    assert np.isfinite(found["error_of_mean_mm_h"]).all()


@pytest.mark.parametrize("members", [2, 6])
def test_rank_histogram_is_that_of_pysteps_without_ties(members):
    ensscores = pytest.importorskip(
        "pysteps.verification.ensscores", reason="pysteps is the reference"
    )
    forecast, truth, mask = fields(members)
    found = accumulated(forecast, truth, mask).compute()["rank_histogram"][0]
    ours, observed = at_lead_time(forecast, truth, mask, 0)
    np.testing.assert_array_equal(found, ensscores.rankhist(ours, observed, normalize=False))


def test_ties_are_shared_among_the_ranks_they_span():
    """Dry everywhere; equal to the upper two of three members; above all."""
    forecast = np.array([[0.0, 0.0, 0.0], [0.2, 0.5, 0.5], [0.1, 0.2, 0.3]], np.float32)
    truth = np.array([0.0, 0.5, 0.9], np.float32)
    scores = accumulated(
        forecast.T.reshape(1, 3, 1, 1, 1, 3),
        truth.reshape(1, 1, 1, 1, 3),
        np.ones((1, 1, 1, 1, 3), bool),
    )
    third = 1 / 3
    expected = np.array([0.25, 0.25 + third, 0.25 + third, 0.25 + third + 1.0])
    np.testing.assert_allclose(scores.compute()["rank_histogram"][0], expected, rtol=1e-15)


@pytest.mark.parametrize("members", [1, 4, 10])
def test_reliability_is_that_of_pysteps(probscores, members):
    forecast, truth, mask = fields(members, batch=2)
    found = accumulated(forecast, truth, mask).compute()
    ours, observed = at_lead_time(forecast, truth, mask, 0)
    for place, pixel in enumerate(PIXELS):
        state = probscores.reldiag_init(pixel, n_bins=members + 1, min_count=1)
        probability = (ours >= pixel).mean(axis=0)
        probscores.reldiag_accum(state, probability, observed)
        with np.errstate(invalid="ignore"):
            probabilities, frequencies = probscores.reldiag_compute(state)
        np.testing.assert_array_equal(found["forecast_count"][0, place], state["num_idx"])
        np.testing.assert_allclose(found["observed_frequency"][0, place], frequencies, rtol=1e-14)
        expected = np.where(state["num_idx"] > 0, np.arange(members + 1) / members, np.nan)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
        event = observed >= pixel
        assert found["brier"][0, place] == pytest.approx(
            ((probability - event) ** 2).mean(), rel=1e-12
        )


def test_an_event_is_a_value_at_the_threshold():
    at, below = PIXELS[1], np.nextafter(PIXELS[1], np.float32(0))
    forecast = np.array([at, below], np.float32).reshape(1, 2, 1, 1, 1, 1)
    truth = np.full((1, 1, 1, 1, 1), at, np.float32)
    found = accumulated(forecast, truth, np.ones(truth.shape, bool)).compute()
    np.testing.assert_array_equal(found["forecast_count"][0, 1], [0, 1, 0])
    assert found["observed_frequency"][0, 1, 1] == 1.0
    assert found["brier"][0, 1] == 0.25


def test_nothing_counts():
    forecast, truth, mask = fields(3, lead_times=2)
    forecast[:] = truth[:] = np.nan
    scores = accumulated(forecast, truth, np.zeros_like(mask))
    found = scores.compute()
    for name, values in found.items():
        assert (values == 0).all() if name in scores.COUNTS else np.isnan(values).all()


def test_parts_merge_and_frames_are_scored_in_pieces(monkeypatch):
    forecast, truth, mask = fields(4, batch=3, lead_times=2, dry=0.3)
    whole = accumulated(forecast, truth, mask)
    monkeypatch.setattr("nowcast.verification.ensembles.VALUES_AT_A_TIME", 100)
    parts = [
        accumulated(*(field[part] for field in (forecast, truth, mask)))
        for part in (slice(0, 1), slice(1, 3))
    ]
    merged = parts[0].merge(parts[1])
    assert merged.clips == whole.clips == 3
    for name, values in whole.sums.items():
        np.testing.assert_allclose(merged.sums[name], values, rtol=1e-5)
        if values.dtype == np.int64:
            np.testing.assert_array_equal(merged.sums[name], values)
    with pytest.raises(InputError, match="probability"):
        whole.merge(EnsembleScores(2, 5, THRESHOLDS))


def test_scores_of_several_sums_at_once():
    sums = [accumulated(*fields(3, lead_times=2, seed=seed)).sums for seed in range(3)]
    scores = EnsembleScores(2, 3, THRESHOLDS)
    together = scores.summary_from(
        {name: np.stack([one[name] for one in sums]) for name in sums[0]}
    )
    assert "rank_histogram" not in together
    assert "forecast_count" not in together
    for name, values in together.items():
        expected = np.stack([scores.summary_from(one)[name] for one in sums])
        np.testing.assert_array_equal(values, expected)


def test_axes_have_coordinates_of_their_length():
    scores = accumulated(*fields(4, lead_times=2))
    lengths = {axis: len(values) for axis, values in scores.coordinates.items()}
    lengths["lead_time"] = 2
    found = scores.compute()
    assert found.keys() == scores.DIMENSIONS.keys()
    for name, values in found.items():
        assert values.shape == tuple(lengths[axis] for axis in scores.DIMENSIONS[name])
    assert scores.coordinates["probability"] == (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("length", range(1, 12))
def test_a_sorting_network_sorts(length):
    """One that sorts all sequences of 0 and 1 sorts everything (Knuth, 5.3.4, theorem Z)."""
    values = np.array(list(itertools.product((0, 1), repeat=length)))
    for low, high in sorting_network(length):
        values[:, [low, high]] = np.sort(values[:, [low, high]], axis=1)
    assert (np.diff(values, axis=1) >= 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 10_000), st.randoms())
def test_the_order_of_members_does_not_matter(members, seed, shuffler):
    forecast, truth, mask = fields(members, size=(4, 5), seed=seed, dry=0.3)
    order = list(range(members))
    shuffler.shuffle(order)
    found = accumulated(forecast, truth, mask).compute()
    shuffled = accumulated(forecast[:, order], truth, mask).compute()
    for name, values in found.items():
        np.testing.assert_allclose(shuffled[name], values, rtol=1e-4)
    assert (found["crps_mm_h"] >= 0).all()
    assert found["rank_histogram"].sum() == pytest.approx(mask.sum())


def test_bad_input_is_refused_and_changes_nothing():
    forecast, truth, mask = fields(3, lead_times=2)
    scores = accumulated(forecast, truth, mask)
    before = {name: values.copy() for name, values in scores.sums.items()}
    everything = np.ones_like(mask)
    hole = forecast.copy()
    hole[0, 2, 1, 0, 3, 3] = np.nan
    for arguments, words in (
        ((forecast[:, :2], truth, mask), r"expected \(batch, 3, 2, 1, y, x\)"),
        ((truth, truth, mask), "prediction to score"),
        ((forecast, truth[..., :8], mask), "truth to score"),
        ((hole, truth, everything), "NaN at lead time 2"),
        ((forecast, truth - 1.0, everything), "lead time 1"),
    ):
        with pytest.raises(InputError, match=words):
            scores.update(*arguments)
    for name, values in scores.sums.items():
        np.testing.assert_array_equal(values, before[name])
    with pytest.raises(InputError, match="members"):
        EnsembleScores(2, 0)
