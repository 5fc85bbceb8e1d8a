"""Curves: scores by lead time from a score report, and learning curves."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nowcast.errors import InputError
from nowcast.rendering.figure import LINE_COLOURS, head, legend, new_figure, save, styles

ERRORS = {
    "balanced_mse": "B-MSE (sum per frame)",
    "balanced_mae": "B-MAE (sum per frame)",
}
FURTHER_ERRORS = {
    "balanced_mse_mae": "B-MSE + B-MAE (sum per frame)",
    "rmse_mm_h": "RMSE (mm/h)",
    "crps_mm_h": "CRPS, of single forecasts MAE (mm/h)",
}
"""Errors that are drawn where a method has them."""

STANDS_FOR = {"crps_mm_h": "mae_mm_h"}
"""What a score is of a method that lacks it: the CRPS of a single forecast is its MAE."""

LOGARITHMIC = "loss", "gradient_norm"
"""Ends of the names of quantities whose learning curves are drawn on a logarithmic axis."""

SMOOTHED_FROM_VALUES = 100
BAND_ALPHA = 0.14

Curve = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Values by lead time, and the bounds of their intervals where there are any."""


def write_score_curves(
    path: str | os.PathLike[str], report: Mapping[str, Any], *, title: str = ""
) -> None:
    """Plot scores by lead time, a line per method, as PNG, with intervals as bands around them.

    CSI at every threshold, B-MSE and B-MAE; their sum, RMSE in mm/h and CRPS where a method has
    them. Lead times at which a score is undefined leave a gap.

    Args:
        path: the file to write.
        report: `lead_minutes`, `thresholds_mm_h` and, under `methods` by name, `per_lead` with
            `csi` (time, threshold), `balanced_mse` and `balanced_mae` (time,), and what else there
            is to draw; NaN or None where undefined. A method may have `per_lead_interval`: by
            score, `low` and `high` of the same shapes; `resampling` says their `level`.
        title: a headline.

    Raises:
        InputError: a score is missing or of another shape.
    """
    lead_minutes = np.asarray(report["lead_minutes"], float)
    thresholds = report["thresholds_mm_h"]
    methods = report["methods"]
    if not methods:
        raise InputError("score curves: found no methods, expected at least one")
    further = {
        score: heading
        for score, heading in FURTHER_ERRORS.items()
        if any(score in scores["per_lead"] for scores in methods.values())
    }
    shape = (len(lead_minutes),)
    # By field and method; what only some methods have is drawn of those.
    fields: dict[str, list[Curve | None]] = {}
    for index, rate in enumerate(thresholds):
        fields[f"CSI, rain ≥ {rate:g} mm/h"] = [
            _curve(name, scores, "csi", (*shape, len(thresholds)), index)
            for name, scores in methods.items()
        ]
    for score, heading in (ERRORS | further).items():
        fields[heading] = []
        for name, scores in methods.items():
            there = score in scores["per_lead"] or score in ERRORS
            own = score if there else STANDS_FOR.get(score, score)
            drawn = there or own in scores["per_lead"]
            fields[heading].append(_curve(name, scores, own, shape) if drawn else None)
    if any(scores.get("per_lead_interval") for scores in methods.values()):
        title = with_bands(title, report)
    figure, axes = new_figure(len(fields), title)
    for index, (axis, (heading, curves)) in enumerate(zip(axes, fields.items(), strict=True)):
        head(axis, heading)
        _draw_curves(axis, lead_minutes, curves)
        if index < len(thresholds):
            axis.set_ylim(top=max(0.1, min(1.0, axis.get_ylim()[1])))
    legend(figure, list(methods), styles(len(methods)))
    save(path, figure)


def with_bands(title: str, report: Mapping[str, Any]) -> str:
    """A headline that says what the bands are; their level is under `resampling` in the report."""
    level = report.get("resampling", {}).get("level")
    bands = "intervals" if level is None else f"{100 * level:g} % intervals"
    return f"{title} (bands: {bands})" if title else f"Bands: {bands}"


