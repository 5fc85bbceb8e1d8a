"""Reports of several evaluations put side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nowcast.errors import InputError
from nowcast.verification.report_contents import (
    BESIDE,
    MEMBER_AXES,
    Difference,
    MethodScores,
    Report,
    on_one_line,
    plain_settings,
)

COMPARABLE_SETTINGS = (
    *("split", "region", "step_minutes"),
    *("frame_shape", "fingerprint", "stride", "at_most", "input_frames"),
)
"""Settings that decide which pixels of which clips are scored; a report may lack some. The protocol
is not among them: what a network scores when it learns on the way is to be compared with what it
scores when it does not."""

LONGEST_VALUE = 80


@dataclass(frozen=True)
class Scope:
    """What decides whether the scores of two evaluations can be compared.

    Attributes:
        settings: those of the report; what `COMPARABLE_SETTINGS` names is looked at.
        lead_minutes: lead times.
        thresholds_mm_h: thresholds of the benchmark's scores.
        clips: number of clips.
        coordinates: values along the axes of all scores, by axis; axes that only one of two has,
            and those that depend on the number of members, are not looked at.
    """

    settings: Mapping[str, Any]
    lead_minutes: Sequence[float]
    thresholds_mm_h: Sequence[float]
    clips: int
    coordinates: Mapping[str, Sequence[float]]


def scope_of(report: Report) -> Scope:
    """What the methods of a report were scored on."""
    clips = next(scores["clips"] for scores in report["methods"].values())
    return Scope(
        report["settings"],
        report["lead_minutes"],
        report["thresholds_mm_h"],
        clips,
        report["coordinates"],
    )


def side_by_side(reports: Mapping[str, Report]) -> Report:
    """One report of all methods of several reports.

    A method that several reports hold is named "method (label)" from the second on; if its scores
    are the same to nine digits (persistence on the same clips, say) it appears once. Intervals are
    kept, and so are differences: those between methods of the same report.

    Args:
        reports: reports by label; the first one's settings, commit, versions and resampling are
            kept. Its settings get `beside`: of each further one the rows that are its own, and what
            of these differs, by label.

    Raises:
        InputError: the reports differ in lead times, thresholds or other axes, number of clips or
            what decides which clips they are, so that their numbers cannot be compared.
    """
    first_label, first = next(iter(reports.items()))
    methods: dict[str, MethodScores] = {}
    found: dict[tuple[str, str], str] = {}
    differences: list[Difference] = []
    dimensions, coordinates = dict(first["dimensions"]), dict(first["coordinates"])
    earlier = first["settings"].get(BESIDE)
    beside = dict(earlier) if isinstance(earlier, Mapping) else {}
    for label, report in reports.items():
        check_comparable(first_label, scope_of(first), {label: report})
        _join(dimensions, report["dimensions"], f"{label}: not comparable with {first_label}")
        _join(coordinates, report["coordinates"], f"{label}: not comparable with {first_label}")
        shown, before = {}, list(methods)
        for name, scores in report["methods"].items():
            text = json.dumps(_rounded(scores))
            if (name, text) not in found:
                found[name, text] = name if name not in methods else _free(name, label, methods)
                methods[found[name, text]] = scores
            shown[name] = found[name, text]
        if label != first_label:
            own = [name for name in methods if name not in before]
            beside[label] = {"methods": own, **_differing(report, first)}
        for one in report["differences"]:
            renamed: Difference = {
                **one,
                "method": shown[one["method"]],
                "reference": shown[one["reference"]],
            }
            pairs = [(there["method"], there["reference"]) for there in differences]
            if (renamed["method"], renamed["reference"]) not in pairs:
                differences.append(renamed)
    return {
        **first,
        "settings": {**first["settings"], **({BESIDE: beside} if beside else {})},
        "dimensions": dimensions,
        "coordinates": coordinates,
        "methods": methods,
        "differences": differences,
    }


def check_comparable(label: str, scope: Scope, reports: Mapping[str, Report]) -> None:
    """Refuse reports whose numbers cannot be compared with those of an evaluation.

    Args:
        label: what the evaluation is called.
        scope: what it scores, or is going to score.
        reports: reports by label.

    Raises:
        InputError: a report differs in lead times, thresholds, windows or other axes, number of
            clips or what decides which clips they are.
    """
    expected = _compared(scope)
    for other, report in reports.items():
        found = _compared(scope_of(report))
        for what, mine in expected.items():
            if what in found and found[what] != mine:
                theirs = on_one_line(str(found[what]), LONGEST_VALUE)
                raise InputError(
                    f"{other}: not comparable with {label}: {what} {theirs}, "
                    f"not {on_one_line(str(mine), LONGEST_VALUE)}"
                )


def _compared(scope: Scope) -> dict[str, Any]:
    settings = plain_settings(scope.settings)
    return {
        "lead times": list(scope.lead_minutes),
        "thresholds": list(scope.thresholds_mm_h),
        "clips": scope.clips,
        **{name: settings.get(name) for name in COMPARABLE_SETTINGS},
        **{
            axis: list(values)
            for axis, values in scope.coordinates.items()
            if axis not in MEMBER_AXES
        },
    }


def _differing(report: Report, first: Report) -> dict[str, Any]:
    """What of a report's settings, commit, versions and resampling is not as in the first."""
    expected = first["settings"]
    settings = {
        name: value
        for name, value in report["settings"].items()
        if name not in expected or expected[name] != value
    }
    pairs = {
        "commit": (report["commit"], first["commit"]),
        "versions": (report["versions"], first["versions"]),
        "resampling": (report["resampling"], first["resampling"]),
    }
    return settings | {name: mine for name, (mine, other) in pairs.items() if mine != other}


def _join(mine: dict[str, Any], theirs: Mapping[str, Any], refusal: str) -> None:
    """Add what is not there yet; what is there has to be the same."""
    for name, values in theirs.items():
        if mine.setdefault(name, values) != values:
            raise InputError(f"{refusal}: {name} {values!s:.60}, not {mine[name]!s:.60}")


def _free(name: str, label: str, taken: Mapping[str, Any]) -> str:
    """A name that tells a method of a report from those of the others."""
    shown = f"{name} ({label})"
    number = 2
    while shown in taken:
        shown = f"{name} ({label}, {number})"
        number += 1
    return shown


def _rounded(value: Any) -> Any:
    """Numbers to nine digits: sums over the same clips in another order differ by less."""
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return f"{value:.9g}" if isinstance(value, float) else value
