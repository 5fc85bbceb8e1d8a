"""Reports of scores: JSON, CSV and a table for the terminal. Plots are drawn elsewhere.

A report is a plain mapping, the same in memory and in the JSON file: `settings` (what was scored
and how), `commit`, `versions`, `lead_minutes`, `thresholds_mm_h`, and under `methods` for every
method `clips`, `per_lead` (score → values by lead time, and by threshold within) and `mean` (the
same averaged over lead times, undefined values left out). Undefined values are NaN in memory and
null in the file.
"""

import csv
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict, cast

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.verification.scores import COUNT_NAMES, SKILL_NAMES, Scores

THRESHOLD_SCORES = (*COUNT_NAMES, *SKILL_NAMES)
COMPARABLE_SETTINGS = (
    *("protocol", "split", "step_minutes"),
    *("frame_shape", "fingerprint", "stride", "at_most", "input_frames"),
)
GIT_TIMEOUT_S = 5.0


class MethodScores(TypedDict):
    """Scores of one method."""

    clips: int
    per_lead: dict[str, list[Any]]
    mean: dict[str, Any]


class Report(TypedDict):
    """Scores of several methods on the same clips, with what is needed to make them again."""

    settings: dict[str, Any]
    commit: str | None
    versions: dict[str, str]
    lead_minutes: list[float]
    thresholds_mm_h: list[float]
    methods: dict[str, MethodScores]


def make_report(scores: Mapping[str, Scores], settings: Mapping[str, Any]) -> Report:
    """Gather scores into a report.

    Args:
        scores: accumulators by method; all of the same lead times and thresholds.
        settings: `step_minutes` (minutes between frames) and whatever else names the evaluation:
            protocol, split, store and its fingerprint, checkpoints. Of a path only the name is
            kept.

    Raises:
        InputError: no methods, `step_minutes` is missing or not positive, or lead times or
            thresholds differ.
    """
    if not scores:
        raise InputError("report: found no methods, expected at least one")
    step_minutes = settings.get("step_minutes")
    if not isinstance(step_minutes, int | float) or not step_minutes > 0:
        raise InputError(f"report settings: found step_minutes {step_minutes}, expected minutes")
    kinds = {(one.lead_times, one.thresholds_mm_h) for one in scores.values()}
    if len(kinds) > 1:
        raise InputError(f"report: found methods of different lead times or thresholds: {kinds}")
    lead_times, thresholds_mm_h = kinds.pop()
    return {
        "settings": {name: _plain(value) for name, value in settings.items()},
        "commit": _commit(),
        "versions": _versions(),
        "lead_minutes": [step_minutes * (index + 1) for index in range(lead_times)],
        "thresholds_mm_h": list(thresholds_mm_h),
        "methods": {
            name: {
                "clips": one.clips,
                "per_lead": {key: values.tolist() for key, values in one.compute().items()},
                "mean": {key: value.tolist() for key, value in one.summary().items()},
            }
            for name, one in scores.items()
        },
    }


