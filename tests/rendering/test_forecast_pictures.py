"""A forecast's GIF, PNG, video and page: each shows the fields that it was given."""

import base64
import io
import json

import av
import numpy as np
import pytest
import xarray as xr
from made_up_forecast import forecast, frames, rain, with_probabilities
from PIL import Image, ImageSequence
from test_animation import COLOURS, cells, frames_of, panel_corners
from test_page import Elements, pixels

import nowcast
from nowcast.errors import InputError
from nowcast.models.persistence import Persistence
from nowcast.rendering import (
    MapLines,
    write_forecast_gif,
    write_forecast_page,
    write_forecast_png,
    write_forecast_video,
)
from nowcast.rendering.palette import (
    GRATICULE,
    NO_COVERAGE,
    NO_COVERAGE_STRIPE,
    PROBABLE,
    rain_rate_classes,
)

HOSTILE = "<script>alert(1)</script>'\"&\x1b\u202e"
ONLY_GRATICULE = MapLines(coastlines=False, borders=False)
SIDE = 60


@pytest.fixture
def seen():
    return frames(rain(3, SIDE, SIDE))


def expected_cells(classes):
    return np.array(COLOURS, np.uint8)[classes]


def test_the_gif_shows_what_was_observed_then_what_is_forecast(seen, tmp_path):
    made = forecast(seen)
    write_forecast_gif(tmp_path / "a.gif", made, seen, title="T", source="S", lines=None)
    shown = frames_of(tmp_path / "a.gif")
    assert len(shown) == 7
    ((top, left),) = panel_corners(shown[0])
    for frame, field in zip(shown, np.concatenate([seen, made["rain_rate"]]), strict=True):
        expected = expected_cells(rain_rate_classes(field))
        np.testing.assert_array_equal(cells(frame, (top, left))[:55], expected[:55])
        hidden = {tuple(colour) for colour in cells(frame, (top, left))[55:].reshape(-1, 3)}
        assert hidden <= {COLOURS[NO_COVERAGE], COLOURS[NO_COVERAGE_STRIPE]}
    with Image.open(tmp_path / "a.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [200] * 6 + [1500]
    assert len({frame[30:60].tobytes() for frame in shown}) == 7  # The times over them.


def test_lines_lie_over_rain_at_the_same_pixels_in_gif_and_page(seen, tmp_path):
    made = with_probabilities(forecast(seen))
    names = ("with", "without")
    for name, lines in zip(names, (ONLY_GRATICULE, None), strict=True):
        write_forecast_gif(tmp_path / f"{name}.gif", made, seen, lines=lines)
        write_forecast_page(tmp_path / f"{name}.html", made, seen, lines=lines)
    over, under = (frames_of(tmp_path / f"{name}.gif") for name in names)
    pages = [Elements((tmp_path / f"{name}.html").read_text("utf-8")) for name in names]
    (line, *others), none = (page.of("img", class_="lines") for page in pages)
    assert none == []
    assert [attrs for attrs, _ in others] == [line[0]] * 2
    overlay = np.asarray(Image.open(_content(line[0])).convert("RGBA"))
    drawn = overlay[..., 3] > 0
    assert {tuple(colour) for colour in overlay[drawn][:, :3]} >= {COLOURS[GRATICULE]}
    (rain_page, _), (bare_page, _) = (
        [page.of("img", decoding="sync"), page.of("input")] for page in pages
    )
    # Rain's own pictures are the same; the lines are a picture over them.
    assert [one[0]["src"] for one in rain_page] == [one[0]["src"] for one in bare_page]
    (top, left), *_ = panel_corners(under[0])
    place = np.s_[top - 1 : top + 241, left - 1 : left + 241]
    for frame, bare in zip(over, under, strict=True):
        expected = np.where(drawn[..., None], overlay[..., :3], bare[place])
        np.testing.assert_array_equal(frame[place], expected)


def _content(attributes):
    return io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))


