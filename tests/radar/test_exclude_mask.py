"""The pixels that never count, from an archive's static masks through the store."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_up import SIZE, at, write, write_frame

from nowcast.errors import InputError
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.static_mask import (
    coarse_exclude_mask,
    exclude_mask_as_text,
    exclude_mask_from_text,
)
from nowcast.radar.store import FrameStore

PAGE = Path(__file__).parents[2] / "docs/frame_store.md"
READING = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]

EXCLUDE = np.random.default_rng(3).random((SIZE, SIZE)) < 0.4


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    random = np.random.default_rng(0)
    for minute in range(0, 60, 6):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        write_frame(root, at(23, 0, minute), frame)
    np.savez(root / "mask_dat.npz", exclude_mask=EXCLUDE.astype(np.uint8))
    return root


@pytest.mark.parametrize("crop_to", [None, 10])
def test_a_store_keeps_the_static_mask_cropped_and_pixel_by_pixel(archive, tmp_path, crop_to):
    prepare_hko7(
        archive, tmp_path / "s.h5", size=SIZE, crop_to=crop_to, downsample_to=None, workers=1
    )
    found = FrameStore(tmp_path / "s.h5").exclude_mask
    inner = slice(1, 11) if crop_to else slice(None)
    np.testing.assert_array_equal(found, EXCLUDE[inner, inner])
    assert found.dtype == bool


def test_a_coarse_pixel_is_left_out_if_fewer_than_half_of_its_own_are_in(archive, tmp_path):
    prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=6, workers=1)
    store = FrameStore(tmp_path / "s.h5")
    left_out = EXCLUDE.reshape(6, 2, 6, 2).sum(axis=(1, 3))
    assert {2, 3} <= set(left_out.ravel().tolist())  # Half and fewer than half both occur.
    np.testing.assert_array_equal(store.exclude_mask, left_out > 2)
    # What is left out of every frame by the masks that the noise rule made is left out here, too.
    clip = store.read(store.sequences[0], store.sequences[0].times[0], 10)
    assert not clip.mask[:, store.exclude_mask].any()


def test_the_published_mask_survives_at_both_resolutions(shared):
    exclude = np.load(shared / "hko7/mask_dat.npz", allow_pickle=False)["exclude_mask"] != 0
    coarse = coarse_exclude_mask(exclude, 480, 4)
    np.testing.assert_array_equal(coarse, exclude.reshape(120, 4, 120, 4).sum(axis=(1, 3)) > 8)
    for mask in (exclude, coarse):
        text = exclude_mask_as_text(mask)
        assert len(text) < 5_000
        np.testing.assert_array_equal(exclude_mask_from_text(text, mask.shape), mask)


def test_the_page_says_how_to_read_it_with_h5py_alone(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_hko7(archive, "rain.h5", size=SIZE, downsample_to=6, compression="gzip", workers=1)
    names = {}
    exec(compile(READING, str(PAGE), "exec"), names)
    np.testing.assert_array_equal(names["excluded"], FrameStore("rain.h5").exclude_mask)


def test_preparing_twice_gives_the_same_bytes(archive, tmp_path):
    for name in ("a.h5", "b.h5"):
        prepare_hko7(archive, tmp_path / name, size=SIZE, downsample_to=6, workers=1)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_stores_without_static_masks_have_none(archive, tmp_path):
    (archive / "mask_dat.npz").unlink()
    prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=6, workers=1)
    assert FrameStore(tmp_path / "s.h5").exclude_mask is None
    write(tmp_path / "other.h5")
    assert "exclude_mask" not in FrameStore(tmp_path / "other.h5").preparation
    assert FrameStore(tmp_path / "other.h5").exclude_mask is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (7, "found exclude_mask 7, expected text"),
        ("näh", "unreadable exclude_mask"),
        ("AAAA", "unreadable exclude_mask"),
        (exclude_mask_as_text(np.ones((6, 8), bool)), "another size than the frames"),
        (exclude_mask_as_text(np.ones((6_000, 8_000), bool)), "another size than the frames"),
        (exclude_mask_as_text(np.ones((6, 13), bool))[:-8], "another size|unreadable"),
    ],
)
def test_what_is_no_mask_of_the_frames_is_refused_by_the_stores_name(tmp_path, text, found):
    path = tmp_path / "s.h5"
    write(path)
    store = FrameStore(path)
    store.preparation["exclude_mask"] = text
    with pytest.raises(InputError, match=found) as raised:
        _ = store.exclude_mask
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_it_stands_in_the_preparation_as_text(archive, tmp_path):
    prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=6, workers=1)
    with h5py.File(tmp_path / "s.h5") as file:
        kept = json.loads(file.attrs["preparation"])["exclude_mask"]
    np.testing.assert_array_equal(
        exclude_mask_from_text(kept, (6, 6)), FrameStore(tmp_path / "s.h5").exclude_mask
    )
