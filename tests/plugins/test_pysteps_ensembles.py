"""Ensembles by `n_ens_members`, pysteps' word: (members, timesteps, y, x)."""

import importlib.util
from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from scores.probability import crps_for_ensemble

import nowcast
from nowcast.models.ensembles import PerturbedInputs
from nowcast.models.optical_flow import OpticalFlow
from nowcast.plugins.pysteps_nowcasts import convgru, dis_flow, dis_flow_inflow, rover

needs_pysteps = pytest.mark.skipif(
    importlib.util.find_spec("pysteps") is None, reason="pysteps is not installed"
)


@pytest.mark.parametrize("method", [convgru, dis_flow, dis_flow_inflow, rover])
def test_members_differ_and_their_seed_decides_them(observed, method):
    rates = observed[:5].to_numpy()
    found = method(rates, None, 2, n_ens_members=3, seed=1)
    assert found.shape == (3, 2, 160, 160)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(method(rates, None, 2, n_ens_members=3, seed=1), found)
    for one, other in combinations(found[:, 1], 2):
        assert np.nanmean(np.abs(one - other)) > 0.05
    assert (np.isnan(found) == np.isnan(method(rates, None, 2))).all()
    # Another seed, more members.
    assert not np.array_equal(method(rates, None, 2, n_ens_members=3, seed=2), found)
    np.testing.assert_array_equal(method(rates, None, 2, n_ens_members=4, seed=1)[:3], found)


def test_without_a_seed_each_ensemble_is_another(observed):
    rates = observed[:5].to_numpy()
    one, other = (dis_flow(rates, None, 1, n_ens_members=2) for _ in range(2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("members", [None, 1, np.int64(1)])
def test_one_member_is_the_forecast_of_what_was_observed(observed, members):
    rates = observed[:5].to_numpy()
    found = dis_flow(rates, None, 2, n_ens_members=members, seed=3)
    np.testing.assert_array_equal(found, dis_flow(rates, None, 2))
    assert found.ndim == 3


@pytest.mark.parametrize("coverage", ["moves", "stays"])
def test_they_are_the_members_whose_mean_and_probabilities_nowcast_forecast_tells(
    observed, coverage
):
    frames = observed[:5].copy()
    frames[:, 60:90, 60:100] = np.nan
    thresholds = (0.5, 2.0)
    expected = nowcast.forecast(
        PerturbedInputs(OpticalFlow(), 4, 7),
        frames,
        3,
        coverage=coverage,
        thresholds_mm_h=thresholds,
    )
    found = dis_flow(frames.to_numpy(), None, 3, n_ens_members=4, seed=7, coverage=coverage)
    np.testing.assert_allclose(found.mean(axis=0), expected["rain_rate"], rtol=1e-6, atol=1e-6)
    for number, threshold in enumerate(thresholds):
        reached = np.where(np.isnan(found), np.nan, found >= threshold).mean(axis=0)
        np.testing.assert_array_equal(reached, expected["exceedance_probability"][number])


def test_units_rows_and_time_steps_are_those_of_one_forecast(observed):
    ten = observed[:5:2].to_numpy().astype(float)
    members = {"n_ens_members": 2, "seed": 4, "timestep": 10}
    expected = convgru(ten, None, 2, **members)
    # Every second of the network's own lead times.
    own = PerturbedInputs(nowcast.load("convgru-5min"), 2, 4)
    mean = nowcast.forecast(own, observed[:5:2], 4, thresholds_mm_h=(1,))["rain_rate"][1::2]
    np.testing.assert_allclose(expected.mean(axis=0), mean, rtol=1e-5, atol=1e-5)
    lower = convgru(ten[:, ::-1], None, 2, metadata={"yorigin": "lower"}, **members)
    np.testing.assert_array_equal(lower[:, :, ::-1], expected)
    amounts = convgru(ten / 8, None, 2, unit="mm", accutime=7.5, **members)
    np.testing.assert_array_equal(amounts, expected / 8)


def test_between_steps_each_member_follows_its_own_motion():
    """Along another's motion a shower would be there twice: wider than at the steps around it."""
    y, x = np.mgrid[:100, :100]
    rates = np.stack([20 * np.exp(-((x - 20 - 8 * n) ** 2 + (y - 50) ** 2) / 18) for n in range(5)])
    found = dis_flow(rates, None, [1, 1.5, 2], n_ens_members=6, seed=0, coverage="stays")

    def place_and_width(field):
        weight = field / field.sum()
        place = np.array([(weight * x).sum(), (weight * y).sum()])
        return place, np.sqrt((weight * ((x - place[0]) ** 2 + (y - place[1]) ** 2)).sum() / 2)

    ways = []
    for before, between, after in found:
        (first, narrow), (middle, width), (last, wide) = map(
            place_and_width, (before, between, after)
        )
        np.testing.assert_allclose(middle, (first + last) / 2, atol=0.3)
        assert width == pytest.approx((narrow + wide) / 2, rel=0.05)
        ways.append(last - first)
    assert np.std(ways, axis=0).min() > 0.5


@needs_pysteps
def test_scores_of_pysteps_for_ensembles_take_them(observed):
    """15 minutes ahead: CRPS as `scores` has it, below the error of the one forecast."""
    from pysteps.postprocessing.ensemblestats import excprob
    from pysteps.verification import ensscores, get_method, probscores

    rates, truth = observed[:5].to_numpy().astype(float), observed[7].to_numpy().astype(float)
    members = dis_flow(rates, None, 3, n_ens_members=10, seed=0)[:, -1]
    known = ~np.isnan(members[0])
    crps = get_method("CRPS", type="probabilistic")(members, truth)
    expected = crps_for_ensemble(
        xr.DataArray(members[:, known], dims=("member", "pixel")),
        xr.DataArray(truth[known], dims="pixel"),
        "member",
        method="ecdf",
    )
    assert crps == pytest.approx(float(expected), rel=1e-6)
    alone = np.abs(dis_flow(rates, None, 3)[-1] - truth)[known].mean()
    assert crps < 0.9 * alone

    ranks = ensscores.rankhist(members, truth, X_min=0.1, normalize=False)
    assert ranks.shape == (11,)
    counted = known & ((truth >= 0.1) | (members >= 0.1).any(axis=0))
    assert ranks.sum() == counted.sum()
    skill = ensscores.ensemble_skill(members, truth, "MAE")
    spread = ensscores.ensemble_spread(members, "MAE")
    assert skill == pytest.approx(np.abs(members - truth)[:, known].mean(), rel=1e-6)
    assert 0.5 * skill < spread < 1.5 * skill

    probability = excprob(members, 2.0)
    expected = (members >= 2.0).mean(axis=0)
    np.testing.assert_allclose(probability[known], expected[known], atol=1e-12)
    yes = (dis_flow(rates, None, 3)[-1][known] >= 2.0).astype(float)
    area, of_one = (
        probscores.ROC_curve(field, truth[known], 2.0, compute_area=True)[2]
        for field in (probability[known], yes)
    )
    assert area > of_one + 0.05
