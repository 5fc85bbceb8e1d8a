"""Reliability: how often thresholds are forecast to be reached, and how far to trust ensembles."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from nowcast.errors import InputError
from nowcast.rendering.curves import with_bands
from nowcast.rendering.figure import head, legend, new_sections, save, styles

REFERENCE: dict[str, Any] = {"color": "0.4", "linestyle": (0, (4, 2)), "linewidth": 1.1}
LEAD_TIMES_SHOWN = 3
LARGEST_BIAS_SHOWN = 100.0


def write_reliability(
    path: str | os.PathLike[str], report: Mapping[str, Any], *, title: str = ""
) -> None:
    """Plot how reliable forecasts are, as PNG.

    Of all methods, the frequency bias by threshold: how often a rain rate is forecast to be reached
    for each time that it is, averaged over lead times and at some of them; a triangle on the lower
    edge says that it is hardly ever or never. Of ensembles, for each threshold how often it is
    reached where a probability was forecast, on the diagonal if the probabilities are right, and
    below that how often each was forecast; and the rank histogram, flat if the observation is like
    one more member. Both of all lead times together.

    Args:
        path: the file to write.
        report: `lead_minutes`, `thresholds_mm_h` and, under `methods` by name, `mean` and
            `per_lead` with `frequency_bias`; a method may have `interval`, and an ensemble has in
            `per_lead` `forecast_count` and `observed_frequency` (time, threshold, probability) and
            `rank_histogram` (time, rank), and in `coordinates` `probability`. NaN or None where
            undefined.
        title: a headline.

    Raises:
        InputError: no methods, or a score is of another shape.
    """
    methods = report["methods"]
    if not methods:
        raise InputError("reliability: found no methods, expected at least one")
    lead_minutes, thresholds = report["lead_minutes"], report["thresholds_mm_h"]
    _check(report)
    drawn = dict(zip(methods, styles(len(methods)), strict=True))
    ensembles = [name for name in methods if "forecast_count" in methods[name]["per_lead"]]
    places = np.linspace(0, len(lead_minutes) - 1, LEAD_TIMES_SHOWN)
    leads = sorted({round(place) for place in places})
    sections = {"Frequency bias: forecast as often as observed at 1": 1 + len(leads)}
    columns = max(len(thresholds), 1 + len(leads)) if ensembles else 1 + len(leads)
    if ensembles:
        sections["Ensembles: observed frequency and number of pixels by forecast probability"] = (
            2 * columns
        )
        sections["Ensembles: rank histogram, flat where the observation is like a member"] = (
            columns * -(-len(ensembles) // columns)
        )
    if any("frequency_bias" in scores.get("interval", {}) for scores in methods.values()):
        title = with_bands(title, report)
    figure, parts = new_sections(list(sections), list(sections.values()), title, columns)
    _draw_bias(*parts[0], report, leads, drawn)
    if ensembles:
        section, axes = parts[1]
        above, below = axes[:columns], axes[columns:]
        _draw_reliability(section, above, below, report, ensembles, drawn)
        for axis, name in zip(parts[2][1], ensembles, strict=False):
            _draw_ranks(axis, name, methods[name]["per_lead"]["rank_histogram"], drawn[name])
        unused = above[len(thresholds) :], below[len(thresholds) :], parts[2][1][len(ensembles) :]
        for axis in itertools.chain(*unused):
            axis.set_axis_off()
    save(path, figure)


def _check(report: Mapping[str, Any]) -> None:
    times, rates = len(report["lead_minutes"]), len(report["thresholds_mm_h"])
    for name, scores in report["methods"].items():
        expected: dict[str, tuple[int, ...]] = {"frequency_bias": (times, rates)}
        if "forecast_count" in scores["per_lead"]:
            probabilities = len(scores["coordinates"]["probability"])
            for score in ("forecast_count", "observed_frequency"):
                expected[score] = (times, rates, probabilities)
            expected["rank_histogram"] = (times, probabilities)
        for score, shape in expected.items():
            found = np.shape(scores["per_lead"].get(score, ()))
            if found != shape:
                raise InputError(f"{score} of {name}: found shape {found}, expected {shape}")


def _draw_bias(
    section: FigureBase,
    axes: Sequence[Axes],
    report: Mapping[str, Any],
    leads: Sequence[int],
    drawn: Mapping[str, dict[str, Any]],
) -> None:
    thresholds = np.asarray(report["thresholds_mm_h"], float)
    headings = [f"+{report['lead_minutes'][lead]:g} min" for lead in leads]
    seen, lines = [], []
    for axis, heading in zip(axes, ["mean over lead times", *headings], strict=True):
        head(axis, heading)
        axis.axhline(1.0, **REFERENCE)
        axis.set_xlabel("threshold (mm/h)")
    for name, scores in report["methods"].items():
        bounds = scores.get("interval", {}).get("frequency_bias")
        if bounds is not None:
            low, high = (np.asarray(bounds[end], float) for end in ("low", "high"))
            axes[0].fill_between(
                thresholds, low, high, color=drawn[name]["color"], alpha=0.14, linewidth=0
            )
        per_lead = np.asarray(scores["per_lead"]["frequency_bias"], float)
        values = [scores["mean"]["frequency_bias"], *(per_lead[lead] for lead in leads)]
        for axis, of in zip(axes, np.asarray(values, float), strict=True):
            axis.plot(thresholds, of, marker="o", markersize=4, **drawn[name])
            seen += [value for value in of if value > 0]
            lines.append((axis, of, drawn[name]["color"]))
    lowest = max(min([0.5, *seen]), 1 / LARGEST_BIAS_SHOWN)
    highest = min(max([2.0, *seen]), LARGEST_BIAS_SHOWN)
    for axis in axes:
        _logarithmic(axis, "x", thresholds)
        _logarithmic(axis, "y")
        axis.set_ylim(lowest / 1.15, highest * 1.15)
    for axis, of, colour in lines:
        # An event that is never, or hardly ever, forecast has no place on a logarithmic axis.
        under = of < lowest
        edge = np.full(under.sum(), lowest / 1.15)
        axis.scatter(thresholds[under], edge, marker="v", color=colour, clip_on=False, zorder=3)
    axes[0].set_ylabel("forecast / observed")
    legend(section, list(drawn), list(drawn.values()))


def _draw_reliability(
    section: FigureBase,
    above: Sequence[Axes],
    below: Sequence[Axes],
    report: Mapping[str, Any],
    ensembles: Sequence[str],
    drawn: Mapping[str, dict[str, Any]],
) -> None:
    thresholds = report["thresholds_mm_h"]
    for place, rate in enumerate(thresholds):
        head(above[place], f"rain ≥ {rate:g} mm/h")
        above[place].plot([0, 1], [0, 1], **REFERENCE)
        for name in ensembles:
            probability, count, observed = _pooled(report["methods"][name], place)
            ever = count > 0
            above[place].plot(
                probability[ever], observed[ever], marker="o", markersize=4, **drawn[name]
            )
            below[place].plot(probability, count, marker="o", markersize=4, **drawn[name])
            share = np.nansum(count * np.nan_to_num(observed)) / max(count.sum(), 1)
            above[place].axhline(share, color="0.6", linestyle=":", linewidth=1.2)
        above[place].set_xlim(-0.02, 1.02)
        above[place].set_ylim(-0.02, 1.02)
        below[place].set_xlim(-0.02, 1.02)
        below[place].set_yscale("log", nonpositive="mask")
        below[place].set_xlabel("forecast probability")
    lowest, highest = zip(*(axis.get_ylim() for axis in below[: len(thresholds)]), strict=True)
    for axis in below[: len(thresholds)]:
        axis.set_ylim(min(lowest), max(highest))
    above[0].set_ylabel("observed frequency")
    below[0].set_ylabel("pixels")
    lines = {name: drawn[name] for name in ensembles} | {
        "as it should be": REFERENCE,
        "how often it is observed": {"color": "0.6", "linestyle": ":", "linewidth": 1.2},
    }
    legend(section, list(lines), list(lines.values()))


def _pooled(scores: Mapping[str, Any], place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, how many pixels had each, and how often the event came, of all lead times."""
    counts = np.asarray(scores["per_lead"]["forecast_count"], float)[:, place]
    observed = np.asarray(scores["per_lead"]["observed_frequency"], float)[:, place]
    total = counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        share = np.nansum(counts * np.nan_to_num(observed), axis=0) / total
    return np.asarray(scores["coordinates"]["probability"], float), total, share


def _draw_ranks(axis: Axes, name: str, histogram: Any, style: Mapping[str, Any]) -> None:
    head(axis, name)
    counts = np.asarray(histogram, float).sum(axis=0)
    total = counts.sum()
    if total > 0:
        axis.bar(range(len(counts)), counts / total * len(counts), color=style["color"], width=0.9)
    axis.axhline(1.0, **REFERENCE)
    axis.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axis.set_xlabel("members below the observation")
    axis.set_ylabel("relative to flat")


def _logarithmic(axis: Axes, which: str, ticks: np.ndarray | None = None) -> None:
    """A logarithmic axis with plain numbers on it."""
    (axis.set_xscale if which == "x" else axis.set_yscale)("log", nonpositive="mask")
    scale = axis.xaxis if which == "x" else axis.yaxis
    if ticks is None:
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        scale.set_ticks(ticks)
    scale.set_minor_locator(NullLocator())
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
