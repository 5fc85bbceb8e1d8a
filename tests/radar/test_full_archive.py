"""Archives at all real timestamps of HKO-7: the published counts, from the files to the clips.

The frames are tiny; the times are those of the reference data. One archive has the published size
of a frame, so that what is stored can be compared with its files.
"""

import shutil
import zipfile
import zlib
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from made_up import at, write_frame

from nowcast.benchmarks.peak_memory import peak_memory
from nowcast.radar.archive import HKO7Archive, frame_path, mask_path
from nowcast.radar.archive_check import check_archive
from nowcast.radar.archive_files import noise_rule, read_exclude_mask, read_frame, read_mask
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.clips import sequential
from nowcast.radar.store import FrameStore
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

SIDE = 4
PIXELS = [np.full((SIDE, SIDE), value, np.uint8) for value in (0, 60, 71, 255)]
PNGS = [cv2.imencode(".png", pixels)[1].tobytes() for pixels in PIXELS]
MASK = zlib.compress(bytes([1] * (SIDE * SIDE - 1) + [0]))
VALID_CLIPS, VALID_EPISODES = 2_166, 45


def write_years(root, seconds):
    """The frames of each year in a place of its own, odd years in zip files; some have masks.

    Returns how many frames have no mask file.
    """
    without_mask = 0
    by_year = {}
    for second in seconds:
        by_year.setdefault(datetime.fromtimestamp(second, UTC).year, []).append(second)
    for year, own in by_year.items():
        if year % 2:
            with zipfile.ZipFile(root / f"radarPNG_{year}.zip", "w") as frames:
                for number, second in enumerate(own):
                    name = str(frame_path(root, second).relative_to(root))
                    frames.writestr(name, PNGS[number % 4])
        else:
            folder = root / f"part {year}" / "radarPNG"
            for number, second in enumerate(own):
                path = frame_path(folder, second)
                if not number or second // 86_400 != own[number - 1] // 86_400:
                    path.parent.mkdir(parents=True)
                path.write_bytes(PNGS[number % 4])
        if year % 3 == 0:
            without_mask += len(own)
            continue
        with zipfile.ZipFile(root / f"masks {year}.zip", "w", zipfile.ZIP_DEFLATED) as masks:
            for second in own:
                masks.writestr(str(mask_path(root, second).relative_to(root)), MASK)
    return without_mask


def copy_lists(shared, folder, *splits):
    folder.mkdir(parents=True)
    for split in splits:
        shutil.copy(shared / f"hko7/hko7_rainy_{split}_days.txt", folder)


def reference_seconds(shared, split):
    stored = np.load(shared / "hko7/timestamps.npz", allow_pickle=False)[f"rainy_{split}"]
    return stored.astype("datetime64[s]").astype(np.int64)


def assert_valid_is_as_published(check, store, seconds):
    valid = check.splits["valid"]
    assert (valid.days, len(valid.days_without_frames), valid.frames) == (50, 1, 11_736)
    assert valid.frames_unreadable == valid.masks_unreadable == 0
    assert "\nvalid: as published" in str(check)
    times = store.split("valid")[0].times
    np.testing.assert_array_equal(times.astype(np.int64), seconds)
    clips = list(sequential(times))
    assert len(clips) == VALID_CLIPS
    assert sum(new_episode for _, new_episode in clips) == VALID_EPISODES


@pytest.mark.slow
def test_all_valid_times_give_the_published_counts_and_clips(shared, tmp_path):
    seconds = reference_seconds(shared, "valid")
    without_mask = write_years(tmp_path, seconds.tolist())
    copy_lists(shared, tmp_path / "HKO-7/hko_data", "valid")
    check = check_archive(tmp_path, size=SIDE, workers=2)
    assert check.splits["valid"].masks_missing == without_mask > 0
    out = tmp_path / "out.h5"
    report = prepare_hko7(
        tmp_path, out, size=SIDE, downsample_to=None, splits=["valid"], workers=2
    ).splits["valid"]
    assert_valid_is_as_published(check, FrameStore(out), seconds)
    assert (report.frames, report.days, report.masks_by_noise_rule) == (11_736, 50, without_mask)
    on_step = int((seconds % 360 == 0).sum())
    assert report.frames_missing == check.splits["valid"].frames_missing == 50 * 240 - on_step


