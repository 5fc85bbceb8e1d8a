"""Plots of the monosemantic scale: what is drawn, read from the figure before it is saved."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from nowcast.errors import InputError
from nowcast.rendering import write_monosemanticity

LAYERS = ["encoder.0", "encoder.1", "forecaster.0", "forecaster.1"]
PHI = np.geomspace(1e-3, 1e3, 61)


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is saved."""
    figures = []
    save = Figure.savefig

    def remember(figure, *arguments, **settings):
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def spread_of(networks):
    """Shares that fall to 0 at a φ of each network's own."""
    return {
        layer: {name: (PHI, np.clip(1 - PHI / (10 + place), 0, 1))
                for place, name in enumerate(networks)}
        for layer in LAYERS
    }  # fmt: skip


def history_of(trainings, steps=(100, 200, 400)):
    return {
        layer: {
            name: {"median": (steps, [0.4, 0.3, 0.2]), "largest": (steps, [9.0, 20.0 + row, 15.0])}
            for name in trainings
        }
        for row, layer in enumerate(LAYERS)
    }


def test_each_layer_shows_the_share_of_every_network_beside_normal_neurons(drawn, tmp_path):
    spread = spread_of(["first", "second"])
    bounds = {layer: 100.0 + place for place, layer in enumerate(LAYERS)}
    write_monosemanticity(tmp_path / "new" / "a.png", spread=spread, bounds=bounds, title="Rain")
    (figure,) = drawn
    (section,) = figure.subfigs
    assert [axis.get_title(loc="left") for axis in section.axes] == LAYERS
    for axis, layer in zip(section.axes, LAYERS, strict=True):
        normal, bound, *networks = axis.lines
        phi, share = normal.get_data()
        np.testing.assert_allclose(share, stats.chi2(1).sf(phi), rtol=1e-10)
        assert list(bound.get_xdata()) == [bounds[layer]] * 2
        for line, (expected_phi, expected) in zip(networks, spread[layer].values(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), expected_phi)
            np.testing.assert_array_equal(
                line.get_ydata(), np.where(expected > 0, expected, np.nan)
            )
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert len({axis.get_xlim() for axis in section.axes}) == 1
    assert len({axis.get_ylim() for axis in section.axes}) == 1
    (legend,) = section.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "first", "second", "normal neurons (χ²)", "largest possible",
    ]  # fmt: skip
    colours = [line.get_color() for line in section.axes[0].lines[2:]]
    assert [handle.get_color() for handle in legend.legend_handles[:2]] == colours
    assert len(set(colours)) == 2
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG"
        assert image.width >= 900


def test_the_course_of_each_quantity_is_drawn_on_common_logarithmic_axes(drawn, tmp_path):
    history = history_of(["run"])
    history["encoder.0"]["run"]["median"] = ((100, 200, 400), [0.4, np.nan, 0.0])
    write_monosemanticity(tmp_path / "a.png", history=history)
    (section,) = drawn[0].subfigs
    for axis, layer in zip(section.axes, LAYERS, strict=True):
        lines = {tuple(line.get_ydata()) for line in axis.lines}
        assert len(lines) == 2
        for _, values in list(history[layer]["run"].values())[1:]:
            assert tuple(values) in lines
        assert axis.get_yscale() == "log"
    low, high = section.axes[0].get_ylim()
    assert {axis.get_ylim() for axis in section.axes} == {(low, high)}
    assert low < 0.2
    assert high > 23
    assert [text.get_text() for text in section.legends[0].get_texts()] == ["median", "largest"]


def test_trainings_differ_by_line_style_and_quantities_by_colour(drawn, tmp_path):
    spread = spread_of(["a", "b"])
    write_monosemanticity(tmp_path / "a.png", spread=spread, history=history_of(["one", "two"]))
    above, below = drawn[0].subfigs
    assert len(above.axes) == len(below.axes) == len(LAYERS)
    lines = below.axes[0].lines
    assert [line.get_color() for line in lines[:2]] == [line.get_color() for line in lines[2:]]
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_linestyle() == lines[1].get_linestyle() != lines[2].get_linestyle()
    names = [text.get_text() for text in below.legends[0].get_texts()]
    assert names == ["median", "largest", "one", "two"]
    assert all(len(axis.lines) == 3 for axis in above.axes)  # No bounds were given.


def test_names_are_plain_text_whatever_characters_they_hold(drawn, tmp_path):
    name = "$\\frac{1"
    spread = {name: {"_hidden": (PHI, 1 / (1 + PHI))}}
    write_monosemanticity(tmp_path / "a.png", spread=spread, title="$\\bad{")
    (section,) = drawn[0].subfigs
    assert section.axes[0].get_title(loc="left") == name
    assert section.legends[0].get_texts()[0].get_text() == "_hidden"


def test_a_layer_that_never_varies_is_drawn_as_nothing(drawn, tmp_path):
    spread = {"still": {"network": (PHI, np.zeros(len(PHI)))}}
    history = {"still": {"run": {"median": ([1, 2], [0.0, 0.0])}}}
    write_monosemanticity(tmp_path / "a.png", spread=spread, history=history, bounds={"still": 9.0})
    assert np.isnan(drawn[0].subfigs[0].axes[0].lines[-1].get_ydata()).all()


def test_nothing_to_draw_and_curves_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(InputError, match="found no layers"):
        write_monosemanticity(tmp_path / "a.png", spread={}, history={})
    with pytest.raises(InputError, match="monosemanticity of a, b: found 2 places and 1 values"):
        write_monosemanticity(tmp_path / "a.png", spread={"a": {"b": ([1, 2], [0.5])}})
    with pytest.raises(InputError, match="monosemanticity of a, run, median: found 0 places"):
        write_monosemanticity(tmp_path / "a.png", history={"a": {"run": {"median": ([], [])}}})
    assert list(tmp_path.iterdir()) == []
