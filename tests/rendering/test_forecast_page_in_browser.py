"""The page of a forecast in a real browser: from the disk, driven by hand, on a phone too."""

import io
import json
import time

import numpy as np
import pytest
from made_up_forecast import forecast, frames, rain, with_probabilities
from page_player import Player
from PIL import Image

from nowcast.rendering import MapLines, write_forecast_page

pytestmark = pytest.mark.slow

INJECTED = "<script>document.title='injected'</script><img src=x onerror=\"document.title='bad'\">"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One panel with lines, and three, every text of which is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    values = np.stack([np.roll(rain(1, 300, 200)[0], 9 * index, 1) for index in range(5)])
    seen = frames(values, top=300_000.0)
    made = forecast(seen, 6)
    texts = {"title": INJECTED, "source": INJECTED, "facts": {INJECTED: "y" * 300}}
    lines = MapLines(coastlines=False, borders=False)
    write_forecast_page(folder / "one.html", made, seen, lines=lines, **texts)
    write_forecast_page(folder / "three.html", with_probabilities(made), seen, **texts)
    return folder


@pytest.fixture
def player(browser, pages):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((pages / "one.html").as_uri())
    player = Player(browser)
    player.pause()
    return player


def set_to(player, selector, value, event="input"):
    """Move a slider, or choose a speed, as a reader does."""
    player.driver.execute_script(
        "arguments[0].value = arguments[1];"
        "arguments[0].dispatchEvent(new Event(arguments[2], {bubbles: true}))",
        player.find(selector),
        str(value),
        event,
    )


def seen_pixels(player):
    """What is seen of the first panel, as rows and columns of red, green, blue."""
    shot = player.find(".frames").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def test_the_slider_changes_the_frame_its_picture_and_its_time(player):
    shown = {}
    for frame in (0, 2, 4):
        set_to(player, "input", frame)
        shown[frame] = (player.shown[0], seen_pixels(player), player.find(".time").text)
    assert len({source for source, _, _ in shown.values()}) == 3
    assert [text.split("   ")[1] for _, _, text in shown.values()] == [
        "observed −020 min", "observed −010 min", "observed 000 min",
    ]  # fmt: skip
    # The block of rain, 8 pixels wide, stands 9 further right in each frame.
    columns = [
        np.flatnonzero((pixels[16] == (22, 60, 135)).all(axis=1)).tolist()
        for _, pixels, _ in shown.values()
    ]
    assert columns == [list(range(1 + 9 * frame, 9 + 9 * frame)) for frame in shown]
    assert not np.array_equal(shown[0][1], shown[4][1])


def test_observed_frames_look_different_from_forecast_ones(player):
    set_to(player, "input", 4)
    time_line = player.find(".time")
    before = time_line.value_of_css_property("font-weight")
    set_to(player, "input", 5)
    assert time_line.text.endswith("forecast +005 min")
    assert (before, time_line.value_of_css_property("font-weight")) == ("400", "600")


def test_opacity_fades_rain_to_the_ground_and_leaves_the_lines(player):
    set_to(player, "input", 4)
    full = seen_pixels(player)
    set_to(player, ".opacity", 50)
    picture = player.find(".frames img:not([hidden])")
    assert float(picture.value_of_css_property("opacity")) == 0.5
    half = seen_pixels(player)
    set_to(player, ".opacity", 0)
    none = seen_pixels(player)
    ground = np.array([251, 251, 249])
    lines = (np.abs(none - ground) > 60).any(axis=2)
    assert 0.001 < lines.mean() < 0.2
    # Nothing but ground, and lines with their smoothed edges, is left of the picture.
    assert (np.abs(none - ground).max(axis=2) <= 1).mean() > 0.9
    calm = (np.abs(none - ground).max(axis=2) <= 1) & (np.abs(full - ground).max(axis=2) > 60)
    assert calm.sum() > 50
    np.testing.assert_allclose(half[calm], (full[calm] + ground) / 2, atol=2)
    # The other frames have it too.
    set_to(player, "input", 1)
    np.testing.assert_allclose(seen_pixels(player), none, atol=1)


def test_play_goes_on_and_faster_where_it_is_asked_to(player):
    set_to(player, "input", 0)
    player.driver.execute_script(
        "const wait = window.setTimeout; window.waits = [];"
        "window.setTimeout = (then, ms) => { window.waits.push(ms); return wait(then, ms); }"
    )
    for speed, wait in (("0.5", 400), ("1", 200), ("4", 50)):
        set_to(player, ".speed", speed, "change")
        player.find(".play").click()
        assert player.driver.execute_script("return window.waits.pop()") == wait
        player.pause()
    set_to(player, "input", 0)
    player.find(".play").click()
    player.wait_for(lambda p: p.frame >= 3)
    player.wait_for(lambda p: p.frame == 0)
    assert player.find(".play").text == "Pause"


def test_keys_of_the_opacity_slider_do_not_move_the_frame(player):
    from selenium.webdriver.common.keys import Keys

    frame = player.frame
    player.find(".opacity").send_keys(Keys.ARROW_LEFT * 2)
    assert player.frame == frame
    assert player.find(".opacity").get_property("value") == "90"


@pytest.mark.parametrize("name", ["one", "three"])
def test_nothing_is_asked_of_anybody_and_the_console_is_silent(browser, pages, name):
    browser.get_log("browser"), browser.get_log("performance")
    page = pages / f"{name}.html"
    browser.get(page.as_uri())
    player = Player(browser)
    set_to(player, ".opacity", 30)
    time.sleep(1.0)
    assert browser.get_log("browser") == []
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    addresses = {
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    }
    assert [one for one in addresses if not one.startswith("data:")] == [page.as_uri()]
    assert browser.title == INJECTED
    assert browser.find_element("css selector", "h1").text == INJECTED


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_phone_shows_it_without_scrolling_sideways_and_fingers_hit_its_controls(
    browser, pages, name
):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get((pages / f"{name}.html").as_uri())
        player = Player(browser)
        player.pause()
        scroll, inner = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert scroll <= inner <= 390
        for control in player.element.find_elements("css selector", "button, select, input"):
            assert min(control.size.values()) >= 44
            assert 0 <= control.location["x"] <= 390 - control.size["width"]
        # The slider for time is long enough to choose among the frames.
        assert player.find("input").size["width"] > 300
        # The lines lie over the picture exactly, in each panel.
        for panel in player.element.find_elements("css selector", ".frames"):
            rectangles = browser.execute_script(
                "return ['img:not([hidden])', '.lines'].map(selector => {"
                "const r = arguments[0].querySelector(selector).getBoundingClientRect();"
                "return [r.x, r.y, r.width, r.height]})",
                panel,
            )
            np.testing.assert_allclose(rectangles[0], rectangles[1], atol=0.1)
            assert rectangles[0][2] > (200 if name == "one" else 140)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
