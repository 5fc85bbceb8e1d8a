"""Curves: scores by lead time from a score report, and learning curves."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nowcast.errors import InputError
from nowcast.rendering.figure import LINE_COLOURS, head, legend, new_figure, save, styles

ERROR_AXES = {"balanced_mse": "B-MSE (sum per frame)", "balanced_mae": "B-MAE (sum per frame)"}
SMOOTHED_FROM_VALUES = 100


def write_score_curves(
    path: str | os.PathLike[str], report: Mapping[str, Any], *, title: str = ""
) -> None:
    """Plot CSI at every threshold, B-MSE and B-MAE by lead time, a line per method, as PNG.

    Lead times at which a score is undefined leave a gap.

    Args:
        path: the file to write.
        report: `lead_minutes`, `thresholds_mm_h` and, under `methods` by name, `per_lead` with
            `csi` (time, threshold), `balanced_mse` and `balanced_mae` (time,); NaN or None where
            undefined.
        title: a headline.

    Raises:
        InputError: a score is missing or of another shape.
    """
    lead_minutes = np.asarray(report["lead_minutes"], float)
    thresholds = report["thresholds_mm_h"]
    lines = {
        name: _checked_lines(name, scores["per_lead"], len(lead_minutes), len(thresholds))
        for name, scores in report["methods"].items()
    }
    if not lines:
        raise InputError("score curves: found no methods, expected at least one")
    count = len(thresholds) + len(ERROR_AXES)
    figure, axes = new_figure(count, title)
    headings = [f"CSI, rain ≥ {rate:g} mm/h" for rate in thresholds] + list(ERROR_AXES.values())
    marker = "o" if len(lead_minutes) < 3 else ""
    for index, (axis, heading) in enumerate(zip(axes, headings, strict=True)):
        head(axis, heading)
        for style, values in zip(styles(len(lines)), lines.values(), strict=True):
            axis.plot(lead_minutes, values[index], marker=marker, **style)
        axis.set_xlabel("lead time (min)")
        axis.set_xlim(0, lead_minutes[-1] * 1.02)
        axis.set_ylim(bottom=0)
        if not any(np.isfinite(values[index]).any() for values in lines.values()):
            axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center", color="0.4")
        if index < len(thresholds):
            axis.set_ylim(top=max(0.1, min(1.0, axis.get_ylim()[1])))
    legend(figure, list(lines), styles(len(lines)))
    save(path, figure)


def write_learning_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
) -> None:
    """Plot learning curves as PNG: one field per quantity, training and validation together.

    Losses are drawn on a logarithmic axis. Of a curve with many values, their running mean is
    drawn over them.

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
        if "loss" in quantity and all((of > 0).all() for _, of in parts.values()):
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


def _checked_lines(
    name: str, per_lead: Mapping[str, Any], lead_times: int, thresholds: int
) -> list[np.ndarray]:
    """The lines of one method in the order of the fields: CSI by threshold, then the errors."""
    lines: list[np.ndarray] = []
    for score, shape in (
        ("csi", (lead_times, thresholds)),
        *((error, (lead_times,)) for error in ERROR_AXES),
    ):
        values = np.asarray(per_lead.get(score, ()), float)
        if values.shape != shape:
            raise InputError(f"{score} of {name}: found shape {values.shape}, expected {shape}")
        lines.extend(values.T if values.ndim == 2 else [values])
    return lines
