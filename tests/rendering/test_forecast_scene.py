"""A forecast made ready to be shown: what stands where, at what time, in which colour."""

import numpy as np
import pytest
from made_up_forecast import ISSUED, forecast, frames, rain, with_probabilities

from nowcast.errors import InputError
from nowcast.rendering.forecast_scene import block_means, forecast_scene, reduction
from nowcast.rendering.palette import (
    DRY,
    NO_COVERAGE,
    PROBABILITY,
    PROBABLE,
    RAIN,
    RAIN_EDGES_MM_H,
    probability_classes,
    rain_rate_classes,
)


def test_observed_frames_come_first_at_their_own_times_then_the_forecast():
    seen = frames(rain(6))
    made = forecast(seen)
    # Ten minutes apart, and later ones which nobody had when the forecast was made.
    later = seen.assign_coords(time=seen["time"] + np.timedelta64(10, "m")).isel(time=[4, 5])
    scene = forecast_scene(made, seen.isel(time=[1, 3, 5]))
    minutes = (scene.valid_times - ISSUED.astype("datetime64[s]")).astype(int) / 60
    assert minutes.tolist() == [-20, -10, 0, 5, 10, 15, 20]
    assert scene.issue_frame == 3
    assert scene.label(1) == "valid 2016-09-28 15:45 UTC   observed −010 min"
    assert scene.label(4) == "valid 2016-09-28 16:05 UTC   forecast +010 min"
    (field,) = scene.fields
    expected = np.concatenate([seen.isel(time=[1, 3, 5]), made["rain_rate"]])
    np.testing.assert_array_equal(field.classes, rain_rate_classes(expected))
    assert (field.classes[:, -5:] == NO_COVERAGE).all()
    assert set(np.unique(field.classes)) == {DRY, 5, NO_COVERAGE}
    assert forecast_scene(made, later).issue_frame == 0
    assert forecast_scene(made).frames == 4


def test_negative_rain_rates_were_not_observed():
    seen = frames(rain())
    negative = seen.fillna(-1.0).assign_attrs(seen.attrs)
    one, two = (forecast_scene(forecast(seen), each) for each in (seen, negative))
    np.testing.assert_array_equal(one.fields[0].classes, two.fields[0].classes)


@pytest.mark.parametrize("turned", [("y",), ("x",), ("y", "x")])
def test_north_is_at_the_top_and_west_at_the_left_whichever_way_the_axes_run(turned):
    seen = frames(rain())
    other = seen.isel(dict.fromkeys(turned, slice(None, None, -1)))
    one, two = (forecast_scene(forecast(each), each) for each in (seen, other))
    np.testing.assert_array_equal(one.fields[0].classes, two.fields[0].classes)


def test_each_threshold_has_a_panel_with_a_scale_of_its_own():
    seen = frames(rain())
    scene = forecast_scene(with_probabilities(forecast(seen)), seen)
    assert [field.name for field in scene.fields] == [
        "rain rate", "probability of ≥ 1 mm/h", "probability of ≥ 10 mm/h",
    ]  # fmt: skip
    assert [field.first_frame for field in scene.fields] == [0, 3, 3]
    assert scene.scales == (RAIN, PROBABILITY)
    # 95 % lies in the last of nine bins from 10 %, 47.5 % in the fourth.
    for field, entry in zip(scene.fields[1:], (PROBABLE + 8, PROBABLE + 3), strict=True):
        assert field.classes.shape == (4, 60, 40)
        assert set(np.unique(field.classes)) == {entry, NO_COVERAGE}


def test_colours_of_rates_and_probabilities_change_at_the_edges():
    edges = np.float32(RAIN_EDGES_MM_H)
    assert rain_rate_classes(edges).tolist() == list(range(1, 10))
    assert rain_rate_classes(np.nextafter(edges, np.float32(0))).tolist() == list(range(9))
    tenths = np.arange(11, dtype=np.float32) / 10
    expected = [DRY, *range(PROBABLE, PROBABLE + 9), PROBABLE + 8]
    assert probability_classes(tenths).tolist() == expected
    assert probability_classes(np.float32([np.nan, 0.0999])).tolist() == [NO_COVERAGE, DRY]


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_reduction_keeps_the_amount_of_rain_and_where_it_lies(factor):
    field = np.random.default_rng(0).gamma(0.3, 4.0, (60, 42)).astype(np.float32)
    field[7, 9] = 90.0
    means = block_means(field, factor)
    blocks = field.reshape(60 // factor, factor, 42 // factor, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(means, blocks, rtol=1e-5)
    np.testing.assert_allclose(means.mean(), field.mean(), rtol=1e-5)


def test_blocks_with_less_than_half_coverage_have_none_and_edges_may_be_smaller():
    field = np.float32([
        [1, 3, np.nan, np.nan, 5],
        [5, np.nan, np.nan, 8, 7],
        [2, 4, 6, np.nan, 9],
    ])  # fmt: skip
    expected = np.float32([[3, np.nan, 6], [3, 6, 9]])
    np.testing.assert_allclose(block_means(field, 2), expected, rtol=1e-6)
    assert block_means(field, 1) is field


def test_only_what_is_larger_than_a_screen_is_reduced():
    assert [reduction((side, 700)) for side in (1226, 1280, 1281, 3500, 7000)] == [1, 1, 2, 3, 6]
    seen = frames(rain(2, 90, 130))
    scene = forecast_scene(forecast(seen), seen, largest_side=65)
    assert scene.fields[0].classes.shape == (6, 45, 65)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, o: (f.drop_vars("forecast_reference_time"), o), "no forecast_reference_time"),
        (lambda f, o: (f.drop_vars("rain_rate"), o), "found no rain_rate"),
        (lambda f, o: (f.isel(lead_time=slice(None, None, -1)), o), "valid times out of order"),
        (lambda f, o: (f.isel(lead_time=slice(0)), o), "at least one lead time"),
        (lambda f, o: (f.transpose(), o), r"expected \(lead_time, y, x\)"),
        (lambda f, o: (f, o.isel(y=slice(1, None))), "59 × 40 pixels at other places"),
        (lambda f, o: (f, o.assign_coords(x=o["x"] + 1)), "at other places than"),
        (lambda f, o: (f, o.assign_attrs(units="dBZ")), "observed: found units 'dBZ'"),
        (lambda f, o: (f, o.drop_vars("time")), "found no time"),
        (lambda f, o: (f, o.isel(time=[1, 0])), "times out of order"),
        (lambda f, o: (f, o.isel(time=0)), r"observed: found \(y: 60, x: 40\)"),
        (lambda f, o: (with_probabilities(f).drop_vars("threshold"), o), "coordinate threshold"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change, message):
    seen = frames(rain())
    with pytest.raises(InputError, match=message) as caught:
        forecast_scene(*change(forecast(seen), seen))
    assert "\n" not in str(caught.value)