def write_json(path: str | os.PathLike[str], report: Report) -> None:
    """Write a report as JSON."""
    text = json.dumps(_swapped(report, _nan_to_none), indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Report:
    """Read a report that `write_json` wrote.

    Raises:
        InputError: the file is missing or not such a report.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: cannot be read as a score report: {problem}") from None
    expected = Report.__required_keys__
    if not isinstance(found, dict) or not expected <= found.keys():
        missing = sorted(expected - set(found if isinstance(found, dict) else ()))
        raise InputError(f"{path}: not a score report: found no {', '.join(missing)}")
    for name in ("settings", "versions", "methods"):
        if not isinstance(found[name], dict):
            raise InputError(f"{path}: {name}: found {_named(found[name])}, expected a mapping")
    for name in ("lead_minutes", "thresholds_mm_h"):
        if not found[name] or not _is_nested(found[name], None):
            raise InputError(f"{path}: {name}: found {_named(found[name])}, expected numbers")
    if not found["methods"]:
        raise InputError(f"{path}: found no methods, expected at least one")
    # Only scores go through NaN; a setting that is null stays None.
    report = cast(Report, found | {"methods": _swapped(found["methods"], _none_to_nan)})
    for name, scores in report["methods"].items():
        _check_scores(f"{path}: {name}", scores, report)
    return report


def _check_scores(where: str, scores: Any, report: Report) -> None:
    """Refuse scores of a method that are not of the kind that `make_report` gives."""
    keys = sorted(MethodScores.__required_keys__)
    if not isinstance(scores, dict) or not set(keys) <= scores.keys():
        raise InputError(f"{where}: found {_named(scores)}, expected {', '.join(keys)}")
    if not isinstance(scores["clips"], int):
        raise InputError(f"{where}: clips: found {_named(scores['clips'])}, expected a number")
    lead_times, rates = len(report["lead_minutes"]), len(report["thresholds_mm_h"])
    expected = Scores(1).compute().keys()
    for kind, names in (("per_lead", expected), ("mean", expected - set(COUNT_NAMES))):
        if not isinstance(scores[kind], dict) or not names <= scores[kind].keys():
            raise InputError(f"{where}: {kind}: found {_named(scores[kind])}, expected all scores")
        for name, values in scores[kind].items():
            shape = (lead_times,) if kind == "per_lead" else ()
            shape = (*shape, rates) if name in THRESHOLD_SCORES else shape
            if not _is_nested(values, *shape):
                text = " × ".join(map(str, shape)) or "one"
                raise InputError(
                    f"{where}: {kind}: {name}: found {_named(values)}, expected {text} numbers"
                )


def _named(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    return f"{value!r:.40}"


def _is_nested(values: Any, *shape: int | None) -> bool:
    """Whether these are numbers in lists within lists of these lengths; None is any length."""
    if not shape:
        return isinstance(values, int | float) and not isinstance(values, bool)
    fits = isinstance(values, list) and shape[0] in (None, len(values))
    return fits and all(_is_nested(one, *shape[1:]) for one in values)


def write_csv(path: str | os.PathLike[str], report: Report) -> None:
    """Write per-lead-time scores in long form, a row per method, lead time, score and threshold.

    Columns: method, lead_minutes, score, threshold_mm_h (empty for scores without one), value
    (empty where undefined).
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("method", "lead_minutes", "score", "threshold_mm_h", "value"))
        for method, scores in report["methods"].items():
            for score, by_lead in scores["per_lead"].items():
                for lead_minutes, values in zip(report["lead_minutes"], by_lead, strict=True):
                    if score not in THRESHOLD_SCORES:
                        writer.writerow((method, lead_minutes, score, "", _nan_to_empty(values)))
                        continue
                    for rate, value in zip(report["thresholds_mm_h"], values, strict=True):
                        writer.writerow((method, lead_minutes, score, rate, _nan_to_empty(value)))


def side_by_side(reports: Mapping[str, Report]) -> Report:
    """One report of all methods of several reports.

    A method that several reports hold is named "method (label)" from the second on; if its scores
    are the same (persistence on the same clips, say) it appears once.

    Args:
        reports: reports by label, the first one's settings, commit and versions are kept.

    Raises:
        InputError: the reports differ in lead times, thresholds, number of clips or what decides
            which clips they are, so that their numbers cannot be compared.
    """
    first_label, first = next(iter(reports.items()))
    methods: dict[str, MethodScores] = {}
    for label, report in reports.items():
        for what, found, expected in zip(
            ("lead times", "thresholds", "clips", *COMPARABLE_SETTINGS),
            _comparable(report),
            _comparable(first),
            strict=True,
        ):
            if found != expected:
                raise InputError(
                    f"{label}: not comparable with {first_label}: {what} {found}, not {expected}"
                )
        for name, scores in report["methods"].items():
            if name not in methods:
                methods[name] = scores
            elif json.dumps(scores) != json.dumps(methods[name]):
                methods[f"{name} ({label})"] = scores
    return {**first, "methods": methods}


def _comparable(report: Report) -> tuple[Any, ...]:
    clips = sorted({scores["clips"] for scores in report["methods"].values()})
    settings = [report["settings"].get(name) for name in COMPARABLE_SETTINGS]
    return (report["lead_minutes"], report["thresholds_mm_h"], clips, *settings)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _swapped(value: Any, swap: Any) -> Any:
    """The same nest of mappings and lists with `swap` applied to every leaf."""
    if isinstance(value, Mapping):
        return {key: _swapped(one, swap) for key, one in value.items()}
    if isinstance(value, list):
        return [_swapped(one, swap) for one in value]
    return swap(value)


def _nan_to_none(value: Any) -> Any:
    return None if value != value else value


def _none_to_nan(value: Any) -> Any:
    return float("nan") if value is None else value


def _nan_to_empty(value: Any) -> Any:
    return "" if value != value else value


def _commit() -> str | None:
    """Commit of the checkout that this package runs from, "-dirty" if changed; None elsewhere."""
    folder = Path(__file__).parent
    answers = []
    for arguments in (
        ("ls-files", "--error-unmatch", Path(__file__).name),
        ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    ):
        try:
            answer = subprocess.run(
                ("git", "-C", str(folder), *arguments),
                capture_output=True,
                text=True,
                timeout=GIT_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(answer.stdout.strip())
    return answers[-1]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("nowcast", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
