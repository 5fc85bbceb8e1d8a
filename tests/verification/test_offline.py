"""The offline protocol with methods whose scores are known."""

import copy

import numpy as np
import pytest
import torch
from made_up_cases import Always, LastFrame, SquaredErrors, make_cases, plain_kinds

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.persistence import Persistence
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
from nowcast.verification.offline import evaluate
from nowcast.verification.results import MethodResult, ScoreKinds
from nowcast.verification.running import central_region, mean_rain_rate
from nowcast.verification.scores import Scores

LEAD_TIMES = 3
SIDE = 6
KINDS = plain_kinds(LEAD_TIMES)
BENCHMARK = ScoreKinds(lambda: {"benchmark": Scores(LEAD_TIMES, (1.0, 8.0))})


def clips(batches=3, events=None):
    generator = torch.Generator().manual_seed(7)
    for number in range(batches):
        own = None if events is None else events[2 * number : 2 * number + 2]
        yield make_cases(generator, 2, 2, LEAD_TIMES, SIDE, own, first=2 * number)


class Ensemble(LastFrame):
    """Three members: the last frame, half of it and nothing."""

    def forecast_members(self, frames, lead_times):
        last = self.forecast(frames, lead_times)
        return torch.stack([last, last / 2, torch.zeros_like(last)], dim=1)


class Issued:
    """Forecasts from elsewhere: their value says of which clip they are."""

    def __init__(self, members=1):
        self.members, self.asked = members, []

    def forecast_issued(self, places, issue_times, lead_times):
        self.asked += list(zip(places, issue_times.tolist(), strict=True))
        values = torch.arange(len(places)).view(-1, 1, 1, 1, 1, 1) / 10
        return values.expand(-1, self.members, lead_times, 1, SIDE, SIDE)


def test_each_method_gets_the_scores_of_its_own_forecasts_from_one_pass():
    found = evaluate(
        {"persistence": Persistence(), "dry": Always(torch.zeros(2, LEAD_TIMES, 1, SIDE, SIDE))},
        clips(),
        lead_times=LEAD_TIMES,
        kinds=BENCHMARK,
    )
    assert list(found) == ["persistence", "dry"]
    expected = Scores(LEAD_TIMES, (1.0, 8.0))
    for cases in clips():
        prediction = cases.inputs[:, -1:].repeat(1, LEAD_TIMES, 1, 1, 1)
        expected.update(prediction, cases.targets, cases.mask)
    assert (found["persistence"].clips, found["persistence"].kinds) == (6, ("benchmark",))
    total = found["persistence"].total("benchmark").compute()
    for name, values in expected.compute().items():
        np.testing.assert_array_equal(total[name], values, err_msg=name)
    assert (found["dry"].total("benchmark").compute()["hits"] == 0).all()
    assert (found["dry"].total("benchmark").compute()["misses"] > 0).all()


def test_scores_go_to_the_event_of_each_clip_and_add_up_to_the_total():
    events = ["a", "b", "b", "b", "c", "a"]
    found = evaluate({"m": LastFrame()}, clips(events=events), lead_times=LEAD_TIMES, kinds=KINDS)[
        "m"
    ]
    assert list(found.events) == ["a", "b", "c"]
    singles = [
        (event, cases.inputs[clip, -1:].double(), cases.targets[clip], cases.mask[clip])
        for cases in clips(events=events)
        for clip, event in enumerate(cases.events)
    ]
    errors = {event: np.zeros(LEAD_TIMES) for event in found.events}
    for event, last, truth, mask in singles:
        errors[event] += ((last - truth).square() * mask).sum((1, 2, 3)).numpy()
    for event, kinds in found.events.items():
        assert kinds["errors"].clips == events.count(event)
        np.testing.assert_allclose(kinds["errors"].sums["squared_error"], errors[event], rtol=1e-13)
    before = copy.deepcopy({event: kinds["errors"].sums for event, kinds in found.events.items()})
    total = found.total("errors")
    np.testing.assert_allclose(total.sums["squared_error"], sum(errors.values()), rtol=1e-13)
    assert total.clips == found.clips == 6
    # The total is an accumulator of its own.
    total.sums["squared_error"] += 1
    for event, kinds in found.events.items():
        np.testing.assert_array_equal(
            kinds["errors"].sums["squared_error"], before[event]["squared_error"]
        )
    with pytest.raises(InputError, match="found errors, expected 'bias'"):
        found.total("bias")


