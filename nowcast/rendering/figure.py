"""What plots share: figures of several fields, colours, legends, saving. What is drawn: elsewhere.

Drawn with Matplotlib's objects alone, so that no global figure state is touched. Names are plain
text; none of their characters is read as mathematics.
"""

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT, MarkerStyle
from matplotlib.ticker import NullLocator

from nowcast.files import replacing
from nowcast.rendering.canvas import plain

LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1d1d1b")
"""Okabe and Ito's colours, told apart by colour-blind readers too."""

LINE_STYLES = ("-", "--", "-.", ":")
LONGEST_NAME = 40
COLUMNS = 4
DOTS_PER_INCH = 110
MINOR_TICKS: dict[str, Any] = {"s": 2.0**2, "linewidths": 0.6, "color": "black"}
"""As Matplotlib draws them: 2 points long, 0.6 wide."""


def new_figure(count: int, title: str, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """A figure with `count` fields in a grid, row after row.

    Args:
        count: at least one.
        title: a headline.
        columns: fields beside each other, at most.
    """
    width, height = _size(count, columns)
    figure = _empty(width, height + 0.6, title)
    return figure, _fields(figure, count, columns)


def new_sections(
    headings: Sequence[str], counts: Sequence[int], title: str, columns: int = COLUMNS
) -> tuple[Figure, list[tuple[SubFigure, list[Axes]]]]:
    """A figure of sections, one below the other, each with fields and a legend of its own.

    Args:
        headings: of the sections.
        counts: fields of each, as in `new_figure`.
        title: see `new_figure`.
        columns: see `new_figure`.
    """
    sizes = [_size(count, columns) for count in counts]
    heights = [height + 1.0 for _, height in sizes]
    figure = _empty(max(width for width, _ in sizes), sum(heights) + 0.3, title)
    sections = figure.subfigures(len(counts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for section, heading in zip(sections, headings, strict=True):
        section.suptitle(plain(heading), x=0.01, ha="left", fontsize=11).set_parse_math(False)
    places = [
        (section, _fields(section, count, columns))
        for section, count in zip(sections, counts, strict=True)
    ]
    return figure, places


def _size(count: int, columns: int) -> tuple[float, float]:
    columns = min(columns, count)
    return max(3.2 * columns, 6.4), 2.7 * -(-count // columns)


def _empty(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(
            plain(title), x=0.01, ha="left", fontweight="bold", wrap=True
        ).set_parse_math(False)
    return figure


def _fields(figure: FigureBase, count: int, columns: int) -> list[Axes]:
    columns = min(columns, count)
    rows = -(-count // columns)
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        # The labels of the ticks reach further out.
        axis.spines[:].set_in_layout(False)
    return axes


def head(axis: Axes, heading: str) -> None:
    """Write a heading over a field."""
    axis.set_title(short(heading), fontsize=10, loc="left", parse_math=False)


def styles(count: int) -> list[dict[str, Any]]:
    """How to draw lines that can be told apart."""
    return [
        {
            "color": LINE_COLOURS[index % len(LINE_COLOURS)],
            "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
            "linewidth": 1.8,
        }
        for index in range(count)
    ]


def legend(
    figure: FigureBase,
    names: Sequence[str],
    drawn: Sequence[dict[str, Any]],
    columns: int = COLUMNS,
) -> None:
    """Name lines below all fields.

    Args:
        figure: what is drawn, or a section of it.
        names: of the lines.
        drawn: how each line is drawn, as in `styles`.
        columns: names beside each other, at most.
    """
    handles = [Line2D([], [], **style) for style in drawn]
    found = figure.legend(
        handles,
        [str(index) for index in range(len(names))],
        loc="outside lower center",
        ncols=min(len(names), columns),
        frameon=False,
    )
    # Set afterwards: Matplotlib leaves out labels that begin with an underscore.
    for text, name in zip(found.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(short(name))


def short(name: str) -> str:
    """A name on one line, shortened."""
    flat = plain(name)
    return flat if len(flat) <= LONGEST_NAME else flat[: LONGEST_NAME - 1] + "…"


def save(path: str | os.PathLike[str], figure: Figure) -> None:
    """Lay a figure out, so that nothing in it overlaps, and write it as PNG."""
    for axes in figure.axes:
        _draw_minor_ticks(axes, axes.xaxis)
        _draw_minor_ticks(axes, axes.yaxis)
    # Laid out here: savefig would draw a figure that lays itself out twice.
    ConstrainedLayoutEngine().execute(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def _draw_minor_ticks(axes: Axes, axis: Axis) -> None:
    """Draw the minor ticks of a logarithmic axis at once, where and as Matplotlib draws its own.

    Each tick of Matplotlib is five objects, placed anew a dozen times while a figure is laid out
    and drawn: with logarithmic axes that is most of the time. Labelled ones stay as they are.
    """
    if axis.get_scale() != "log" or not axes.axison:
        return
    low, high = sorted(axis.get_view_interval())
    places = [place for place in axis.get_minorticklocs() if low <= place <= high]
    if any(axis.get_minor_formatter().format_ticks(places)):
        return
    axis.set_minor_locator(NullLocator())
    edge = [0.0] * len(places)
    horizontal = axis is axes.xaxis
    axes.scatter(
        places if horizontal else edge,
        edge if horizontal else places,
        marker=MarkerStyle(TICKDOWN if horizontal else TICKLEFT),
        transform=axes.get_xaxis_transform() if horizontal else axes.get_yaxis_transform(),
        zorder=axis.get_zorder() + 0.01,
        clip_on=False,
        **MINOR_TICKS,
    ).set_in_layout(False)
