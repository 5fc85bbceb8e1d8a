"""The player of a page in a browser, as a reader drives it."""

import time

PATIENCE_S = 10.0


class Player:
    """The first animation of a page."""

    def __init__(self, driver):
        self.driver = driver
        self.element = driver.find_element("css selector", ".player")
        driver.execute_script("arguments[0].scrollIntoView()", self.element)

    def find(self, selector):
        return self.element.find_element("css selector", selector)

    @property
    def frame(self):
        return int(self.find("input").get_property("value"))

    @property
    def shown(self):
        """Addresses of the pictures that are seen."""
        return self.driver.execute_script(
            "return [...arguments[0].querySelectorAll('.frames img')]"
            ".filter(i => i.getClientRects().length).map(i => i.src)",
            self.element,
        )

    def wait_for(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition(self):
            assert time.monotonic() < end, f"waited in vain; frame {self.frame}"
            time.sleep(0.02)

    def pause(self):
        if self.find(".play").text == "Pause":
            self.find(".play").click()
        assert self.find(".play").text == "Play"
