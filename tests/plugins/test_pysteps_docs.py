"""The page on pysteps and mlcast: its snippets run one after another, on KNMI's own files."""

import re
from pathlib import Path

import numpy as np
import pytest

from nowcast.plugins import register

pysteps = pytest.importorskip("pysteps", reason="pysteps is not installed")

PAGE = Path(__file__).parents[2] / "docs/pysteps.md"
PYSTEPS, MLCAST = PAGE.read_text(encoding="utf-8").split("\n## mlcast\n")


def snippets(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names(shared, tmp_path_factory):
    """What the snippets on pysteps leave behind."""
    register()
    folder = tmp_path_factory.mktemp("pysteps")
    (folder / "data").mkdir()
    (folder / "data/knmi").symlink_to(shared / "real-radar/original/knmi_hdf5")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        parts = snippets(PYSTEPS)
        assert len(parts) == 4
        for part in parts:
            exec(compile(part, str(PAGE), "exec"), names)
    return names


def test_the_snippets_on_pysteps_run(names):
    assert names["forecast"].shape == names["blended"].shape == (12, 765, 700)
    assert names["soon"].shape == (3, 765, 700)
    assert names["in_db"]["transform"] == "dB"
    assert np.nanmin(names["soon"]) == -15
    assert (names["forecast"] > 0.1).mean() > 0.02
    assert 0 < names["scores"]["CSI"] < 1
    assert names["ensemble"].shape == (5, 6, 765, 700)
    assert 0 < names["crps"] < np.nanmean(names["rain"][-1])
    # After 40 minutes the model alone.
    assert (names["blended"][:3] > 0).any()
    assert not names["blended"][8:].any()
    assert names["metadata"]["x2"] == 700_000  # Read by our importer, in metres.


def test_the_snippets_on_mlcast_run(names):
    pytest.importorskip("mlcast.nowcasting_module", reason="mlcast is not installed")
    predicting, inhibiting = snippets(MLCAST)
    names = dict(names)
    names["rates"] = names["rates"][:, 300:450, 250:400]
    exec(compile(predicting, str(PAGE), "exec"), names)
    assert names["members"].shape == (1, 12, 150, 150)
    assert np.isfinite(names["members"]).all()
    exec(compile(inhibiting, str(PAGE), "exec"), names)
    assert len(names["layers"]) == 6


def test_the_page_names_every_method_and_keyword():
    from nowcast.plugins.pysteps_entry import METHODS
    from nowcast.plugins.pysteps_nowcasts import FieldKeywords

    assert re.findall(r"^\| `(\w+)` \|", PYSTEPS, re.MULTILINE) == list(METHODS)
    for keyword in FieldKeywords.__annotations__:
        assert f"`{keyword}=" in PYSTEPS, keyword