def test_an_ensemble_is_scored_by_its_mean_rain_rate_and_by_its_members():
    found = evaluate({"e": Ensemble()}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)["e"]
    assert (found.members, found.kinds) == (3, ("errors", "spread"))
    errors, spread = np.zeros(LEAD_TIMES), np.zeros(LEAD_TIMES)
    for cases in clips():
        last = cases.inputs[:, -1:].double().numpy()
        rates = [np.where(p > 0, pixel_to_rain_rate(p), 0) for p in (last, last / 2)]
        mean = np.clip(rain_rate_to_pixel(sum(rates) / 3), 0, 1)
        mask = cases.mask.numpy()
        errors += ((mean - cases.targets.numpy()) ** 2 * mask).sum((0, 2, 3, 4))
        spread += (np.stack([last, last / 2, 0 * last]).var(axis=0) * mask).sum((0, 2, 3, 4))
    np.testing.assert_allclose(found.total("errors").sums["squared_error"], errors, rtol=1e-5)
    np.testing.assert_allclose(found.total("spread").sums["squared_error"], spread, rtol=1e-5)


def test_the_mean_rain_rate_of_dry_members_is_dry_and_of_equal_ones_their_own():
    members = torch.tensor([0.0, 0.3, 0.5, 1.0]).view(1, 1, 4, 1, 1, 1).repeat(1, 5, 1, 1, 1, 1)
    mean = mean_rain_rate(members)
    assert mean.shape == (1, 4, 1, 1, 1)
    assert mean.flatten()[0] == 0
    np.testing.assert_allclose(mean.flatten(), [0, 0.3, 0.5, 1], atol=2e-7)
    half_dry = torch.stack([members[:, 0], torch.zeros_like(members[:, 0])], dim=1)
    rates = pixel_to_rain_rate(mean_rain_rate(half_dry).double()).flatten()[1:]
    np.testing.assert_allclose(rates, pixel_to_rain_rate(np.array([0.3, 0.5, 1.0])) / 2, rtol=1e-5)


@pytest.mark.parametrize("members", [1, 2])
def test_issued_forecasts_are_asked_for_by_place_and_time(members):
    issued = Issued(members)
    found = evaluate({"i": issued}, clips(2), lead_times=LEAD_TIMES, kinds=KINDS)["i"]
    asked = [
        (place, time)
        for cases in clips(2)
        for place, time in zip(cases.places, cases.issue_times.tolist(), strict=True)
    ]
    assert issued.asked == asked
    assert found.members == members
    assert found.kinds == (("errors",) if members == 1 else ("errors", "spread"))
    expected = SquaredErrors(LEAD_TIMES)
    for cases in clips(2):
        value = torch.tensor([0.0, 0.1]).view(2, 1, 1, 1, 1).expand(cases.targets.shape)
        expected.update(value, cases.targets, cases.mask)
    np.testing.assert_allclose(
        found.total("errors").sums["squared_error"], expected.sums["squared_error"], rtol=1e-6
    )


def test_a_region_is_cut_out_before_anything_is_scored():
    class Shapes(SquaredErrors):
        def update(self, prediction, truth, mask):
            assert prediction.shape == truth.shape == mask.shape == (2, LEAD_TIMES, 1, 3, 4)
            super().update(prediction, truth, mask)

    found = evaluate(
        {"m": LastFrame()},
        clips(1),
        lead_times=LEAD_TIMES,
        kinds=ScoreKinds(lambda: {"errors": Shapes(LEAD_TIMES)}),
        region=(1, 4, 2, 6),
    )["m"].total("errors")
    cases = next(clips(1))
    error = (cases.inputs[:, -1:].double() - cases.targets).square() * cases.mask
    np.testing.assert_allclose(
        found.sums["squared_error"], error[..., 1:4, 2:6].sum((0, 2, 3, 4)), rtol=1e-13
    )
    # Gradients across the region's edge would make another GDL of zeros outside.
    whole, cut = (
        evaluate(
            {"m": LastFrame()}, clips(1), lead_times=LEAD_TIMES, kinds=BENCHMARK, region=region
        )["m"].total("benchmark")
        for region in ((0, SIDE, 0, SIDE), (0, 3, 0, SIDE))
    )
    by_hand = Scores(LEAD_TIMES, (1.0, 8.0))
    prediction = cases.inputs[:, -1:].repeat(1, LEAD_TIMES, 1, 1, 1)
    by_hand.update(*(field[..., :3, :] for field in (prediction, cases.targets, cases.mask)))
    np.testing.assert_array_equal(cut.compute()["gdl"], by_hand.compute()["gdl"])
    assert (whole.compute()["gdl"] > cut.compute()["gdl"]).all()


