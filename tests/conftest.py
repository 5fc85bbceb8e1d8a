"""What tests of all rooms share."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# `make test-full` chooses it: many more examples of every property and of all that is fuzzed.
settings.register_profile("long", max_examples=3_000, deadline=None)

# Minutes each. Where processes share the files out, none of these may be what is left in the end.
LONGEST = ("test_demo.py", "test_readme.py", "memel.ipynb", "quickstart.ipynb")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run tests marked `full`, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        full = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in full]
        config.hook.pytest_deselected(items=full)
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        items.sort(key=_starts)


def _starts(item):
    """Place of an item's file in the order in which processes take files."""
    name = item.path.name
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the oracles, HKO-7 facts and real radar; tests that need it skip without it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("NOWCAST_SHARED", default))
    if not (folder / "oracles").is_dir():
        pytest.skip(
            f"no reference data at {folder}; set NOWCAST_SHARED to the folder that holds it"
        )
    return folder


FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--window-size=1200,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A real browser, for tests of pages."""
    programs = {
        "Chromium": [
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ],
        "chromedriver": [found for found in [shutil.which("chromedriver")] if found],
    }
    if missing := [name for name, found in programs.items() if not found]:
        reason = f"{' and '.join(missing)} not found; apt-get install chromium chromium-driver"
        if os.environ.get("NOWCAST_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs["Chromium"][0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"][0]))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
