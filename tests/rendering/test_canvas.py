"""The legend says of every colour what it stands for."""

import numpy as np
import pytest

from nowcast.radar.units import rain_rate_to_pixel
from nowcast.rendering.canvas import Canvas, legend_height, legend_width
from nowcast.rendering.palette import DRY, PAPER, RAIN_EDGES_MM_H, rain_classes

SIZE, LEFT, TOP = 16, 10, 7


def legend():
    canvas = Canvas(legend_width(SIZE) + 2 * LEFT, legend_height(SIZE) + 2 * TOP)
    canvas.legend(LEFT, TOP, SIZE)
    return canvas


@pytest.mark.parametrize("rate", [0.0, *RAIN_EDGES_MM_H])
def test_the_box_at_whose_left_edge_a_rate_is_written_has_the_colour_of_that_rate(rate):
    picture = legend().entries
    # The scale rises evenly in dB, so a little more than an edge lies in the bin above it.
    pixel = np.float32([rain_rate_to_pixel(rate * 1.001)]) if rate else np.zeros(1, np.float32)
    (entry,) = rain_classes(pixel)
    assert entry == (DRY if rate == 0 else 1 + RAIN_EDGES_MM_H.index(rate))
    rows, columns = (picture == entry).nonzero()
    label = Canvas(picture.shape[1], picture.shape[0])
    # Written alone, in the middle of the box's left edge and two pixels under its border.
    label.text(int(columns.min()), int(rows.max()) + 3, f"{rate:g}", SIZE, align="middle")
    ink = (label.entries > PAPER).nonzero()
    part = np.s_[rows.max() + 3 :, ink[1].min() : ink[1].max() + 1]
    np.testing.assert_array_equal(picture[part], label.entries[part])