def test_probabilities_have_panels_that_say_when_they_start(seen, tmp_path):
    made = with_probabilities(forecast(seen))
    write_forecast_gif(tmp_path / "a.gif", made, seen, lines=None)
    shown = frames_of(tmp_path / "a.gif")
    _, *corners = panel_corners(shown[0])
    assert len(corners) == 2
    for corner, entry in zip(corners, (PROBABLE + 8, PROBABLE + 3), strict=True):
        for frame in shown[3:]:
            assert (cells(frame, corner)[:55] == COLOURS[entry]).all()
        blank = cells(shown[0], corner)
        assert (blank[:25] == 255).all()
        assert (blank < 100).any()


def test_the_video_has_the_gifs_frames(seen, tmp_path):
    made = forecast(seen)
    write_forecast_gif(tmp_path / "a.gif", made, seen, title="T", lines=ONLY_GRATICULE)
    write_forecast_video(tmp_path / "a.mp4", made, seen, title="T", lines=ONLY_GRATICULE)
    drawn = frames_of(tmp_path / "a.gif")
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [
            frame.to_ndarray(format="rgb24", src_colorspace="ITU709")
            for frame in container.decode(video=0)
        ]
    assert len(decoded) == 7 + 7  # The last one stays for 1.5 of 0.2 seconds each.
    height, width = drawn[0].shape[:2]
    assert decoded[0].shape == (height + height % 2, width + width % 2, 3)
    for index, frame in enumerate(decoded):
        other = drawn[min(index, 6)].astype(int)
        # Colours have half the resolution, so the edges of what is thin and colourful blur.
        assert np.abs(frame[:height, :width] - other).mean() < 2.0
    with pytest.raises(InputError, match="frames per second"):
        write_forecast_video(tmp_path / "b.mp4", made, seen, frames_per_second=0)


