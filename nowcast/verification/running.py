"""Forecasting clips with several methods and scoring the forecasts, event by event.

In which order the clips come, and what happens between them, is a protocol's business (`offline`,
`online`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError, NotFinite
from nowcast.method import EnsembleMethod, IssuedForecasts, NowcastMethod
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.verification.accumulator import Accumulator
from nowcast.verification.cases import Cases
from nowcast.verification.fields import rain_rates
from nowcast.verification.results import MethodResult, ScoreKinds

Method = NowcastMethod | IssuedForecasts

Region = tuple[int, int, int, int]
"""Rows and columns that are scored: top, bottom, left, right; bottom and right are the first ones
outside."""


def central_region(shape: tuple[int, int]) -> Region:
    """The middle half of each side of frames: rows and columns 120–360 of the benchmark's 480.

    Source: `CENTRAL_REGION` of the evaluation code that the benchmark's authors publish. Of a side
    that four does not divide, up to three more pixels stay in.

    Args:
        shape: (y, x) of a frame.
    """
    (top, left) = (side // 4 for side in shape)
    return top, shape[0] - top, left, shape[1] - left


class Scoring:
    """Forecasts batches of clips with every method and accumulates the scores.

    A method's forecast of a clip is scored once; those of an ensemble by the mean of its members'
    rain rates (`mean_rain_rate`), and all members together by the scores of ensembles. Where a
    method counts by reason, in an attribute `replaced`, the clips of which it gave another method's
    forecast, its result has those of the clips scored.

    Args:
        methods: what forecasts, by the name that reports show.
        lead_times: number of frames to forecast.
        kinds: what is accumulated.
        region: rows and columns to score, the same in every frame; all where None. What lies
            outside is cut off, so that no score sees it.

    Attributes:
        results: what was found so far, by method; a method is missing until its first forecast.

    Raises:
        InputError: no methods, or one that is none.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        lead_times: int,
        kinds: ScoreKinds,
        region: Region | None = None,
    ) -> None:
        if not methods:
            raise InputError("evaluation: found no methods, expected at least one")
        for name, method in methods.items():
            if not isinstance(method, NowcastMethod | IssuedForecasts):
                raise InputError(
                    f"method {name!r}: found a {type(method).__name__}, expected something with "
                    "forecast or forecast_issued"
                )
        self.methods, self.lead_times, self.kinds, self.region = methods, lead_times, kinds, region
        self.results: dict[str, MethodResult] = {}
        self._kinds_of_forecasts = frozenset(kinds.forecast())

    def add(self, cases: Cases) -> None:
        """Forecast a batch with every method and score it.

        Methods see the inputs, places and times, never a target or a mask.

        Raises:
            InputError: a forecast of wrong shape or with values that are not finite, or another
                number of members than before (names the method); or a region outside of the frames.
        """
        region = self._rows_and_columns(cases)
        with torch.inference_mode():
            for name, method in self.methods.items():
                before = _replaced(method)
                members = forecast_members(
                    name, method, cases.inputs, cases.places, cases.issue_times, self.lead_times
                )
                count = members.shape[1]
                result = self.results.setdefault(name, MethodResult(count))
                result.replaced = dict(Counter(result.replaced) + (_replaced(method) - before))
                if result.members != count:
                    raise InputError(
                        f"forecast of {name!r}: found {count} members, expected {result.members} "
                        "as before"
                    )
                members = members[(..., *region)]
                device = members.device
                fields = (
                    members[:, 0] if count == 1 else mean_rain_rate(members),
                    cases.targets[(..., *region)].to(device),
                    cases.mask[(..., *region)].to(device),
                )
                for event, clips in _clips_by_event(cases.events).items():
                    if event not in result.events:
                        result.events[event] = self._empty(count)
                    own = slice(None) if len(clips) == len(cases) else clips
                    self._score(result.events[event], members, fields, own)

    def _score(
        self,
        kinds: dict[str, Accumulator],
        members: torch.Tensor,
        fields: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        clips: slice | list[int],
    ) -> None:
        """Add some clips of a batch to the accumulators of the event that they belong to."""
        forecast, truth, mask = (field[clips] for field in fields)
        for kind, scores in kinds.items():
            of_forecast = kind in self._kinds_of_forecasts
            scores.update(forecast if of_forecast else members[clips], truth, mask)

    def _empty(self, members: int) -> dict[str, Accumulator]:
        of_forecast, of_members = self.kinds.forecast(), self.kinds.of_members(members)
        if of_forecast.keys() & of_members.keys():
            raise ValueError(f"kinds of scores named twice: {of_forecast.keys() & of_members}")
        return of_forecast | of_members

    def _rows_and_columns(self, cases: Cases) -> tuple[slice, slice]:
        height, width = cases.targets.shape[-2:]
        top, bottom, left, right = self.region or (0, height, 0, width)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise InputError(
                f"region: found rows {top} to {bottom} and columns {left} to {right}, expected "
                f"some of {height} × {width} pixels"
            )
        return slice(top, bottom), slice(left, right)

    def state_dict(self) -> dict[str, Any]:
        """All that was accumulated, as plain values and tensors."""
        return {
            name: {
                "members": result.members,
                "replaced": result.replaced,
                "events": {
                    event: {
                        kind: {
                            sums: torch.from_numpy(np.array(values))
                            for sums, values in scores.sums.items()
                        }
                        for kind, scores in kinds.items()
                    }
                    for event, kinds in result.events.items()
                },
            }
            for name, result in self.results.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave, in place of what was accumulated.

        Raises:
            InputError: it is not of these methods or kinds of scores.
        """
        results = {}
        for name in self.methods:
            if name not in state:
                raise InputError(f"found no scores of {name!r}, expected them")
            members = state[name]["members"]
            results[name] = MethodResult(members, replaced=dict(state[name]["replaced"]))
            for event, kinds in state[name]["events"].items():
                empty = self._empty(members)
                if empty.keys() != kinds.keys():
                    raise InputError(f"found scores {list(kinds)}, expected {list(empty)}")
                for kind, scores in empty.items():
                    _load_sums(kind, scores, kinds[kind])
                results[name].events[event] = empty
        self.results = results


def forecast_members(
    name: str,
    method: Method,
    inputs: torch.Tensor,
    places: Sequence[str],
    issue_times: NDArray[np.datetime64],
    lead_times: int,
) -> torch.Tensor:
    """Forecast a batch with a method of any kind, checked.

    Args:
        name: of the method, for messages.
        method: what forecasts.
        inputs: pixel values (batch, time, 1, y, x).
        places: name of the place of each clip.
        issue_times: valid time of the last input frame of each clip.
        lead_times: number of frames to forecast.

    Returns:
        Pixel values (batch, member, lead_times, 1, y, x); one member where the method is no
        ensemble.

    Raises:
        InputError: a forecast of wrong shape or with values that are not finite (names the method).
    """
    single = not isinstance(method, IssuedForecasts | EnsembleMethod)
    if isinstance(method, IssuedForecasts):
        found = method.forecast_issued(places, issue_times, lead_times)
    elif isinstance(method, EnsembleMethod):
        found = method.forecast_members(inputs, lead_times)
    else:
        found = method.forecast(inputs, lead_times)
    expected: tuple[int | str, ...] = (lead_times, *inputs.shape[2:])
    expected = (len(inputs), *(() if single else ("members",)), *expected)
    fits = found.ndim == len(expected) and all(
        there == wanted or (wanted == "members" and there > 0)
        for there, wanted in zip(found.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise InputError(
            f"forecast of {name!r}: found shape {tuple(found.shape)}, expected ({wanted})"
        )
    if not torch.isfinite(found).all():
        raise NotFinite(f"forecast of {name!r}: found NaN or infinity, expected finite values")
    return found[:, None] if single else found


def mean_rain_rate(members: torch.Tensor) -> torch.Tensor:
    """Pixel values of the mean of an ensemble's rain rates in mm/h.

    Pixel value 0 is no rain, 0 mm/h, as everywhere; the mean of members that are all dry is 0.

    Args:
        members: pixel values (batch, member, time, 1, y, x), clipped to [0, 1].

    Returns:
        Pixel values (batch, time, 1, y, x), in [0, 1].
    """
    means = []
    # One lead time at a time: an ensemble is large, and so would be all that comes in between.
    for frames in members.unbind(2):
        rain_rate_mm_h = rain_rates(frames.clamp(0, 1)).mean(dim=1)
        means.append(rain_rate_to_pixel(rain_rate_mm_h).clamp_(0, 1))
    return torch.stack(means, dim=1)


def _replaced(method: Method) -> Counter[str]:
    """How many clips a method has given another method's forecast of, by reason, so far."""
    return Counter(getattr(method, "replaced", None))


def _clips_by_event(events: tuple[str, ...]) -> dict[str, list[int]]:
    """Numbers of the clips of each event, events in the order in which they come."""
    clips: dict[str, list[int]] = {}
    for number, event in enumerate(events):
        clips.setdefault(event, []).append(number)
    return clips


def _load_sums(kind: str, scores: Accumulator, sums: dict[str, torch.Tensor]) -> None:
    mine = {name: np.shape(values) for name, values in scores.sums.items()}
    theirs = {name: tuple(values.shape) for name, values in sums.items()}
    if mine != theirs:
        raise InputError(f"found sums of {kind} {theirs}, expected {mine}")
    scores.sums = {name: values.numpy() for name, values in sums.items()}