def _curve(
    name: str,
    scores: Mapping[str, Any],
    score: str,
    shape: tuple[int, ...],
    threshold: int | None = None,
) -> Curve:
    """One score of one method, checked."""
    found = [scores["per_lead"].get(score, ())]
    bounds = scores.get("per_lead_interval", {}).get(score)
    found += [] if bounds is None else [bounds["low"], bounds["high"]]
    curve = []
    for values in found:
        values = np.asarray(values, float)
        if values.shape != shape:
            raise InputError(f"{score} of {name}: found shape {values.shape}, expected {shape}")
        curve.append(values if threshold is None else values[:, threshold])
    return (curve[0], curve[1], curve[2]) if len(curve) == 3 else (curve[0], None, None)


def _draw_curves(axis: Axes, at: np.ndarray, curves: Sequence[Curve | None]) -> None:
    marker = "o" if len(at) < 3 else ""
    for style, curve in zip(styles(len(curves)), curves, strict=True):
        if curve is None:
            continue
        values, low, high = curve
        if low is not None and high is not None:
            axis.fill_between(
                at, low, high, color=style["color"], alpha=BAND_ALPHA, linewidth=0, zorder=1.5
            )
        axis.plot(at, values, marker=marker, **style)
    axis.set_xlabel("lead time (min)")
    axis.set_xlim(0, at[-1] * 1.02)
    axis.set_ylim(bottom=0)
    if not any(curve is not None and np.isfinite(curve[0]).any() for curve in curves):
        axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center", color="0.4")


def write_learning_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
) -> None:
    """Plot learning curves as PNG: one field per quantity, training and validation together.

    Losses and gradient norms are drawn on a logarithmic axis. Of a curve with many values, their
    running mean is drawn over them.

    Args:
        path: the file to write.
        curves: steps and values by name; `train_loss` and `valid_loss` share a field, and so do
            other names that differ by the prefix `train_` or `valid_` only, and those that differ
            by what follows a slash only, such as a layer. NaN values are left out.
        title: a headline.

    Raises:
        InputError: nothing to draw, or steps and values differ in number.
    """
    quantities: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, (steps, values) in curves.items():
        at, of = np.asarray(steps, float), np.asarray(values, float)
        if at.ndim != 1 or at.shape != of.shape:
            raise InputError(
                f"learning curve {name}: found {at.shape} steps and {of.shape} values, "
                "expected as many of each"
            )
        defined = np.isfinite(at) & np.isfinite(of)
        part, _, quantity = name.partition("_")
        if part not in ("train", "valid") or not quantity:
            quantity, _, part = name.partition("/")
        if defined.any():
            quantities.setdefault(quantity, {})[part] = (at[defined], of[defined])
    if not quantities:
        raise InputError("learning curves: found no finite values, expected at least one")
    figure, axes = new_figure(len(quantities), title, columns=2)
    for axis, (quantity, parts) in zip(axes, quantities.items(), strict=True):
        head(axis, quantity)
        for number, (part, (at, of)) in enumerate(parts.items()):
            place = {"train": 0, "valid": 1}.get(part, number)
            _learning_curve(axis, at, of, part, LINE_COLOURS[place % len(LINE_COLOURS)])
        axis.set_xlabel("step")
        if quantity.endswith(LOGARITHMIC) and all((of > 0).all() for _, of in parts.values()):
            axis.set_yscale("log")
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        if list(parts) != [""]:
            axis.legend(frameon=False, fontsize="medium" if len(parts) < 3 else "xx-small")
    save(path, figure)


def _learning_curve(axis: Axes, at: np.ndarray, of: np.ndarray, label: str, colour: str) -> None:
    marker = "o" if len(at) < 30 else ""
    if len(at) < SMOOTHED_FROM_VALUES:
        axis.plot(at, of, color=colour, label=label, marker=marker, markersize=3.5)
        return
    axis.plot(at, of, color=colour, alpha=0.25, linewidth=0.7)
    window = len(at) // 40
    sums = np.concatenate([[0.0], np.cumsum(of)])
    first = np.maximum(np.arange(len(of)) - window, 0)
    last = np.minimum(np.arange(len(of)) + window + 1, len(of))
    mean = (sums[last] - sums[first]) / (last - first)
    axis.plot(at, mean, color=colour, linewidth=1.6, label=f"{label}, running mean")
