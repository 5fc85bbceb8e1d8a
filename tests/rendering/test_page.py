"""The page: one file, its pictures those of the GIF, everything in it escaped."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageSequence

from nowcast.errors import InputError
from nowcast.rendering import write_gif
from nowcast.rendering.page import write_page
from nowcast.rendering.panels import Animation, animate

ISSUED = np.datetime64("2016-09-28T23:50")
HOSTILE = "<script>alert(1)</script>'\"&\x1b\u202e"
SHOWN = "<script>alert(1)</script>'\"&"


class Elements(HTMLParser):
    """Elements of a page: name, attributes, text directly in them."""

    VOID = ("meta", "link", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self.open.append(self.found[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2].append(data)

    def of(self, tag, **attributes):
        return [
            (attrs, "".join(text))
            for name, attrs, text in self.found
            if name == tag
            and all(attrs.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    observed = rng.uniform(0, 0.8, (3, 40, 30)).astype(np.float32)
    mask = np.ones(observed.shape, bool)
    mask[:, 35:] = False
    return {
        "observed": observed,
        "forecasts": {"persistence": observed[[0, 0, 0]], "net": observed[::-1].copy()},
        "mask": mask,
        "inputs": rng.uniform(0, 0.8, (2, 40, 30)).astype(np.float32),
        "issue_time": ISSUED,
        "step_minutes": 5,
    }


def written(path, **content):
    write_page(path, **{"title": "Rain", "facts": {"split": "test"}, **content})
    return Elements(path.read_text(encoding="utf-8"))


def png(width=3, height=2):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def cell(text, interval="", p_value="", best=False):
    return {"text": text, "interval": interval, "p_value": p_value, "best": best}


def table(title="CSI", name="net"):
    rows = [{"name": name, "cells": [cell("0.5", "0.4–0.6", "p 0.01", True), cell("–")]}]
    return {"title": title, "columns": ["≥0.5", "≥2"], "rows": rows, "notes": ["a note"]}


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_panels_are_the_pictures_that_the_gif_shows(case, tmp_path):
    made = animate(**case, title="T", source="S")
    write_gif(tmp_path / "a.gif", **case)
    with Image.open(tmp_path / "a.gif") as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    assert [panel.name for panel in made.panels] == ["observed", "persistence", "net"]
    assert made.issue_frame == 2
    assert len(made.frame_labels) == len(made.durations_ms) == len(frames) == 5
    first = pixels(made.panels[0].pictures[0])
    tops = [
        (y, x)
        for y in range(frames[0].shape[0] - first.shape[0])
        for x in range(frames[0].shape[1] - first.shape[1])
        if (frames[0][y, x : x + first.shape[1]] == first[0]).all()
        and (frames[0][y : y + first.shape[0], x] == first[:, 0]).all()
        and (frames[0][y : y + first.shape[0], x : x + first.shape[1]] == first).all()
    ]
    ((top, left),) = tops
    for number, panel in enumerate(made.panels):
        start = left + number * (first.shape[1] - 2 + 12)
        for index, frame in enumerate(frames):
            place = max(n for n, at in enumerate(panel.first_frames) if at <= index)
            shown = pixels(panel.pictures[place])
            part = frame[top : top + shown.shape[0], start : start + shown.shape[1]]
            np.testing.assert_array_equal(part, shown)


def test_a_picture_that_stays_is_there_once(case):
    _, persistence, net = animate(**case).panels
    # "Forecast from …" while inputs are shown, then one picture for all lead times.
    assert persistence.first_frames == (0, 2)
    assert net.first_frames == (0, 2, 3, 4)
    assert animate(**case).frame_labels[2].endswith("lead time +005 min")


def test_the_page_holds_all_pictures_and_shows_the_first_lead_time(case, tmp_path):
    made = animate(**case, title="T", source="S")
    page = written(tmp_path / "new" / "a.html", animations=[made])
    images = page.of("img", decoding="sync")
    sources = [attrs["src"] for attrs, _ in images]
    expected = [picture for panel in made.panels for picture in panel.pictures]
    assert [base64.b64decode(source.split(",")[1]) for source in sources] == expected
    firsts = [at for panel in made.panels for at in panel.first_frames]
    assert [int(attrs["data-first"]) for attrs, _ in images] == firsts
    shown = [attrs for attrs, _ in images if "hidden" not in attrs]
    assert [attrs["data-first"] for attrs in shown] == ["2", "2", "2"]
    assert {attrs["width"] for attrs in shown} == {"182"}
    (player,) = page.of("section", class_="player")
    assert player[0]["data-frame"] == "2"
    (slider,) = page.of("input")
    assert (slider[0]["max"], slider[0]["value"]) == ("4", "2")
    # Without scripts, controls would do nothing.
    assert "hidden" in page.of("div", class_="controls")[0][0]


def test_tables_facts_notes_and_plots_are_on_the_page(tmp_path):
    page = written(
        tmp_path / "a.html",
        notes=["how to read"],
        tables=[table()],
        event_tables=[table("by event")],
        plots={"Curves": png(7, 5)},
    )
    assert [text for _, text in page.of("td")] == ["0.5", "–"] * 2
    assert [text for _, text in page.of("small")] == ["0.4–0.6", "p 0.01"] * 2
    assert len(page.of("td", class_="best")) == 2
    assert ({}, "split") in page.of("dt")
    assert ({}, "test") in page.of("dd")
    notes = [text for _, text in page.of("p", class_="note")]
    assert notes[:1] + notes[2:] == ["how to read", "a note", "a note"]
    assert [text for _, text in page.of("summary")] == ["by event"]
    (image,) = page.of("img")
    assert (image[0]["width"], image[0]["height"], image[0]["alt"]) == ("7", "5", "Curves")


def test_every_text_from_outside_is_shown_as_text(case, tmp_path):
    case["forecasts"] = {HOSTILE: case["observed"]}
    made = animate(**case, title=HOSTILE, source=HOSTILE)
    odd = table(HOSTILE, HOSTILE)
    odd["columns"] = odd["notes"] = [HOSTILE]
    odd["rows"][0]["cells"] = [cell(HOSTILE, HOSTILE, HOSTILE)]
    page = written(
        tmp_path / "a.html", title=HOSTILE, facts={HOSTILE: HOSTILE}, notes=[HOSTILE],
        tables=[odd], event_tables=[odd], plots={HOSTILE: png()}, animations=[made],
    )  # fmt: skip
    plain = written(
        tmp_path / "b.html", title="t", facts={"f": "f"}, notes=["n"], tables=[table()],
        event_tables=[table()], plots={"p": png()}, animations=[made],
    )  # fmt: skip
    for tag in ("script", "style", "img", "section", "table"):
        assert len(page.of(tag)) == len(plain.of(tag))
    assert len(page.of("script")) == 1
    for tag in ("title", "h1", "dt", "dd", "h3", "summary", "figcaption", "small"):
        assert SHOWN in [text for _, text in page.of(tag)]
    allowed = {
        "lang", "charset", "http-equiv", "content", "name", "rel", "href", "id", "class", "src",
        "width", "height", "alt", "tabindex", "role", "aria-label", "data-labels",
        "data-durations", "data-frame", "data-first", "decoding", "hidden", "type", "min", "max",
        "value", "step", "scope",
    }  # fmt: skip
    assert {name for _, attrs, _ in page.found for name in attrs} <= allowed


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_from_elsewhere(
    case, tmp_path
):
    made = animate(**case)
    page = written(tmp_path / "a.html", plots={"p": png()}, animations=[made])
    (policy,) = [
        attrs["content"]
        for attrs, _ in page.of("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        ((attrs, text),) = page.of(tag)
        assert attrs == {}
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    addresses = [
        attrs[name] for _, attrs, _ in page.found for name in ("src", "href") if name in attrs
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?:", page.of("style")[0][1] + page.of("script")[0][1])


@pytest.mark.parametrize(("side", "megabytes"), [(120, 0.6), (480, 3.4)])
def test_a_page_with_an_animation_stays_small(tmp_path, side, megabytes):
    """Twenty frames in four panels, with more detail than rain has: bands that move and noise."""
    rng = np.random.default_rng(0)
    x = np.arange(side) / side
    fields = np.stack(
        [0.3 + 0.2 * np.sin(9 * (x[None] + x[:, None] * 0.7 - t / 20)) for t in range(20)]
    )
    fields = (fields + rng.normal(0, 0.01, fields.shape)).astype(np.float32)
    case = {name: np.roll(fields, shift, 2) for shift, name in enumerate(("a", "b", "c"))}
    made = animate(fields, case, issue_time=ISSUED, step_minutes=6)
    written(tmp_path / "a.html", animations=[made])
    size = (tmp_path / "a.html").stat().st_size
    assert 0.05e6 < size < megabytes * 1e6


def test_what_is_no_picture_is_refused_and_the_earlier_page_stays(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("earlier")
    with pytest.raises(InputError, match="Curves: found 4 bytes that are no PNG file"):
        write_page(path, title="t", facts={}, plots={"Curves": b"GIF8"})
    empty = Animation("t", "s", (), (), 0, (), png())
    with pytest.raises(InputError, match="an animation without frames"):
        write_page(path, title="t", facts={}, animations=[empty])
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.html"]
