"""The page on the frame store: its snippets read what the program reads, and it names all there is.

Each snippet runs by itself, beside a store called `rain.h5`.
"""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_up import NUMBERS, SEQUENCES, MadeUpFrames
from made_up_stores import write_compressed

from nowcast.radar.codecs import CODECS
from nowcast.radar.store import FrameStore
from nowcast.radar.units import pixel_to_dbz, pixel_to_rain_rate

PAGE = Path(__file__).parents[2] / "docs/frame_store.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PLAIN, WITH_PLUGIN, BY_HAND, CHECKSUMS = SNIPPETS


class Rain(MadeUpFrames):
    """Frames that compress, with long and short repeats, beside noise that does not."""

    def __call__(self, numbers):
        frames, masks = super().__call__(numbers)
        frames[::2, :4] = frames[::2, :4] // 64 * 50
        frames[1::3] = 0
        masks[::2] = True
        return frames, masks


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(snippet, compression, read=None):
        write_compressed(tmp_path / "rain.h5", compression, read)
        names = {}
        exec(compile(snippet, str(PAGE), "exec"), names)
        return names

    return run


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_h5py_alone_reads_a_store(run, compression):
    found = run(PLAIN, compression)
    frames, masks = MadeUpFrames()(NUMBERS[:30])
    assert found["names"] == ["first place", "second place"]
    assert found["metadata"] == [sequence.metadata for sequence in SEQUENCES]
    np.testing.assert_array_equal(found["times"], SEQUENCES[0].times)
    np.testing.assert_array_equal(found["frames"], frames)
    np.testing.assert_array_equal(found["masks"], masks)
    np.testing.assert_array_equal(found["rain"], FrameStore("rain.h5").sequences[0].rain)
    np.testing.assert_allclose(found["reflectivity_dbz"], pixel_to_dbz(frames / 255), rtol=1e-12)
    np.testing.assert_allclose(
        found["rain_rate_mm_h"], pixel_to_rain_rate(frames / 255), rtol=1e-12
    )


@pytest.mark.parametrize("snippet", [WITH_PLUGIN, BY_HAND], ids=["plugin", "by hand"])
@pytest.mark.parametrize("read", [MadeUpFrames(), Rain()])
def test_a_store_compressed_with_lz4_is_read_with_the_plugin_and_by_hand(run, snippet, read):
    found = run(snippet, "lz4", read)
    store = FrameStore("rain.h5")
    clips = [store.read(s, time, 1) for s in store.sequences for time in s.times]
    np.testing.assert_array_equal(found["frames"], np.concatenate([c.frames for c in clips]))
    np.testing.assert_array_equal(found["masks"], np.concatenate([c.mask for c in clips]))
    assert len(found["frames"]) == len(NUMBERS)


def test_decoding_by_hand_needs_nothing_but_h5py_and_numpy():
    assert set(re.findall(r"^(?:import|from) (\w+)", BY_HAND, re.MULTILINE)) == {"h5py", "numpy"}


def test_lz4_blocks_are_decoded_by_hand_as_by_the_codec(run):
    decode_chunk = run(BY_HAND, "lz4")["decode_chunk"]
    random = np.random.default_rng(0)
    for content in (b"a" * 5000, bytes(random.integers(0, 3, 3000, np.uint8)), b"abc" * 700 + b"d"):
        assert decode_chunk(CODECS["lz4"].encode(content)) == content


@pytest.mark.parametrize("compression", CODECS)
def test_checksums_fit_until_something_changes(run, tmp_path, compression):
    found = run(CHECKSUMS, compression)
    assert (found["damaged"], found["contents_are_whole"]) == ([], True)
    with h5py.File("rain.h5", "r+") as store:
        store["times"][0] -= 360
        store["checksums/frames"][2] += 1
    names = {}
    exec(compile(CHECKSUMS, str(PAGE), "exec"), names)
    assert (names["damaged"], names["contents_are_whole"]) == ([("frames", 2)], False)


def test_the_page_names_every_dataset_and_attribute(tmp_path):
    text, there = PAGE.read_text(), []
    path = write_compressed(tmp_path / "rain.h5", "lz4")
    with h5py.File(path) as store:
        store.visititems(lambda name, item: there.append((name, item)))
        datasets = {f"/{name}" for name, item in there if isinstance(item, h5py.Dataset)}
        attributes = set(store.attrs)
    assert datasets == set(re.findall(r"^\| `(/[\w/]+)` \|", text, re.MULTILINE))
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
    assert attributes == {name for row in rows for name in re.findall(r"\w+", row)}