def test_the_png_has_a_column_per_lead_time_and_a_row_per_field(seen, tmp_path):
    made = with_probabilities(forecast(seen, 8))
    made["rain_rate"] *= xr.ones_like(made["lead_time"], np.float32).cumsum()
    write_forecast_png(tmp_path / "a.png", made, lines=None)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    corners = panel_corners(picture)
    assert len(corners) == 4
    for corner, step in zip(corners, (2, 4, 6, 8), strict=True):
        expected = expected_cells(rain_rate_classes(made["rain_rate"][step - 1].to_numpy()))
        np.testing.assert_array_equal(cells(picture, corner)[:55], expected[:55])
    write_forecast_png(tmp_path / "a.png", made, lead_steps=[3])
    assert len(panel_corners(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")))) == 1
    with pytest.raises(InputError, match="within 1 to 8"):
        write_forecast_png(tmp_path / "a.png", made, lead_steps=[9])


def test_the_page_says_what_it_shows_and_escapes_every_text(seen, tmp_path):
    path = tmp_path / "a.html"
    write_forecast_page(
        path, forecast(seen), seen, title=HOSTILE, source=HOSTILE, facts={HOSTILE: HOSTILE}
    )
    page = Elements(path.read_text("utf-8"))
    shown = "<script>alert(1)</script>'\"&"
    for tag in ("title", "h1", "dt", "dd"):
        assert shown in [text for _, text in page.of(tag)]
    assert len(page.of("script")) == 1
    facts = dict(zip((t for _, t in page.of("dt")), (t for _, t in page.of("dd")), strict=True))
    assert facts["issued"] == "2016-09-28 15:55 UTC"
    assert facts["lead times"] == "4, up to +020 min"
    assert facts["grid"] == "60 × 60 pixels"
    # Headings of an evaluation have no place here.
    assert [text for _, text in page.of("h2")] == ["About"]
    assert not page.of("nav")
    (player,) = page.of("section", class_="player")
    assert player[0]["data-frame"] == "3"
    labels = json.loads(player[0]["data-labels"])
    assert labels[0].endswith("observed −010 min")
    assert labels[-1] == "valid 2016-09-28 16:15 UTC   forecast +020 min"
    write_forecast_page(path, forecast(seen))
    page = Elements(path.read_text("utf-8"))
    assert [text for _, text in page.of("h1")] == ["Rain forecast of 2016-09-28 15:55 UTC"]


def test_the_pages_pictures_are_the_fields(seen, tmp_path):
    made = forecast(seen)
    write_forecast_page(tmp_path / "a.html", made, seen)
    images = Elements((tmp_path / "a.html").read_text("utf-8")).of("img", decoding="sync")
    firsts = [int(attrs["data-first"]) for attrs, _ in images]
    # Persistence: what follows the last observed frame is that frame.
    assert firsts == [0, 1, 2]
    for (attrs, _), field in zip(images, seen.to_numpy(), strict=True):
        shown = cells(pixels(_content(attrs).read()), (1, 1))
        np.testing.assert_array_equal(shown[:55], expected_cells(rain_rate_classes(field))[:55])


def test_a_large_grid_is_reduced_with_its_lines(tmp_path):
    """Lines that are drawn for the reduced grid lie over the same ground."""
    values = np.zeros((2, 90, 2600), np.float32)
    values[:, 30:60, 1200:1300] = 8.0
    seen = frames(values, crs="EPSG:4326", spacing=0.01, left=-5, top=50.45, units="degrees")
    made = forecast(seen, 1)
    write_forecast_gif(tmp_path / "a.gif", made, lines=ONLY_GRATICULE)
    (frame,) = frames_of(tmp_path / "a.gif")
    # 2600 / 3 = 866.7 columns, 30 rows; the rain lies between columns 400 and 433.3.
    colour = COLOURS[5]
    wet = (frame[:100] == colour).all(axis=2)
    rows, columns = np.nonzero(wet)
    assert abs((rows.max() - rows.min() + 1) - 10) <= 1
    # The meridian at 20° E is 2500 columns of 0.01° from the left edge, 833 of the reduced ones.
    grey = (frame == COLOURS[GRATICULE]).all(axis=2)
    line = np.flatnonzero(grey[rows.min() : rows.max() + 1].all(axis=0))
    assert np.abs(line - (columns.min() - 400 + 833)).min() <= 1


def test_panels_beside_each_other_are_reduced_further_than_one_alone(tmp_path):
    made = forecast(frames(np.zeros((2, 700, 900), np.float32)), 1)
    widths = []
    for one in (made, with_probabilities(made)):
        write_forecast_gif(tmp_path / "a.gif", one, lines=None)
        widths.append(frames_of(tmp_path / "a.gif")[0].shape[1])
    # Borders, 12 pixels of space at each side and between two.
    assert widths == [900 + 2 * 12, 3 * 450 + 4 * 12]


def test_real_composites_are_shown_whole(shared, tmp_path):
    """Georeferenced, with coverage that ends, as read from the service's file."""
    seen = nowcast.read_frames(shared / "real-radar/events/knmi_20100826.nc").isel(
        time=slice(30, 33)
    )
    made = nowcast.forecast(Persistence(), seen, 2)
    write_forecast_gif(tmp_path / "a.gif", made, seen, lines=None)
    shown = frames_of(tmp_path / "a.gif")
    ((top, left),) = panel_corners_of(shown[0], seen.shape[1:])
    for frame, field in zip(shown, np.concatenate([seen, made["rain_rate"]]), strict=True):
        covered = ~np.isnan(field)
        part = frame[top : top + field.shape[0], left : left + field.shape[1]]
        expected = expected_cells(rain_rate_classes(field))
        np.testing.assert_array_equal(part[covered], expected[covered])
        assert covered.mean() == pytest.approx(0.26, abs=0.02)


def panel_corners_of(frame, shape):
    """Where a panel of a size has its border."""
    border = (frame == COLOURS[NO_COVERAGE_STRIPE + 1]).all(axis=2)
    height, width = shape
    tops = np.flatnonzero(border.sum(axis=1) >= width + 2)
    top = next(row for row in tops if row + height + 1 in tops)
    left = np.flatnonzero(border[top : top + height + 2].all(axis=0))[0]
    return [(int(top) + 1, int(left) + 1)]
