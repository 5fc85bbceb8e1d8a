"""Scaling: how the cost of a step grows with the size of what it works on."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from nowcast.errors import InputError
from nowcast.rendering.figure import LINE_COLOURS, head, legend, new_figure, save

POINTS: dict[str, Any] = {
    "color": LINE_COLOURS[0], "linestyle": "", "marker": "o", "markersize": 5.5,
}  # fmt: skip
PROPORTIONAL: dict[str, Any] = {
    "color": "#1d1d1b", "linestyle": "--", "linewidth": 1.2, "alpha": 0.7,
}  # fmt: skip


def write_scaling(
    path: str | os.PathLike[str],
    seconds: Mapping[str, Mapping[int, Sequence[float]]],
    exponents: Mapping[str, tuple[float, float, float]],
    *,
    title: str = "",
) -> None:
    """Plot seconds by size as PNG, a field per quantity that grows, from the origin on.

    Points are medians over the rounds, bars reach from the smallest to the largest. The dashed line
    goes through the origin: where points lie on it, cost is proportional to size. Its slope is the
    geometric mean of the medians' seconds per size.

    Args:
        path: the file to write.
        seconds: of each round, by size, by quantity.
        exponents: of the growth of each quantity: median, smallest and largest over the rounds.
        title: a headline.

    Raises:
        InputError: there is nothing to draw.
    """
    if not seconds or not all(seconds.values()):
        raise InputError("scaling: found a quantity without sizes or none, expected some of each")
    figure, axes = new_figure(len(seconds), title)
    for axis, (quantity, times) in zip(axes, seconds.items(), strict=True):
        middle, low, high = exponents[quantity]
        head(axis, f"{quantity}: exponent {middle:.2f} ({low:.2f}–{high:.2f})")
        sizes = np.array(list(times), float)
        rounds = np.array(list(times.values()), float)
        medians = np.median(rounds, axis=1)
        slope = np.exp(np.mean(np.log(medians / sizes)))
        end = 1.08 * sizes.max()
        axis.plot([0, end], [0, slope * end], **PROPORTIONAL)
        spread = [medians - rounds.min(axis=1), rounds.max(axis=1) - medians]
        axis.errorbar(sizes, medians, spread, capsize=3, elinewidth=1.2, **POINTS)
        axis.set_xlabel(quantity)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_xlim(0, end)
    top = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(0, top)
    axes[0].set_ylabel("seconds per step")
    legend(figure, ["median, smallest to largest", "proportional"], [POINTS, PROPORTIONAL])
    save(path, figure)
