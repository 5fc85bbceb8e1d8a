"""GIFs and strips, decoded again with Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from nowcast.errors import InputError
from nowcast.rendering import write_gif, write_png_strip
from nowcast.rendering.canvas import Canvas
from nowcast.rendering.palette import (
    DRY,
    NO_COVERAGE,
    NO_COVERAGE_STRIPE,
    palette_bytes,
    rain_classes,
)

ISSUED = np.datetime64("2016-09-28T23:50")
COLOURS = [tuple(row) for row in np.frombuffer(palette_bytes(), np.uint8).reshape(256, 3)]
SIDE, FACTOR = 60, 4


def moving_square(frames, side=SIDE, value=0.65):
    """A square of rain that moves 5 columns to the right per frame."""
    field = np.zeros((frames, side, side), np.float32)
    for index in range(frames):
        field[index, 20:30, 5 * index : 5 * index + 5] = value
    return field


@pytest.fixture
def case():
    mask = np.ones((4, SIDE, SIDE), bool)
    mask[:, 50:] = False
    return {
        "observed": moving_square(4),
        "forecasts": {"persistence": moving_square(4)[[0] * 4], "dry": np.zeros((4, 60, 60))},
        "mask": mask,
    }


def frames_of(path):
    with Image.open(path) as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    return frames


def panel_corners(frame):
    """Top left corner of the fields of 240 × 240 pixels, left to right, from their borders."""
    border = (frame == COLOURS[NO_COVERAGE_STRIPE + 1]).all(axis=2)
    run = 240 + 2
    tops = [y for y in range(frame.shape[0]) if border[y].sum() >= run]
    top = next(y for y in tops if y + run - 1 in tops)
    columns = border[top : top + run].all(axis=0).nonzero()[0]
    return [(top + 1, int(left) + 1) for left in columns[::2]]


def cells(frame, corner, side=SIDE, factor=FACTOR):
    """Colours of the middles of the grid's cells."""
    y, x = corner
    part = frame[y : y + side * factor, x : x + side * factor]
    return part[factor // 2 :: factor, factor // 2 :: factor]


def expected_colours(pixels):
    return np.array(COLOURS, np.uint8)[rain_classes(pixels)]


def gif(path, case, **changes):
    settings = {"issue_time": ISSUED, "step_minutes": 5, "title": "T", "source": "S"}
    write_gif(path, **case, **{**settings, **changes})
    return frames_of(path)


def test_every_panel_shows_its_field_at_every_lead_time_in_order(case, tmp_path):
    frames = gif(tmp_path / "a.gif", case)
    assert len(frames) == 4
    corners = panel_corners(frames[0])
    assert len(corners) == 3
    fields = [case["observed"], *case["forecasts"].values()]
    for index, frame in enumerate(frames):
        assert frame.shape == frames[0].shape
        for corner, field in zip(corners, fields, strict=True):
            covered = cells(frame, corner)[:50]
            np.testing.assert_array_equal(covered, expected_colours(field[index])[:50])


def test_the_gif_holds_every_pixel_of_every_frame_as_it_was_drawn(case, tmp_path, monkeypatch):
    drawn = []
    image = Canvas.image

    def remember(canvas):
        drawn.append(np.array(COLOURS, np.uint8)[canvas.entries])
        return image(canvas)

    monkeypatch.setattr(Canvas, "image", remember)
    noise = np.random.default_rng(0).uniform(0, 1, (5, SIDE, SIDE)).astype(np.float32)
    case["forecasts"] |= {"noise": noise[:4], "late": moving_square(4)[::-1]}
    frames = gif(tmp_path / "a.gif", case, inputs=noise)
    assert len(frames) == len(drawn) == 9
    for frame, expected in zip(frames, drawn, strict=True):
        np.testing.assert_array_equal(frame, expected)


def test_no_coverage_is_hatched_in_its_own_two_colours_in_every_panel(case, tmp_path):
    frame = gif(tmp_path / "a.gif", case)[-1]
    for y, x in panel_corners(frame):
        hidden = frame[y + 50 * FACTOR : y + SIDE * FACTOR, x : x + SIDE * FACTOR].reshape(-1, 3)
        found, counts = np.unique(hidden, axis=0, return_counts=True)
        expected = {COLOURS[NO_COVERAGE], COLOURS[NO_COVERAGE_STRIPE]}
        assert {tuple(colour) for colour in found} == expected
        assert abs(counts[0] / counts.sum() - 0.5) < 0.02


def test_input_frames_come_first_in_the_observed_panel_while_forecasts_are_blank(case, tmp_path):
    inputs = moving_square(3, value=0.5)
    hidden = np.ones(inputs.shape, bool)
    hidden[0, 0, 0] = False
    frames = gif(tmp_path / "a.gif", case, inputs=inputs, input_mask=hidden)
    assert len(frames) == 7
    first, second, _ = panel_corners(frames[0])
    for index in range(3):
        shown = cells(frames[index], first)
        np.testing.assert_array_equal(shown[1:], expected_colours(inputs[index])[1:])
        rain = {tuple(colour) for colour in cells(frames[index], second).reshape(-1, 3)}
        assert not rain & set(COLOURS[DRY : NO_COVERAGE_STRIPE + 1])
    no_coverage = {COLOURS[NO_COVERAGE], COLOURS[NO_COVERAGE_STRIPE]}
    assert tuple(cells(frames[0], first)[0, 0]) in no_coverage
    np.testing.assert_array_equal(cells(frames[3], first)[:50],
                                  expected_colours(case["observed"][0])[:50])  # fmt: skip


def test_frames_last_as_asked_the_last_one_longer_and_the_animation_repeats(case, tmp_path):
    gif(tmp_path / "a.gif", case, frames_per_second=4)
    with Image.open(tmp_path / "a.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert durations == [250, 250, 250, 1500]


def test_frames_with_the_same_rain_are_all_kept(case, tmp_path):
    case["observed"] = np.zeros_like(case["observed"])
    case["forecasts"] = {"dry": case["observed"]}
    assert len(gif(tmp_path / "a.gif", case)) == 4


@pytest.mark.parametrize(("methods", "rows"), [(0, 1), (3, 1), (4, 2), (8, 3)])
def test_many_methods_are_set_in_rows_of_at_most_four(tmp_path, methods, rows):
    field = moving_square(1)
    case = {"observed": field, "forecasts": {f"m{index}": field for index in range(methods)}}
    frame = gif(tmp_path / "a.gif", case)[0]
    assert frame.shape[1] <= 4 * 240 + 5 * 12
    rain = (frame == COLOURS[rain_classes(np.float32([0.65]))[0]]).all(axis=2)
    per_panel = (10 * FACTOR) * (5 * FACTOR)
    legend_box = rain.sum() - (methods + 1) * per_panel
    assert 0 < legend_box < per_panel
    assert frame.shape[0] > rows * 240


def test_a_grid_of_full_size_is_neither_enlarged_nor_cut(tmp_path):
    field = np.random.default_rng(0).uniform(0, 1, (1, 300, 250)).astype(np.float32)
    frame = gif(tmp_path / "a.gif", {"observed": field, "forecasts": {}})[0]
    wanted = expected_colours(field[0])
    tops = [
        (y, x)
        for y in range(frame.shape[0] - 299)
        for x in range(frame.shape[1] - 249)
        if (frame[y, x : x + 250] == wanted[0]).all()
    ]
    (y, x) = tops[0]
    np.testing.assert_array_equal(frame[y : y + 300, x : x + 250], wanted)


def test_text_changes_the_picture_and_markup_characters_are_harmless(case, tmp_path):
    plain = gif(tmp_path / "a.gif", case, title="Rain x1")
    odd = gif(tmp_path / "b.gif", case, title="$\\frac{a", source="a\nb\t\x00 \\alpha$ " * 40)
    assert odd[0].shape[0] > plain[0].shape[0]
    assert not np.array_equal(plain[0][:30], odd[0][:30])
    # Nothing but paper to the right of the widest line and at the lower edge: no text is clipped.
    assert (odd[0][:, -3:] == 255).all()
    assert (odd[0][-3:] == 255).all()


def test_only_the_time_line_changes_while_nothing_moves(case, tmp_path):
    field = case["observed"][[0, 0]]
    frames = gif(tmp_path / "a.gif", {"observed": field, "forecasts": {"same": field}})
    changed = (frames[0] != frames[1]).any(axis=2).any(axis=1).nonzero()[0]
    assert len(changed) > 0
    assert changed.max() - changed.min() < 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.ones((3, SIDE, SIDE), bool)}, r"mask: found shape \(3, 60, 60\)"),
        ({"forecasts": {"m": np.zeros((4, SIDE, 9))}}, r"m: found shape \(4, 60, 9\)"),
        ({"forecasts": {"observed": np.zeros((4, SIDE, SIDE))}}, "another name"),
        ({"observed": np.zeros((SIDE, SIDE))}, "observed: found shape"),
        ({"inputs": np.zeros((2, 5, 5))}, r"inputs: found shape \(2, 5, 5\)"),
        ({"frames_per_second": 0}, "frames per second"),
        ({"step_minutes": 0}, "positive number"),
        ({"issue_time": np.datetime64("NaT")}, "NaT"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_earlier_file_stays(case, tmp_path, change, message):
    path = tmp_path / "a.gif"
    path.write_bytes(b"earlier")
    settings = {"issue_time": ISSUED, "step_minutes": 5}
    with pytest.raises(InputError, match=message):
        write_gif(path, **{**case, **settings, **change})
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.gif"]


def test_a_strip_has_a_row_per_field_and_a_column_per_lead_time(case, tmp_path):
    path = tmp_path / "new" / "strip.png"
    settings = {"issue_time": ISSUED, "step_minutes": 5}
    write_png_strip(path, **case, lead_steps=(1, 4), **settings)
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    fields = [case["observed"], *case["forecasts"].values()]
    (top, first), (_, second) = panel_corners(picture)
    for row, field in enumerate(fields):
        for left, step in ((first, 1), (second, 4)):
            shown = cells(picture, (top + row * (240 + 10), left))
            np.testing.assert_array_equal(shown[:50], expected_colours(field[step - 1])[:50])
    for steps in ((), (0,), (5,)):
        with pytest.raises(InputError, match="within 1 to 4"):
            write_png_strip(path, **case, lead_steps=steps, **settings)
