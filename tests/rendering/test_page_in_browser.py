"""The page in a real browser: it plays, it can be driven, it asks nobody for anything.

Needs Chromium and its driver from the system's packages. Where NOWCAST_REQUIRE_BROWSER is 1 their
absence is a failure.
"""

import io
import json
import time

import numpy as np
import pytest
from page_player import PATIENCE_S, Player
from PIL import Image

from nowcast.rendering.page import write_page
from nowcast.rendering.panels import animate

pytestmark = pytest.mark.slow

INJECTED = "<script>document.title='injected'</script><img src=x onerror=\"document.title='bad'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with two animations, plots and wide tables, every text of which is hostile."""
    rng = np.random.default_rng(0)
    observed = rng.uniform(0, 0.8, (6, 40, 40)).astype(np.float32)
    case = {
        "observed": observed,
        "forecasts": {INJECTED: observed[::-1].copy(), "persistence": observed[[0] * 6],
                      "net": observed + 0.1},
        "inputs": rng.uniform(0, 0.8, (2, 40, 40)).astype(np.float32),
        "issue_time": np.datetime64("2016-09-28T23:50"),
        "step_minutes": 5,
        "frames_per_second": 10.0,
        "title": INJECTED,
        "source": INJECTED,
    }  # fmt: skip
    stream = io.BytesIO()
    Image.new("RGB", (1500, 400), "white").save(stream, "PNG")
    cells = [{"text": "12,345.6", "interval": INJECTED, "p_value": "p 0.01", "best": True}] * 12
    table = {
        "title": INJECTED, "columns": [INJECTED] * 12, "notes": [INJECTED],
        "rows": [{"name": INJECTED, "cells": cells}, {"name": "x" * 200, "cells": cells}],
    }  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(
        path,
        title=INJECTED,
        facts={INJECTED: INJECTED, "long": "y" * 300},
        notes=[INJECTED],
        tables=[table],
        event_tables=[table],
        plots={INJECTED: stream.getvalue()},
        animations=[animate(**case), animate(**case)],
    )
    return path


@pytest.fixture
def player(browser, page):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(page.as_uri())
    return Player(browser)


def test_the_animation_plays_by_itself_and_begins_anew_after_the_last_frame(player):
    player.wait_for(lambda p: p.find(".play").text == "Pause")
    seen, pictures = set(), set()

    def all_seen(one):
        seen.add(one.frame)
        pictures.update(one.shown[:1])
        return seen == set(range(8)) and len(pictures) == 8

    player.wait_for(all_seen)


def test_pause_stops_it_and_play_goes_on(player):
    player.pause()
    frame, pictures = player.frame, player.shown
    assert len(pictures) == 4
    time.sleep(0.5)
    assert (player.frame, player.shown) == (frame, pictures)
    player.find(".play").click()
    player.wait_for(lambda p: p.frame != frame)


def test_buttons_slider_and_keys_choose_the_frame_and_the_label_says_which(player):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    player.pause()
    player.element.send_keys(Keys.HOME)
    assert player.frame == 0
    assert player.find(".time").text.endswith("input −005 min")
    first = player.shown
    player.find(".forward").click()
    assert player.frame == 1
    player.element.send_keys(Keys.ARROW_RIGHT)
    assert player.frame == 2
    assert player.find(".time").text.startswith("valid 2016-09-28 23:55 UTC")
    assert player.shown[0] != first[0]
    player.find(".back").click()
    player.element.send_keys(Keys.ARROW_LEFT * 2)
    assert player.frame == 7  # Round the end.
    player.find("input").send_keys(Keys.ARROW_LEFT)
    assert player.frame == 6
    player.element.send_keys(Keys.END)
    assert player.find(".time").text.endswith("lead time +030 min")
    last = player.shown
    slider = player.find("input")
    half = slider.size["width"] // 2
    ActionChains(player.driver).move_to_element_with_offset(
        slider, half - 8, 0
    ).click_and_hold().move_by_offset(-half, 0).release().perform()
    assert player.frame in (3, 4)
    assert player.shown != last
    player.element.send_keys(Keys.SPACE)
    player.wait_for(lambda p: p.find(".play").text == "Pause" and p.frame not in (3, 4))
    player.find(".play").send_keys(Keys.SPACE)
    assert player.find(".play").text == "Play"


def test_pictures_are_decoded_and_of_their_size(player):
    player.pause()
    sizes = player.driver.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight,"
        " i.width > 0 || i.closest('details') !== null || i.hidden])"
    )
    assert len(sizes) > 20
    assert all(complete and width and height and seen for complete, width, height, seen in sizes)
    picture = player.find(".frames img:not([hidden])")
    shot = np.asarray(Image.open(io.BytesIO(picture.screenshot_as_png)).convert("RGB"))
    # More than one colour of rain is seen, not an empty frame.
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 8


def test_only_the_animation_in_view_plays(player):
    driver = player.driver
    second = driver.find_elements("css selector", ".player")[1]
    driver.execute_script("document.querySelector('h1').scrollIntoView()")
    time.sleep(0.3)
    frames = driver.execute_script(
        "return [...document.querySelectorAll('.player input')].map(i => i.value)"
    )
    time.sleep(0.5)
    assert frames == driver.execute_script(
        "return [...document.querySelectorAll('.player input')].map(i => i.value)"
    )
    driver.execute_script("arguments[0].scrollIntoView()", second)
    end = time.monotonic() + PATIENCE_S
    while second.find_element("css selector", "input").get_property("value") == frames[1]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_reader_who_wants_little_motion_sees_the_first_lead_time_at_rest(browser, page):
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        browser.get(page.as_uri())
        player = Player(browser)
        time.sleep(0.5)
        assert (player.frame, player.find(".play").text) == (2, "Play")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_is_asked_of_anybody_nothing_injected_runs_and_the_console_is_silent(browser, page):
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    time.sleep(1.0)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.get_log("browser") == []
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    addresses = {
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    }
    assert page.as_uri() in addresses
    assert [one for one in addresses - {page.as_uri()} if not one.startswith("data:")] == []
    assert not [one for one in messages if one["method"].startswith("Network.webSocket")]
    assert browser.title == INJECTED
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.find_element("css selector", "h1").text == INJECTED
    for selector in ("dd", "td small", "tbody th", "figcaption", ".player h3", "summary", "h3"):
        assert browser.find_element("css selector", selector).text == INJECTED


def test_the_policy_refuses_scripts_and_addresses_that_are_not_the_pages_own(browser, page):
    """That the console is silent above says something only if it speaks here."""
    browser.get(page.as_uri())
    browser.get_log("browser")
    title = browser.title
    browser.execute_script(
        "const script = document.createElement('script');"
        "script.textContent = \"document.title = 'ran'\";"
        "document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src="http://127.0.0.1:9/x.png" onerror="document.title=1">\');'
    )
    time.sleep(0.5)
    assert browser.title == title
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert len([one for one in said if "Content Security Policy" in one]) >= 2


@pytest.mark.parametrize("width", [390, 820, 1200])
def test_the_body_never_scrolls_sideways(browser, page, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(page.as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        scroll, inner = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert scroll <= inner <= width
        # What is wider scrolls by itself, and what a finger has to hit is large enough.
        wide = browser.find_element("css selector", ".scroll")
        assert int(wide.get_property("scrollWidth")) > int(wide.get_property("clientWidth"))
        for button in browser.find_elements("css selector", ".player:first-of-type button"):
            assert min(button.size.values()) >= 44
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
