"""Preparing an archive: what is in its store, and that a wrong input leaves no half-written one."""

from datetime import UTC, datetime

import numpy as np
import pytest
from made_up import SIZE, at, write_frame

from nowcast.errors import InputError
from nowcast.radar.archive import frame_path, mask_path
from nowcast.radar.archive_files import read_frame, read_mask
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.store import FrameStore


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    random = np.random.default_rng(0)
    for minute in range(0, 60, 6):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        mask = random.random((SIZE, SIZE)) < 0.7 if minute != 30 else None
        write_frame(root, at(23, 0, minute), frame, mask)
    (root / "hko7_rainy_train_days.txt").write_text("20150523, 12.5\n20150524, 1\n")
    np.savez(root / "mask_dat.npz", exclude_mask=np.eye(SIZE, dtype=np.uint8))
    return root


@pytest.mark.parametrize("downsample_to", [None, 120])
def test_reference_archive_is_stored_frame_by_frame(shared, tmp_path, downsample_to):
    root = shared / "oracles/archive"
    report = prepare_hko7(root, tmp_path / "hko7.h5", downsample_to=downsample_to, workers=1)
    train = report.splits["train"]
    assert (train.frames, train.frames_missing, train.days) == (66, 654, 3)
    assert train.days_without_frames == ("2010-06-02",)
    assert (report.splits["valid"].frames, train.masks_by_noise_rule) == (33, 0)
    expected = np.load(root / "expected.npz", allow_pickle=False)
    store = FrameStore(tmp_path / "hko7.h5", step_minutes=6)
    sequence = store.split("train")[0]
    np.testing.assert_array_equal(sequence.times, expected["times"])
    clips = [store.read(sequence, when, 1) for when in sequence.times]
    if downsample_to is None:
        assert [int(clip.frames.sum()) for clip in clips] == expected["frames_sum"].tolist()
        assert [int(clip.mask.sum()) for clip in clips] == expected["masks_sum"].tolist()
        np.testing.assert_array_equal(clips[-1].frames[0], expected["last_frame"])
        return
    mask = np.unpackbits(expected["last_mask"], axis=-1).astype(bool)
    counted = mask.reshape(120, 4, 120, 4).sum(axis=(1, 3))
    total = (expected["last_frame"] * mask.astype(float)).reshape(120, 4, 120, 4).sum(axis=(1, 3))
    np.testing.assert_array_equal(clips[-1].mask[0], counted >= 8)
    average = np.where(counted >= 8, total / np.maximum(counted, 1), 0)
    np.testing.assert_allclose(clips[-1].frames[0], average, rtol=0, atol=0.5 + 1e-9)


def test_a_crop_is_the_middle_of_the_frame_and_a_missing_mask_the_noise_rule(archive, tmp_path):
    report = prepare_hko7(
        archive, tmp_path / "s.h5", size=SIZE, crop_to=6, downsample_to=None, workers=1
    )
    assert report.splits["train"].masks_by_noise_rule == 1
    store = FrameStore(tmp_path / "s.h5")
    assert store.shape == (6, 6)
    sequence = store.split("train")[0]
    for when in sequence.times:
        clip = store.read(sequence, when, 1)
        second = int(when.astype(int))
        frame = read_frame(frame_path(archive, second), SIZE)
        if second == at(23, 0, 30):
            mask = ((frame == 0) | (frame >= 71)) & ~np.eye(SIZE, dtype=bool)
        else:
            mask = read_mask(mask_path(archive, second), SIZE)
        np.testing.assert_array_equal(clip.frames[0], frame[3:9, 3:9])
        np.testing.assert_array_equal(clip.mask[0], mask[3:9, 3:9])


def test_the_same_preparation_again_does_nothing_and_another_is_refused(archive, tmp_path):
    out = tmp_path / "s.h5"
    first = prepare_hko7(archive, out, size=SIZE, downsample_to=6, workers=1)
    modified = out.stat().st_mtime_ns
    again = prepare_hko7(archive, out, size=SIZE, downsample_to=6, workers=1)
    assert (first.already_there, again.already_there) == (False, True)
    assert out.stat().st_mtime_ns == modified
    assert again.splits == first.splits
    with pytest.raises(InputError, match=r"s\.h5: found a frame store made from other frames"):
        prepare_hko7(archive, out, size=SIZE, downsample_to=4, workers=1)
    anew = {"size": SIZE, "downsample_to": 4, "workers": 1, "overwrite": True}
    prepare_hko7(archive, out, **anew)
    assert FrameStore(out).shape == (4, 4)
    whole = out.read_bytes()
    out.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not prepare_hko7(archive, out, **anew).already_there
    assert out.read_bytes() == whole
    with pytest.raises(InputError, match=r"s\.h5: found a frame store made from other frames"):
        prepare_hko7(archive, out, **anew | {"compression": "gzip", "overwrite": False})


@pytest.mark.parametrize(
    ("wrong", "workers"), [("mask", 1), ("mask", 2), ("png", 1), ("png", 2), ("days", 1)]
)
def test_a_wrong_file_is_named_and_no_store_appears_until_it_is_repaired(
    archive, tmp_path, wrong, workers
):
    path = {
        "mask": mask_path(archive, at(23, 0, 48)),
        "png": frame_path(archive, at(23, 0, 48)),
        "days": archive / "hko7_rainy_train_days.txt",
    }[wrong]
    whole = path.read_bytes()
    if wrong == "png":
        write_frame(archive, at(23, 0, 48), np.zeros((SIZE, SIZE + 1), np.uint8))
    else:
        path.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out" / "s.h5"
    with pytest.raises(InputError) as raised:
        prepare_hko7(archive, out, size=SIZE, downsample_to=6, workers=workers)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial*"))
    path.write_bytes(whole)
    prepare_hko7(archive, out, size=SIZE, downsample_to=6, workers=workers)
    assert [left.name for left in out.parent.iterdir()] == ["s.h5"]


def test_sizes_that_do_not_fit_are_refused(archive, tmp_path):
    for wrong in ({"downsample_to": 5}, {"crop_to": 13}, {"crop_to": 5, "downsample_to": 2}):
        with pytest.raises(InputError, match="expected"):
            prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, **wrong)
    with pytest.raises(InputError, match="no frame of valid"):
        prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=6, splits=["valid"])
    assert not (tmp_path / "s.h5").exists()


def test_times_in_a_store_are_utc(archive, tmp_path):
    prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=6, workers=1)
    first = FrameStore(tmp_path / "s.h5").sequences[0].times[0]
    assert first.astype(int) == datetime(2015, 5, 23, tzinfo=UTC).timestamp()
