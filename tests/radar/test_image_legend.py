"""Legends and grey levels: exact rain rates, and every pixel without meaning named."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nowcast.errors import InputError
from nowcast.radar.image_legend import UNKNOWN, GreyLevels, Legend, read_legend
from nowcast.radar.units import ZRRelation

RAIN = GreyLevels(0.5, 0.0, None, (0,), (255,))
CLIPPED_MM_H = 10 ** ((60 - 10 * np.log10(58.53)) / 15.6)


def test_grey_levels_are_rain_rates_by_the_formula():
    levels = np.array([[0, 1, 80], [254, 255, 7]], np.uint8)
    rates = RAIN.rain_rates(Image.fromarray(levels), Counter())
    np.testing.assert_array_equal(rates, [[0, 0.5, 40], [127, np.nan, 3.5]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_levels_of_reflectivity_go_through_the_relation(dtype):
    meaning = GreyLevels(0.5, -32.0, ZRRelation(200.0, 1.6), (0,), (3, 255))
    levels = np.array([[0, 3, 104, 184, 200]], dtype)
    rates = meaning.rain_rates(Image.fromarray(levels), Counter())
    # 20 dBZ is Z = 100; level 184 is 60 dBZ, and stronger echoes are clipped there.
    expected = [[0, np.nan, 0.5 ** (1 / 1.6), *[5000 ** (1 / 1.6)] * 2]]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_levels_of_16_bits_keep_them_all():
    levels = np.array([[1, 256, 65535]], np.uint16)
    meaning = GreyLevels(1 / 4096, 0.0, None, (), (65535,))
    rates = meaning.rain_rates(Image.fromarray(levels), Counter())
    np.testing.assert_array_equal(rates, [[1 / 4096, 1 / 16, np.nan]])


def test_level_0_is_no_echo_unless_said_otherwise():
    meaning = GreyLevels(1.0, 10.0, ZRRelation(1.0, 1.0), (), ())
    rates = meaning.rain_rates(Image.fromarray(np.zeros((1, 1), np.uint8)), Counter())
    np.testing.assert_allclose(rates, [[10.0]], rtol=1e-12)


def test_grey_in_colour_images_is_its_level_and_transparency_is_not_observed():
    shades = np.array([[0, 10, 20]], np.uint8)
    alpha = np.array([[255, 0, 255]], np.uint8)
    rgba = Image.fromarray(np.stack([shades, shades, shades, alpha], axis=-1))
    np.testing.assert_array_equal(RAIN.rain_rates(rgba, Counter()), [[0, np.nan, 10]])
    palette = Image.fromarray(shades).convert("P")
    np.testing.assert_array_equal(RAIN.rain_rates(palette, Counter()), [[0, 5, 10]])
    coloured = Image.fromarray(np.stack([shades, shades, 0 * shades], axis=-1))
    with pytest.raises(InputError, match="colour #0a0a00 in row 0, column 1, expected grey"):
        RAIN.rain_rates(coloured, Counter())


def test_grey_levels_of_16_bits_have_no_legend():
    legend = Legend(((0x000000, 0.0), (0xFFFFFF, 10.0)), "missing")
    with pytest.raises(InputError, match=r"^found grey levels of 16 bits, a legend is for colours"):
        legend.rain_rates(Image.fromarray(np.array([[0, 300]], np.uint16)), Counter())
    grey = legend.rain_rates(Image.fromarray(np.array([[0, 255]], np.uint8)), Counter())
    np.testing.assert_array_equal(grey, [[0, 10]])


def test_colours_are_the_rates_of_the_legend(tmp_path):
    path = tmp_path / "legend.csv"
    path.write_text("colour,rain_rate_mm_h\n#FF0000, 12.5\n#00ff00,0\n#0000ff,\n\n#010203,999\n")
    image = Image.new("RGBA", (3, 2), (0, 255, 0, 255))
    for place, colour in (
        ((0, 0), (255, 0, 0, 255)), ((1, 0), (0, 0, 255, 255)), ((2, 0), (255, 0, 0, 90)),
        ((0, 1), (9, 9, 9, 0)), ((1, 1), (1, 2, 3, 255)),
    ):  # fmt: skip
        image.putpixel(place, colour)
    expected = [[12.5, np.nan, 12.5], [np.nan, CLIPPED_MM_H, 0]]
    rates = read_legend(path, "refuse").rain_rates(image, Counter())
    np.testing.assert_array_equal(rates, expected)
    image.putpixel((2, 1), (1, 2, 4, 255))
    with pytest.raises(InputError, match="colour #010204 in row 1, column 2, expected a colour"):
        read_legend(path, "refuse").rain_rates(image, Counter())
    oddities = Counter()
    rates = read_legend(path, "missing").rain_rates(image, oddities)
    np.testing.assert_array_equal(rates, [expected[0], [*expected[1][:2], np.nan]])
    assert oddities == {UNKNOWN: 1}


@given(st.dictionaries(st.integers(0, 0xFFFFFF), st.integers(0, 59), min_size=1, max_size=20))
def test_every_colour_of_a_legend_is_found(rates):
    legend = Legend(
        tuple(sorted((colour, float(rate)) for colour, rate in rates.items())), "refuse"
    )
    pixels = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in rates], np.uint8)[None]
    found = legend.rain_rates(Image.fromarray(pixels), Counter())
    np.testing.assert_array_equal(found[0], list(rates.values()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "expected the header 'colour,rain_rate_mm_h'"),
        ("color,rate\n#ff0000,1", "expected the header"),
        ("colour,rain_rate_mm_h\n", "found no colour"),
        ("colour,rain_rate_mm_h\nff0000,1", "line 2: found 'ff0000,1', expected '#rrggbb,rate'"),
        ("colour,rain_rate_mm_h\n#ff0000,1,2", "line 2: .* expected '#rrggbb,rate'"),
        ("colour,rain_rate_mm_h\n#ff0000,x", "line 2: .* expected a rain rate in mm/h"),
        ("colour,rain_rate_mm_h\n#ff0000,-1", "line 2: .* expected a rain rate in mm/h"),
        ("colour,rain_rate_mm_h\n#ff0000,nan", "line 2: .* expected a rain rate in mm/h"),
        ("colour,rain_rate_mm_h\n#ff0000,inf", "line 2: .* expected a rain rate in mm/h"),
        ("colour,rain_rate_mm_h\n#ff0000,1\n#FF0000,2", "line 3: .* expected each colour once"),
        ('colour,rain_rate_mm_h\n"#ff0000,1', "cannot be read as a legend"),
        ("colour,rain_rate_mm_h\n" + "#ff0000,1\n" * 200_000, "more than 1 MiB"),
    ],
)
def test_a_legend_that_is_none_is_refused_by_line(tmp_path, text, found):
    path = tmp_path / "legend.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=found) as raised:
        read_legend(path, "refuse")
    assert str(raised.value).startswith(f"{path}: ")


def test_a_legend_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_legend(tmp_path / "none.csv", "refuse")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), header=st.booleans())
def test_a_legend_of_any_bytes_is_read_or_refused(tmp_path, content, header):
    path = tmp_path / "legend.csv"
    path.write_bytes(b"colour,rain_rate_mm_h\n" * header + content)
    try:
        legend = read_legend(path, "refuse")
    except InputError as error:
        message = str(error)
    else:
        assert legend.rain_rates_mm_h
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
