"""What a report of scores holds. How it comes about is `report`; files of it are `report_files`.

A report is a plain mapping, the same in memory and in the JSON file:

- `format`: the number of this description; files of another are refused.
- `settings`: what was scored and how, and under `beside`, of every further report that was put into
  this one, `methods` (its rows) and what differs in its settings, commit, versions or resampling;
  `commit` and `versions` of what scored it.
- `lead_minutes`: the lead times; `thresholds_mm_h`: those of the benchmark's scores.
- `dimensions`: the axes of every score, the first of which is the lead time. `coordinates`: the
  values along the others, by axis.
- `resampling`: what the intervals and p values rest on; `why_none` says why there are none.
- `methods`, by name: `clips`, `members` (1 where it is no ensemble), `replaced` (reason → number of
  clips of which the method gave another one's forecast), `coordinates` of the axes that depend on
  the number of members, `per_lead` (score → values with the score's axes), `mean` (the
  same without lead times, averaged over those at which the score is defined; no counts), `interval`
  (score → `low` and `high` of that mean), `per_lead_interval` (the same per lead time, of the
  scores that are plotted) and `by_event` (event → `clips` and `mean`, without scores along
  wavelengths, ranks and probabilities).
- `differences`: paired tests of `method` minus `reference`: score → `difference` of the means,
  `low` and `high` of its interval, `p_value` (two-sided, of no difference; each score on its own).

A score that is undefined, or infinite, is NaN in memory and null in the file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

FORMAT = 2

BALANCED_SUM = "balanced_mse_mae"
"""B-MSE + B-MAE, by which the benchmark ranks; its interval is that of the sum."""

BESIDE = "beside"
"""The setting that says where the rows of further reports come from."""

SHOWN_AXES = {
    **dict.fromkeys(("mse", "mae", "balanced_mse", "balanced_mae", BALANCED_SUM), ("lead_time",)),
    **dict.fromkeys(
        ("csi", "hss", "pod", "far", "frequency_bias"), ("lead_time", "threshold_mm_h")
    ),
}
"""Scores that tables show of every method, and their axes."""

FURTHER_AXES = {
    **dict.fromkeys(("rmse_mm_h", "mae_mm_h", "mean_error_mm_h", "crps_mm_h"), ("lead_time",)),
    "fss": ("lead_time", "threshold_mm_h", "window_pixels"),
}
"""Scores that tables show where they are there, and their axes."""

MEMBER_AXES = frozenset({"rank", "probability"})
"""Axes whose values depend on how many members an ensemble has."""


class Bounds(TypedDict):
    """An interval of a score, numbers or nested lists of them."""

    low: Any
    high: Any


class EventScores(TypedDict):
    """Scores of one method in one event."""

    clips: int
    mean: dict[str, Any]


class MethodScores(TypedDict):
    """Scores of one method."""

    clips: int
    members: int
    replaced: dict[str, int]
    coordinates: dict[str, list[float]]
    per_lead: dict[str, list[Any]]
    mean: dict[str, Any]
    interval: dict[str, Bounds]
    per_lead_interval: dict[str, Bounds]
    by_event: dict[str, EventScores]


class ScoreDifference(TypedDict):
    """What a paired test has found of one score, numbers or nested lists of them."""

    difference: Any
    low: Any
    high: Any
    p_value: Any


class Difference(TypedDict):
    """Scores of one method minus those of another on the same clips."""

    method: str
    reference: str
    scores: dict[str, ScoreDifference]


class Resampling(TypedDict):
    """What intervals and p values rest on."""

    events: int
    resamples: int
    seed: int
    level: float
    why_none: str | None


class Report(TypedDict):
    """Scores of several methods on the same clips, with what is needed to make them again."""

    format: int
    settings: dict[str, Any]
    commit: str | None
    versions: dict[str, str]
    lead_minutes: list[float]
    thresholds_mm_h: list[float]
    dimensions: dict[str, list[str]]
    coordinates: dict[str, list[float]]
    resampling: Resampling
    methods: dict[str, MethodScores]
    differences: list[Difference]


def coordinates_of(report: Report, method: str, score: str) -> dict[str, list[float]]:
    """Values along the axes of a score, by axis, the lead time (in minutes) first."""
    every = {
        "lead_time": report["lead_minutes"],
        **report["coordinates"],
        **report["methods"][method]["coordinates"],
    }
    return {axis: every[axis] for axis in report["dimensions"][score]}


def on_one_line(text: str, longest: int) -> str:
    """Text without line breaks and what else a terminal might obey, shortened."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    flat = " ".join(flat.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them; of a path only the name is kept."""
    return {str(name): _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, Mapping):
        return plain_settings(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
