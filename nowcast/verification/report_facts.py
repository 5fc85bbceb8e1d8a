"""What a report says of itself in words: what was scored and how, what its intervals rest on."""

from typing import Any

from nowcast.verification.report_contents import BESIDE, Report


def resting_on(report: Report) -> str:
    """What the intervals and p values of a report rest on, or why there are none."""
    resampling = report["resampling"]
    if resampling["why_none"] is not None:
        return f"no intervals: {resampling['why_none']}"
    return (
        f"{100 * resampling['level']:g} % intervals from {resampling['resamples']:,} resamples of "
        f"{resampling['events']:,} events; p two-sided, by swapping methods event by event"
    )


def reading(report: Report) -> list[str]:
    """How to read a table of scores: what was averaged, what intervals rest on, and which methods'
    forecasts are in part those of another."""
    minutes = report["lead_minutes"]
    return [
        f"Mean over {len(minutes)} lead times (+{minutes[0]:g} to +{minutes[-1]:g} min), undefined "
        "ones (–) left out; thresholds in mm/h",
        resting_on(report),
        *(
            f"{name}: scores of the mean rain rate of its {one['members']} members"
            for name, one in report["methods"].items()
            if one["members"] > 1
        ),
        *(
            f"{name}: {count:,} of {one['clips']:,} clips replaced: {reason}"
            for name, one in report["methods"].items()
            for reason, count in one["replaced"].items()
        ),
    ]


def facts(report: Report) -> dict[str, str]:
    """What was scored and how, for people: names and values."""
    first = next(iter(report["methods"].values()))
    minutes = report["lead_minutes"]
    members = {name: one["members"] for name, one in report["methods"].items()}
    found = {
        **{
            name.replace("_", " "): _described(value)
            for name, value in report["settings"].items()
            if value not in (None, {}, []) and name != BESIDE
        },
        "clips": f"{first['clips']:,}",
        "events": f"{len(first['by_event']):,}",
        "lead times": f"{len(minutes)}, +{minutes[0]:g} to +{minutes[-1]:g} min",
        "thresholds": ", ".join(f"{rate:g}" for rate in report["thresholds_mm_h"]) + " mm/h",
        "ensembles": ", ".join(f"{name}: {n} members" for name, n in members.items() if n > 1),
        "commit": report["commit"] or "",
        "versions": _described(report["versions"]),
        **_beside(report),
    }
    return {name: value for name, value in found.items() if value}


def _beside(report: Report) -> dict[str, str]:
    """Where the rows of each further report come from, where there are several."""
    others = report["settings"].get(BESIDE)
    if not isinstance(others, dict):
        return {}
    return {f"{BESIDE}: {label}": _described(one) for label, one in others.items()}


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{name}: {_described(one)}" for name, one in value.items() if one is not None
        )
    if isinstance(value, list):
        return ", ".join(_described(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