@pytest.mark.full
def test_all_train_and_valid_times_give_the_published_counts_and_clips(shared, tmp_path):
    seconds = {split: reference_seconds(shared, split) for split in ("train", "valid")}
    every = np.sort(np.concatenate(list(seconds.values())))
    assert len(every) == 203_904
    without_mask = write_years(tmp_path, every.tolist())
    copy_lists(shared, tmp_path / "HKO-7/hko_data", "train", "valid")
    check = check_archive(tmp_path, size=SIDE)
    train = check.splits["train"]
    assert (train.days, len(train.days_without_frames), train.frames) == (812, 4, 192_168)
    assert "\ntrain: as published" in str(check)
    assert train.masks_missing + check.splits["valid"].masks_missing == without_mask
    assert sum(check.places.values()) == 203_904
    assert (check.frames_in_no_list, check.copies, check.unreadable) == (0, 0, ())
    out = tmp_path / "out.h5"
    settings = (f"--root={tmp_path}", f"--out={out}", f"--size={SIDE}", "--downsample_to=null")
    peak = peak_memory(["prepare_data", "hko7", *settings, "--workers=2"])
    assert peak is None or peak < 2**30
    store = FrameStore(out)
    assert_valid_is_as_published(check, store, seconds["valid"])
    times = store.split("train")[0].times
    np.testing.assert_array_equal(times.astype(np.int64), seconds["train"])


@pytest.mark.slow
def test_frames_of_the_published_size_are_checked_and_stored_as_their_files_hold_them(tmp_path):
    root, out = tmp_path / "archive", tmp_path / "out.h5"
    write_archive(
        root,
        SyntheticRain(size=480, seed=3),
        train_days=2,
        valid_days=1,
        test_days=0,
        hours_per_day=1,
    )
    day = sorted((root / "radarPNG_mask/2013/01").iterdir())[0]
    shutil.rmtree(day)
    with zipfile.ZipFile(tmp_path / "frames.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted((root / "radarPNG/2013/01/03").iterdir()):
            zipped.write(path, path.relative_to(root))
    found = {split.name: split for split in HKO7Archive(root).splits.values()}
    frames = {name: [frame.second for frame in split.frames] for name, split in found.items()}
    exclude = read_exclude_mask(root / "mask_dat.npz", 480)
    expected = {}
    for second in frames["train"] + frames["valid"]:
        pixels = read_frame(frame_path(root, second), 480)
        path = mask_path(root, second)
        mask = read_mask(path, 480) if path.exists() else noise_rule(pixels, exclude)
        expected[second] = (pixels, mask)
    shutil.rmtree(root / "radarPNG/2013/01/03")
    (tmp_path / "frames.zip").rename(root / "frames.zip")
    check = check_archive(root, workers=2)
    assert [(split.frames, split.masks_missing) for split in check.splits.values()] == [
        (20, 10),
        (10, 0),
    ]
    assert check.unreadable == ()
    prepare_hko7(root, out, downsample_to=None, workers=2)
    store = FrameStore(out)
    for name, seconds in frames.items():
        sequence = store.split(name)[0]
        clip = store.read(sequence, np.datetime64(seconds[0], "s"), 10)
        assert clip.times.astype(np.int64).tolist() == seconds[:10]
        for number, second in enumerate(seconds[:10]):
            np.testing.assert_array_equal(clip.frames[number], expected[second][0])
            np.testing.assert_array_equal(clip.mask[number], expected[second][1])


def test_frames_between_the_steps_are_counted_as_found_but_fill_no_timestamp(tmp_path):
    for minute in (0, 6, 13, 18):
        write_frame(tmp_path, at(23, 0, minute), np.zeros((SIDE, SIDE), np.uint8))
    split = check_archive(tmp_path, size=SIDE, workers=1).splits["all"]
    assert (split.frames, split.frames_missing) == (4, 237)
