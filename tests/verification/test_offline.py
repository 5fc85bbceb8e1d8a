"""The offline protocol with methods whose scores are known."""

import numpy as np
import pytest
import torch

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.verification import Scores, evaluate

LEAD_TIMES = 3


class LastFrame:
    def forecast(self, frames, lead_times):
        return frames[:, -1:].expand(-1, lead_times, -1, -1, -1)


class Always:
    def __init__(self, forecast):
        self.answer = forecast

    def forecast(self, frames, lead_times):
        return self.answer


def clips(batches=3, side=6):
    generator = torch.Generator().manual_seed(7)
    for _ in range(batches):
        frames = torch.rand(2, 2 + LEAD_TIMES, 1, side, side, generator=generator)
        mask = torch.rand(2, LEAD_TIMES, 1, side, side, generator=generator) > 0.3
        yield frames[:, :2], frames[:, 2:], mask


def test_each_method_gets_the_scores_of_its_own_forecasts_from_one_pass():
    found = evaluate(
        {"persistence": LastFrame(), "dry": Always(torch.zeros(2, LEAD_TIMES, 1, 6, 6))},
        clips(),
        lead_times=LEAD_TIMES,
        thresholds_mm_h=(1.0, 8.0),
    )
    assert list(found) == ["persistence", "dry"]
    expected = Scores(LEAD_TIMES, (1.0, 8.0))
    for inputs, targets, mask in clips():
        expected.update(inputs[:, -1:].repeat(1, LEAD_TIMES, 1, 1, 1), targets, mask)
    assert found["persistence"].clips == 6
    for name, values in expected.compute().items():
        np.testing.assert_array_equal(found["persistence"].compute()[name], values, err_msg=name)
    assert (found["dry"].compute()["hits"] == 0).all()
    assert (found["dry"].compute()["misses"] > 0).all()


def test_no_gradient_is_kept_while_a_method_forecasts():
    class Watching(LastFrame):
        def forecast(self, frames, lead_times):
            assert torch.is_inference_mode_enabled()
            return super().forecast(frames, lead_times)

    assert isinstance(Watching(), NowcastMethod)
    assert evaluate({"w": Watching()}, clips(1), lead_times=LEAD_TIMES)["w"].clips == 2


@pytest.mark.parametrize(
    ("forecast", "message"),
    [
        (torch.zeros(2, 2, 1, 6, 6), r"'odd'.*\(2, 2, 1, 6, 6\), expected \(2, 3, 1, 6, 6\)"),
        (torch.full((2, 3, 1, 6, 6), float("nan")), "'odd'.*NaN"),
        (torch.full((2, 3, 1, 6, 6), float("inf")), "'odd'.*infinity"),
    ],
)
def test_a_forecast_of_wrong_shape_or_not_finite_is_refused_by_name(forecast, message):
    with pytest.raises(InputError, match=message):
        evaluate({"odd": Always(forecast)}, clips(), lead_times=LEAD_TIMES)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="no clips"):
        evaluate({"persistence": LastFrame()}, [], lead_times=LEAD_TIMES)
    with pytest.raises(InputError, match="no methods"):
        evaluate({}, clips(), lead_times=LEAD_TIMES)
