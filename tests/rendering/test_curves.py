"""Curves: what is drawn, read from the figure before it is saved."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nowcast.errors import InputError
from nowcast.rendering import write_learning_curves, write_score_curves

LEAD_MINUTES = [6, 12, 18]


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


def report(names=("persistence", "ConvGRU")):
    rng = np.random.default_rng(0)
    csi = rng.uniform(size=(len(names), 3, 2))
    csi[:1, 1, 1] = np.nan
    return {
        "lead_minutes": LEAD_MINUTES,
        "thresholds_mm_h": [0.5, 30.0],
        "methods": {
            name: {
                "per_lead": {
                    "csi": csi[index].tolist(),
                    "balanced_mse": rng.uniform(100, 900, 3).tolist(),
                    "balanced_mae": rng.uniform(100, 900, 3).tolist(),
                }
            }
            for index, name in enumerate(names)
        },
    }


def test_score_curves_show_each_methods_values_with_gaps_where_undefined(drawn, tmp_path):
    scores = report()
    write_score_curves(tmp_path / "new" / "scores.png", scores, title="Finland")
    (figure,) = drawn
    assert len(figure.axes) == 4
    for method, line_number in (("persistence", 0), ("ConvGRU", 1)):
        per_lead = scores["methods"][method]["per_lead"]
        expected = [*np.transpose(per_lead["csi"]), per_lead["balanced_mse"],
                    per_lead["balanced_mae"]]  # fmt: skip
        for axis, values in zip(figure.axes, expected, strict=True):
            line = axis.lines[line_number]
            np.testing.assert_array_equal(line.get_xdata(), LEAD_MINUTES)
            np.testing.assert_array_equal(line.get_ydata(), values)
    with Image.open(tmp_path / "new" / "scores.png") as image:
        assert image.format == "PNG"
        assert image.width >= 900


def test_names_are_plain_text_whatever_characters_they_hold(drawn, tmp_path):
    names = ["$\\frac{1", "_hidden", "x" * 200]
    write_score_curves(tmp_path / "a.png", report(names), title="$\\bad{")
    texts = drawn[0].legends[0].get_texts()
    assert [text.get_text() for text in texts[:2]] == names[:2]
    assert len(texts[2].get_text()) == 40
    assert not any(text.get_parse_math() for text in texts)


def test_a_score_missing_or_too_short_is_refused_by_method_and_nothing_is_written(tmp_path):
    scores = report()
    scores["methods"]["ConvGRU"]["per_lead"]["balanced_mae"].pop()
    with pytest.raises(InputError, match=r"balanced_mae of ConvGRU: found shape \(2,\)"):
        write_score_curves(tmp_path / "a.png", scores)
    del scores["methods"]["ConvGRU"]["per_lead"]["csi"]
    with pytest.raises(InputError, match="csi of ConvGRU"):
        write_score_curves(tmp_path / "a.png", scores)
    with pytest.raises(InputError, match="no methods"):
        write_score_curves(tmp_path / "a.png", report(()))
    assert list(tmp_path.iterdir()) == []


def test_learning_curves_of_one_quantity_share_a_field_and_leave_out_nan(drawn, tmp_path):
    curves = {
        "train_loss": ([1, 2, 3], [4.0, np.nan, 2.0]),
        "valid_loss": ([2], [5.0]),
        "valid_csi": ([2], [0.0]),
        "empty": ([], []),
    }
    write_learning_curves(tmp_path / "a.png", curves)
    loss, csi = drawn[0].axes
    assert loss.get_yscale() == "log"
    assert csi.get_yscale() == "linear"
    assert {line.get_label(): list(line.get_ydata()) for line in loss.lines} == {
        "train": [4.0, 2.0],
        "valid": [5.0],
    }
    assert list(loss.lines[0].get_xdata()) == [1, 3]


def test_what_is_logged_of_each_layer_shares_a_field(drawn, tmp_path):
    layers = [f"encoder.stages.{level}" for level in range(3)]
    curves = {f"decrease/{layer}": ([1, 2], [0.1, 0.2 + i]) for i, layer in enumerate(layers)}
    write_learning_curves(tmp_path / "a.png", {"train_loss": ([1], [4.0])} | curves)
    _, decrease = drawn[0].axes
    assert decrease.get_title(loc="left") == "decrease"
    found = {line.get_label(): list(line.get_ydata()) for line in decrease.lines}
    assert found == {layer: [0.1, 0.2 + i] for i, layer in enumerate(layers)}
    assert len({line.get_color() for line in decrease.lines}) == 3


def test_a_long_learning_curve_has_its_running_mean_drawn_over_it(drawn, tmp_path):
    values = np.random.default_rng(0).uniform(1, 2, 400)
    write_learning_curves(tmp_path / "a.png", {"train_loss": (range(400), values)})
    raw, mean = drawn[0].axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), values)
    expected = [values[max(0, i - 10) : i + 11].mean() for i in range(400)]
    np.testing.assert_allclose(mean.get_ydata(), expected, rtol=1e-12)


def test_learning_curves_without_values_or_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(InputError, match="no finite values"):
        write_learning_curves(tmp_path / "a.png", {"train_loss": ([1], [np.nan])})
    with pytest.raises(InputError, match="train_loss"):
        write_learning_curves(tmp_path / "a.png", {"train_loss": ([1, 2], [1.0])})
    assert list(tmp_path.iterdir()) == []
