"""Plots of the monosemantic scale φ: how it is spread in each layer, and how that changes."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from nowcast.errors import InputError
from nowcast.rendering.figure import (
    LINE_COLOURS,
    LINE_STYLES,
    head,
    legend,
    new_sections,
    save,
    styles,
)

Curve = tuple[Sequence[float], Sequence[float]]
"""Places on the horizontal axis and values, as many of each."""

Curves = Mapping[str, Mapping[str, Curve]]

SMALLEST_PHI = 0.1
NORMAL: dict[str, Any] = {"color": "0.4", "linestyle": (0, (4, 2)), "linewidth": 1.3}
BOUND: dict[str, Any] = {"color": "0.4", "linestyle": (0, (1, 1.5)), "linewidth": 1.3}
COLUMNS = 3
LEGEND_COLUMNS = 6


def write_monosemanticity(
    path: str | os.PathLike[str],
    *,
    spread: Curves | None = None,
    bounds: Mapping[str, float] | None = None,
    history: Mapping[str, Curves] | None = None,
    title: str = "",
) -> None:
    """Plot the monosemantic scale φ as PNG, a field per layer, all on the same axes.

    A first section shows which share of a layer's activations exceeds a φ, on doubly logarithmic
    axes, beside what normally distributed neurons would have (χ² of one degree of freedom): the
    further a line runs above that, the more monosemantic neurons there are. A second section shows
    quantities of φ by training step.

    Args:
        path: the file to write.
        spread: by layer and network: φ, and the share of the activations at least as large; None
            goes without the section.
        bounds: by layer, the largest φ that the number of samples allows; drawn where given.
        history: by layer, training and quantity: steps, and the quantity at each; None goes without
            the section. NaN values and zeros are left out.
        title: a headline.

    Raises:
        InputError: nothing to draw, or a curve's places and values differ in number.
    """
    fields = {}
    if spread:
        _check(spread)
        fields["How φ is spread in each layer"] = len(spread)
    if history:
        for layer, trainings in history.items():
            _check({f"{layer}, {name}": curves for name, curves in trainings.items()})
        fields["How φ changes in training"] = len(history)
    if not fields:
        raise InputError("monosemanticity: found no layers, expected at least one")
    figure, places = new_sections(list(fields), list(fields.values()), title, COLUMNS)
    if spread:
        _draw_spread(*places[0], spread, bounds or {})
    if history:
        _draw_history(*places[-1], history)
    save(path, figure)


def _check(curves: Curves) -> None:
    for name, named in curves.items():
        for which, (at, of) in named.items():
            if len(at) != len(of) or not len(at):
                raise InputError(
                    f"monosemanticity of {name}, {which}: found {len(at)} places and {len(of)} "
                    "values, expected as many of each and at least one"
                )


def _draw_spread(
    section: FigureBase, axes: list[Axes], spread: Curves, bounds: Mapping[str, float]
) -> None:
    curves = [curve for networks in spread.values() for curve in networks.values()]
    networks = _names(spread)
    drawn = dict(zip(networks, styles(len(networks)), strict=True))
    seen = [phi for at, of in curves for phi, share in zip(at, of, strict=True) if share > 0]
    largest = 1.3 * max([*seen, *bounds.values(), 10 * SMALLEST_PHI])
    smallest = 0.5 * min((share for _, of in curves for share in of if share > 0), default=0.1)
    reference = np.geomspace(SMALLEST_PHI, largest, 400)
    normal = [math.erfc(math.sqrt(phi / 2)) for phi in reference]
    for axis, (layer, of_layer) in zip(axes, spread.items(), strict=True):
        head(axis, layer)
        axis.plot(reference, normal, **NORMAL)
        if layer in bounds:
            axis.axvline(bounds[layer], **BOUND)
        for name, (phi, shares) in of_layer.items():
            axis.plot(phi, _above_zero(shares), **drawn[name])
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlim(SMALLEST_PHI, largest)
        axis.set_ylim(smallest, 1.5)
        axis.set_xlabel("φ")
        axis.set_ylabel("share of activations above")
    extra = {"normal neurons (χ²)": NORMAL} | ({"largest possible": BOUND} if bounds else {})
    legend(section, [*drawn, *extra], [*drawn.values(), *extra.values()], LEGEND_COLUMNS)


def _draw_history(section: FigureBase, axes: list[Axes], history: Mapping[str, Curves]) -> None:
    trainings = _names(history)
    quantities = list(dict.fromkeys(name for curves in history.values() for name in _names(curves)))
    # Quantities by colour, trainings by line style.
    colour = dict(zip(quantities, LINE_COLOURS * len(quantities), strict=False))
    dashes = dict(zip(trainings, LINE_STYLES * len(trainings), strict=False))
    for axis, (layer, curves) in zip(axes, history.items(), strict=True):
        head(axis, layer)
        for training, of_training in curves.items():
            for quantity, (steps, values) in of_training.items():
                axis.plot(
                    steps,
                    _above_zero(values),
                    color=colour[quantity],
                    linestyle=dashes[training],
                    linewidth=1.6,
                    marker="o" if len(steps) < 30 else "",
                    markersize=3.5,
                )
        axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel("φ")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    lowest, highest = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(lowest), max(highest))
    lines: list[dict[str, Any]] = [{"color": colour[name], "linewidth": 1.6} for name in quantities]
    if len(trainings) > 1:
        lines += [{"color": "0.3", "linestyle": dashes[name]} for name in trainings]
        quantities += trainings
    legend(section, quantities, lines, LEGEND_COLUMNS)


def _names(curves: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for named in curves.values() for name in named))


def _above_zero(values: Sequence[float]) -> np.ndarray:
    """What a logarithmic axis can show; NaN elsewhere."""
    every = np.asarray(values, float)
    return np.where(every > 0, every, np.nan)
