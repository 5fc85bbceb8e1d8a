"""What is not observed, or beyond the grid, moves in with the air."""

import numpy as np
import pytest
from moving_rain import Recorder, rain_at

import nowcast
from nowcast.errors import InputError
from nowcast.inference.coverage import covered_ahead
from nowcast.models.ensembles import PerturbedInputs, SeveralMethods
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence


def test_in_steady_air_coverage_moves_as_far_as_the_air():
    covered = np.ones((20, 30), bool)
    covered[5:9, 10:14] = False
    motion = np.stack([np.full((20, 30), 3.0), np.full((20, 30), -1.0)])
    ahead = covered_ahead(covered, motion, 4)
    for step in range(1, 5):
        expected = np.zeros((20, 30), bool)
        # From x − 3, and from y + 1: what is not there is not covered.
        expected[: 20 - step, 3 * step :] = covered[step:, : 30 - 3 * step]
        np.testing.assert_array_equal(ahead[step - 1], expected)


def test_still_air_brings_nothing_in():
    covered = np.random.default_rng(0).random((20, 30)) > 0.3
    ahead = covered_ahead(covered, np.zeros((2, 20, 30)), 3)
    np.testing.assert_array_equal(ahead, np.broadcast_to(covered, (3, 20, 30)))


def test_a_forecast_loses_the_edge_that_the_wind_comes_from():
    """Showers go 3 pixels to the right and 1 down in 5 minutes."""
    result = nowcast.forecast(OpticalFlow(), rain_at(0, 5, 10, 15, 20), 4)["rain_rate"]
    missing = np.isnan(result).to_numpy()
    for step in range(1, 5):
        assert np.median(missing[step - 1].sum(axis=1)) == pytest.approx(3 * step, abs=1.01)
        assert np.median(missing[step - 1].sum(axis=0)) == pytest.approx(step, abs=1.01)
        assert not missing[step - 1, 10:, 30:].any()
    stays = nowcast.forecast(OpticalFlow(), rain_at(0, 5, 10, 15, 20), 4, coverage="stays")
    assert not np.isnan(stays["rain_rate"]).any()
    np.testing.assert_array_equal(result.where(~missing, 0), stays["rain_rate"].where(~missing, 0))


def test_frames_from_south_to_north_lose_the_same_edge():
    frames = rain_at(0, 5, 10, 15, 20)
    frames = frames.assign_coords(y=np.arange(120.0)[::-1], x=np.arange(160.0))
    expected = nowcast.forecast(OpticalFlow(), frames, 3)
    turned = nowcast.forecast(OpticalFlow(), frames.isel(y=slice(None, None, -1)), 3)
    np.testing.assert_array_equal(turned["rain_rate"][:, ::-1], expected["rain_rate"])


def test_with_persistence_nothing_moves():
    frames = rain_at(0, 5, 10)
    frames[-1, 10:20, 10:20] = np.nan
    expected = np.broadcast_to(np.isnan(frames[-1]), (3, 120, 160))
    ensemble = SeveralMethods([PerturbedInputs(Persistence(), members=2), Persistence()])
    for method in (Persistence(), ensemble):
        result = nowcast.forecast(method, frames, 3)["rain_rate"]
        np.testing.assert_array_equal(np.isnan(result), expected)


def test_a_network_sees_what_is_not_observed_as_dry_and_not_as_missing():
    frames = rain_at(0, 5, 10)
    frames[:, 40:80, 40:80] = np.nan
    method = Recorder()
    nowcast.forecast(method, frames, 1)
    assert (method.seen[0, :, 0, 40:80, 40:80] == 0).all()


def test_other_words_are_refused():
    with pytest.raises(InputError, match="coverage: found 'grows', expected moves or stays"):
        nowcast.forecast(OpticalFlow(), rain_at(0, 5), coverage="grows")


@pytest.mark.parametrize("name", ["fmi_20160928", "knmi_20100826"])
def test_on_real_rain_what_is_missing_grows_from_where_the_rain_comes(shared, name):
    frames = nowcast.read_frames(shared / f"real-radar/events/{name}.nc")[:5]
    frames = frames[:, ::2, ::2]
    result = nowcast.forecast(OpticalFlow(), frames, 20)["rain_rate"].to_numpy()
    missing = np.isnan(result).mean(axis=(1, 2))
    now = float(np.isnan(frames[-1]).mean())
    assert now < missing[0] < missing[9] < missing[-1] < now + 0.6
