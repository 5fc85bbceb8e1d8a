"""The benchmark's offline ("fixed") protocol: every clip is forecast and scored on its own.

What a clip is and where it comes from is not decided here.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.progress import progress
from nowcast.verification.scores import THRESHOLDS_MM_H, Scores


def evaluate(
    methods: Mapping[str, NowcastMethod],
    clips: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    *,
    lead_times: int,
    thresholds_mm_h: Sequence[float] = THRESHOLDS_MM_H,
) -> dict[str, Scores]:
    """Score several methods on the same clips.

    Args:
        methods: what forecasts, by the name that reports show.
        clips: batches of input frames (batch, time, 1, y, x), target frames
            (batch, lead_times, 1, y, x) and the targets' mask (True = counts), pixel values in
            [0, 1]. Gone through once. Methods see the frames, never a target or a mask.
        lead_times: number of frames to forecast.
        thresholds_mm_h: rain rates that make an event, in mm/h.

    Returns:
        The accumulated scores of every method, by name.

    Raises:
        InputError: no methods or no clips; a forecast of wrong shape or with values that are not
            finite (names the method).
    """
    if not methods:
        raise InputError("evaluation: found no methods, expected at least one")
    scores = {name: Scores(lead_times, thresholds_mm_h) for name in methods}
    batches = 0
    with torch.inference_mode():
        for inputs, targets, mask in progress(clips, "evaluating", unit="batch"):
            batches += 1
            for name, method in methods.items():
                forecast = method.forecast(inputs, lead_times)
                _check_forecast(name, forecast, inputs, lead_times)
                scores[name].update(forecast, targets.to(forecast.device), mask.to(forecast.device))
    if batches == 0:
        raise InputError("evaluation: found no clips, expected at least one")
    return scores


def _check_forecast(
    name: str, forecast: torch.Tensor, inputs: torch.Tensor, lead_times: int
) -> None:
    expected = (inputs.shape[0], lead_times, *inputs.shape[2:])
    if tuple(forecast.shape) != expected:
        raise InputError(
            f"forecast of {name!r}: found shape {tuple(forecast.shape)}, expected {expected}"
        )
    if not torch.isfinite(forecast).all():
        raise InputError(f"forecast of {name!r}: found NaN or infinity, expected finite values")