def test_the_central_region_is_the_authors():
    assert central_region((480, 480)) == (120, 360, 120, 360)
    assert central_region((120, 100)) == (30, 90, 25, 75)
    assert central_region((7, 2)) == (1, 6, 0, 2)


@pytest.mark.parametrize("region", [(0, 7, 0, 6), (3, 3, 0, 6), (-1, 3, 0, 6), (0, 6, 5, 2)])
def test_a_region_outside_of_the_frames_is_refused(region):
    with pytest.raises(InputError, match=r"region: found rows .* expected some of 6 × 6 pixels"):
        evaluate({"m": LastFrame()}, clips(1), lead_times=3, kinds=KINDS, region=region)


def test_no_gradient_is_kept_while_a_method_forecasts():
    class Watching(LastFrame):
        def forecast(self, frames, lead_times):
            assert torch.is_inference_mode_enabled()
            return super().forecast(frames, lead_times)

    assert isinstance(Watching(), NowcastMethod)
    found = evaluate({"w": Watching()}, clips(1), lead_times=LEAD_TIMES, kinds=KINDS)
    assert found["w"].clips == 2


@pytest.mark.parametrize(
    ("forecast", "message"),
    [
        (torch.zeros(2, 2, 1, 6, 6), r"'odd'.*\(2, 2, 1, 6, 6\), expected \(2, 3, 1, 6, 6\)"),
        (torch.zeros(2, 3, 6, 6), r"'odd'.*\(2, 3, 6, 6\), expected \(2, 3, 1, 6, 6\)"),
        (torch.full((2, 3, 1, 6, 6), float("nan")), "'odd'.*NaN"),
        (torch.full((2, 3, 1, 6, 6), float("inf")), "'odd'.*infinity"),
    ],
)
def test_a_forecast_of_wrong_shape_or_not_finite_is_refused_by_name(forecast, message):
    with pytest.raises(InputError, match=message):
        evaluate({"odd": Always(forecast)}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (torch.zeros(2, 3, 1, 6, 6), r"'odd'.*\(2, 3, 1, 6, 6\), expected \(2, members, 3, 1, 6,"),
        (torch.zeros(2, 0, 3, 1, 6, 6), r"'odd'.*expected \(2, members, 3, 1, 6, 6\)"),
        (torch.full((2, 4, 3, 1, 6, 6), float("nan")), "'odd'.*NaN"),
    ],
)
def test_members_of_wrong_shape_or_not_finite_are_refused_by_name(members, message):
    class Odd(Always):
        def forecast_members(self, frames, lead_times):
            return self.answer

    with pytest.raises(InputError, match=message):
        evaluate({"odd": Odd(members)}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)


def test_another_number_of_members_than_before_is_refused():
    class Growing(LastFrame):
        members = 1

        def forecast_members(self, frames, lead_times):
            self.members += 1
            return torch.zeros(2, self.members, lead_times, 1, SIDE, SIDE)

    with pytest.raises(InputError, match="'g': found 3 members, expected 2"):
        evaluate({"g": Growing()}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="no clips"):
        evaluate({"persistence": LastFrame()}, [], lead_times=LEAD_TIMES, kinds=KINDS)
    with pytest.raises(InputError, match="no methods"):
        evaluate({}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)
    with pytest.raises(InputError, match="'text': found a str, expected something with forecast"):
        evaluate({"text": "a method"}, clips(), lead_times=LEAD_TIMES, kinds=KINDS)
    with pytest.raises(InputError, match="found none"):
        MethodResult(1).total("errors")
