"""Figures as they are saved: laid out without overlap, with Matplotlib's own minor ticks."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox
from PIL import Image

from nowcast.rendering import figure as drawing
from nowcast.rendering.figure import head, legend, new_figure, new_sections, save, styles

SIZES = np.geomspace(0.2, 3e4, 40)


def logarithmic(axis, low, high):
    axis.plot(SIZES, SIZES)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(3e4, 0.2)
    axis.set_ylim(low, high)
    axis.set_xlabel("size")
    axis.set_ylabel("value")
    head(axis, "a field")


def sections():
    """Fields with wide and narrow labels, decades and less, in two sections."""
    figure, parts = new_sections(["one", "two"], [4, 2], "A headline", columns=3)
    for section, axes in parts:
        legend(section, ["a", "b"], styles(2))
        for number, axis in enumerate(axes):
            if number == 1:
                axis.plot(SIZES, SIZES)
                head(axis, "linear")
            else:
                logarithmic(axis, 10.0**-number, 10.0 ** (2 * number + 1))
    parts[0][1][3].set_axis_off()
    return figure


def grid():
    figure, axes = new_figure(5, "A headline")
    legend(figure, ["a", "b", "c"], styles(3))
    for number, axis in enumerate(axes):
        logarithmic(axis, 0.03 * 100**number, 500.0 * 100**number)
    return figure


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("make", [sections, grid])
def test_minor_ticks_look_as_matplotlib_draws_them_to_a_grey_level(make, tmp_path, monkeypatch):
    save(tmp_path / "ours.png", make())
    monkeypatch.setattr(drawing, "_draw_minor_ticks", lambda *_: None)
    save(tmp_path / "theirs.png", make())
    ours, theirs = (picture(tmp_path / name).astype(int) for name in ("ours.png", "theirs.png"))
    assert abs(ours - theirs).max() <= 1
    figure = make()
    for axis in figure.axes:
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_locator(NullLocator())
    save(tmp_path / "none.png", figure)
    assert abs(picture(tmp_path / "none.png") - ours).max() > 100


def test_minor_ticks_keep_their_labels_where_there_is_less_than_a_decade(tmp_path):
    figure, (axis,) = new_figure(1, "")
    logarithmic(axis, 2.0, 8.0)
    save(tmp_path / "a.png", figure)
    labels = [label.get_text() for label in axis.get_yticklabels(minor=True)]
    assert sum(map(bool, labels)) >= 3
    assert not axis.get_xticklabels(minor=True)


@pytest.mark.parametrize("make", [sections, grid])
def test_nothing_overlaps_and_all_lies_within_the_picture(make, tmp_path):
    figure = make()
    save(tmp_path / "a.png", figure)
    holders = [figure, *figure.subfigs]
    boxes = [axis.get_tightbbox() for axis in figure.axes if axis.axison]
    boxes += [found.get_window_extent() for holder in holders for found in holder.legends]
    boxes += [holder._suptitle.get_window_extent() for holder in holders if holder._suptitle]
    assert len(boxes) > 6
    for one, other in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(one, other)
        # Boxes reach up to a pixel further than what is drawn in them.
        assert shared is None or min(shared.width, shared.height) <= 1
    whole = Bbox.from_bounds(0, 0, *picture(tmp_path / "a.png").shape[1::-1])
    for box in boxes:
        assert box.x0 >= whole.x0 - 1
        assert box.y0 >= whole.y0 - 1
        assert box.x1 <= whole.x1 + 1
        assert box.y1 <= whole.y1 + 1


def test_a_figure_is_drawn_once(tmp_path, monkeypatch):
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(
        Figure, "draw", lambda figure, *rest: (drawn.append(1), draw(figure, *rest))
    )
    save(tmp_path / "a.png", grid())
    assert len(drawn) == 1
