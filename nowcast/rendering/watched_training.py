"""Pictures of watched trainings: what steps cost in a long one, and two precisions side by side."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError
from nowcast.rendering.figure import LINE_COLOURS, head, legend, new_figure, save

RAW_ALPHA = 0.25
LONGEST_WINDOW = 51

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, and the value at each."""


def write_endurance(
    path: str | os.PathLike[str],
    seconds: ArrayLike,
    memory_mb: Mapping[str, ArrayLike],
    *,
    title: str = "",
) -> None:
    """Plot the time of every step with its moving median, and memory after it, as PNG.

    All scales begin at 0. Times above three times the median are drawn on the upper edge.

    Args:
        path: the file to write.
        seconds: of each step.
        memory_mb: memory after each step in MB, by what memory it is.
        title: a headline.

    Raises:
        InputError: no steps, or memory of more or fewer of them.
    """
    times = np.asarray(seconds, float)
    series = {name: np.asarray(values, float) for name, values in memory_mb.items()}
    if not times.size or any(values.shape != times.shape for values in series.values()):
        found = [values.shape for values in series.values()]
        raise InputError(
            f"endurance: found {times.shape} steps and memory of {found}, expected as many of "
            "each, and at least one"
        )
    steps = np.arange(1, len(times) + 1)
    figure, axes = new_figure(1 + len(series), title)
    figure.set_size_inches(5.2 * (1 + len(series)), 3.6)
    top = 3 * np.median(times)
    axes[0].plot(
        steps, np.minimum(times, top), ".", color=LINE_COLOURS[0], alpha=RAW_ALPHA, markersize=3
    )
    window = window_of(len(times))
    axes[0].plot(*running(steps, times, window, np.median), color=LINE_COLOURS[1], linewidth=1.8)
    head(axes[0], f"seconds of a step, median of {window}")
    axes[0].set_ylim(0, top * 1.02)
    for axis, (name, values) in zip(axes[1:], series.items(), strict=True):
        axis.plot(steps, values, color=LINE_COLOURS[0], linewidth=1.8)
        head(axis, f"{name} (MB)")
        axis.set_ylim(0, values.max() * 1.15)
    for axis in axes:
        axis.set_xlabel("step")
        axis.set_xlim(0, len(times))
        axis.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axis.yaxis.set_major_formatter(FuncFormatter(_thousands))
    save(path, figure)


def write_precisions(
    path: str | os.PathLike[str],
    losses: Mapping[str, Mapping[int, Curve]],
    scores: Mapping[str, Mapping[int, float]],
    *,
    score_name: str,
    title: str = "",
) -> None:
    """Plot trainings in two precisions as PNG: losses, their differences, and the final scores.

    Args:
        path: the file to write.
        losses: steps and training losses by seed, by precision; differences are relative to the
            first precision. The runs of a seed have the same steps.
        scores: of the trained network by seed, by precision.
        score_name: what they are.
        title: a headline.

    Raises:
        InputError: not two precisions, or they have other seeds or steps.
    """
    names = list(losses)
    seeds = list(next(iter(losses.values()), {}))
    if len(names) != 2 or not seeds or any(list(of) != seeds for of in losses.values()):
        raise InputError(
            f"precisions: found {', '.join(names) or 'none'}, expected two, of the same seeds"
        )
    colours = dict(zip(names, LINE_COLOURS, strict=False))
    figure, axes = new_figure(3, title)
    figure.set_size_inches(14.4, 4.2)
    for seed in seeds:
        smooth = {}
        for name in names:
            steps, values = (np.asarray(part, float) for part in losses[name][seed])
            window = window_of(len(values))
            smooth[name] = running(steps, values, window, np.mean)
            axes[0].plot(*smooth[name], color=colours[name], **_line(name == names[1]))
        (at, base), (other_at, other) = smooth.values()
        if not np.array_equal(at, other_at):
            raise InputError(f"precisions: found other steps in the two runs of seed {seed}")
        marker = _marker(seeds.index(seed))
        axes[1].plot(
            at, 100 * (other / base - 1), color="0.35", linewidth=1.3, marker=marker,
            markevery=max(1, len(at) // 8), markersize=4.5,
        )  # fmt: skip
    _draw_scores(axes[2], scores, colours)
    head(axes[0], f"training loss, mean of {window} steps")
    head(axes[1], f"{names[1]} − {names[0]}, % of {names[0]}'s loss")
    head(axes[2], score_name)
    axes[0].set_ylim(bottom=0)
    axes[1].axhline(0, color="0.4", linestyle=(0, (4, 2)), linewidth=1.1)
    for axis in axes[:2]:
        axis.set_xlabel("step")
    drawn: list[dict[str, Any]] = [
        {"color": colours[name], **_line(name == names[1])} for name in names
    ]
    drawn += [
        {"color": "0.35", "linewidth": 1.3, "marker": _marker(place)} for place in range(len(seeds))
    ]
    legend(figure, [*names, *(f"seed {seed}" for seed in seeds)], drawn, columns=8)
    save(path, figure)


def window_of(count: int) -> int:
    """Values that a moving mean or median of so many is taken over: an odd number, few of them."""
    return min(LONGEST_WINDOW, max(1, count // 20) | 1)


def running(
    at: ArrayLike, values: ArrayLike, window: int, statistic: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A statistic of each `window` neighbouring values, and the middle of the places they are at.

    Args:
        at: places (n,).
        values: at these (n,).
        window: how many, at most n.
        statistic: such as `numpy.mean`, taking `axis`.
    """
    places, windows = (
        np.lib.stride_tricks.sliding_window_view(np.asarray(of, float), window)
        for of in (at, values)
    )
    return places.mean(axis=-1), statistic(windows, axis=-1)


def _draw_scores(
    axis: Axes, scores: Mapping[str, Mapping[int, float]], colours: Mapping[str, str]
) -> None:
    seeds = list(next(iter(scores.values())))
    for place, seed in enumerate(seeds):
        values = [scores[name][seed] for name in scores]
        axis.plot([place, place], values, color="0.6", linewidth=1.2, zorder=1)
        for name, value in zip(scores, values, strict=True):
            axis.plot(place, value, color=colours[name], marker=_marker(place), markersize=7)
    axis.set_xticks(range(len(seeds)), [f"seed {seed}" for seed in seeds])
    axis.set_xlim(-0.5, len(seeds) - 0.5)
    axis.margins(y=0.25)
    axis.yaxis.set_major_formatter(FuncFormatter(_thousands))


def _line(dashed: bool) -> dict[str, Any]:
    return {"linestyle": "--" if dashed else "-", "linewidth": 1.6}


def _marker(place: int) -> str:
    return "osD^vP"[place % 6]


def _thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
