"""The HKO-7 archive: the reference archive to the byte, day lists, steps and what is missing."""

import numpy as np
import pytest
from made_up import SIZE, at, write_frame

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive, frame_path, mask_path
from nowcast.radar.archive_files import (
    noise_rule,
    read_day_list,
    read_exclude_mask,
    read_frame,
    read_mask,
)


@pytest.fixture
def archive(tmp_path):
    """Four frames on two days, the second day's without masks."""
    random = np.random.default_rng(0)
    for second in (at(23), at(23, 0, 6), at(25), at(25, 23, 54)):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        mask = random.random((SIZE, SIZE)) < 0.8 if second < at(24) else None
        write_frame(tmp_path, second, frame, mask)
    (tmp_path / "hko7_rainy_train_days.txt").write_text(
        "20150525, 1\n20150523, 12.5\n20150524, 0.0\n"
    )
    return tmp_path


def test_reference_archive_is_read_to_the_byte(shared):
    root = shared / "oracles/archive"
    expected = np.load(root / "expected.npz", allow_pickle=False)
    archive = HKO7Archive(root)
    train = archive.splits["train"]
    np.testing.assert_array_equal(train.times, expected["times"])
    assert train.days_without_frames == ("2010-06-02",)
    assert (len(train.frames), train.frames_missing) == (66, 3 * 240 - 66)
    assert list(archive.splits) == ["train", "valid"]
    np.testing.assert_array_equal(archive.splits["valid"].times, expected["times"][33:])
    frames = [read_frame(frame_path(root, frame.second), 480) for frame in train.frames]
    masks = [read_mask(mask_path(root, frame.second), 480) for frame in train.frames]
    assert [int(frame.sum()) for frame in frames] == expected["frames_sum"].tolist()
    assert [int(mask.sum()) for mask in masks] == expected["masks_sum"].tolist()
    for number, name in ((0, "first"), (-1, "last")):
        np.testing.assert_array_equal(frames[number], expected[f"{name}_frame"])
        packed = np.packbits(masks[number], axis=-1)
        np.testing.assert_array_equal(packed, expected[f"{name}_mask"])


def test_noise_rule_reproduces_the_authors_masks(shared):
    root = shared / "oracles/archive"
    exclude = read_exclude_mask(root / "mask_dat.npz", 480)
    bounds_seen = set()
    for frame_file in HKO7Archive(root).splits["train"].frames:
        frame = read_frame(frame_path(root, frame_file.second), 480)
        np.testing.assert_array_equal(
            noise_rule(frame, exclude), read_mask(mask_path(root, frame_file.second), 480)
        )
        bounds_seen |= {0, 70, 71} & set(np.unique(frame[~exclude]).tolist())
    assert bounds_seen == {0, 70, 71}


def test_published_day_lists_are_read(shared):
    train = read_day_list(shared / "hko7/hko7_rainy_train_days.txt")
    assert len(train) == 812
    assert train[0] == "2009-02-15"
    assert list(train) == sorted(train)
    assert len(read_day_list(shared / "hko7/hko7_rainy_valid_days.txt")) == 50
    times = np.load(shared / "hko7/timestamps.npz", allow_pickle=False)["rainy_train"]
    assert set(times.astype("datetime64[D]").astype(str)) < set(train)


def test_a_day_list_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "hko7_rainy_test_days.txt"
    path.write_bytes("\ufeff20150523, 12.5\r\n".encode())
    assert read_day_list(path) == ("2015-05-23",)


def test_a_day_without_frames_is_logged(archive, caplog):
    HKO7Archive(archive, SIZE)
    assert "1 of 3 train days have no frame: 2015-05-24" in caplog.text


def test_without_day_lists_all_frames_form_one_split(archive):
    (archive / "hko7_rainy_train_days.txt").unlink()
    splits = HKO7Archive(archive, SIZE).splits
    assert list(splits) == ["all"]
    assert splits["all"].days == ("2015-05-23", "2015-05-25")
    assert len(splits["all"].frames) == 4


@pytest.mark.parametrize(
    "lines",
    ["20150523", "20150523; 1", "20150523, -1", "20150523, x", "20150523, 12.",
     "2015052, 1", "20151399, 1", "20150523, 1\n\n20150524, 1",
     "20150523, 1\n20150523, 2", "20150523, 1 2", "é"],
)  # fmt: skip
def test_a_malformed_day_list_is_refused_by_name_and_line(archive, lines):
    path = archive / "hko7_rainy_valid_days.txt"
    path.write_text(f"20150101, 3.5\n{lines}\n", encoding="utf-8")
    with pytest.raises(InputError) as raised:
        HKO7Archive(archive, SIZE)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    if lines != "é":
        assert "line 2" in str(raised.value) or "line 3" in str(raised.value)


def test_a_frame_of_another_day_or_without_a_time_is_refused(archive):
    folder = archive / "radarPNG/2015/05/23"
    (folder / "RAD150524000000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"RAD150524000000.png: found a frame of 2015-05-24"):
        HKO7Archive(archive, SIZE)
    (folder / "RAD150524000000.png").rename(folder / "RAD150523990000.png")
    with pytest.raises(InputError, match=r"RAD150523990000.png: found no time"):
        HKO7Archive(archive, SIZE)


def archive_every(root, minutes, number=10, strays=()):
    """A day of frames; nothing but their names matters."""
    for minute in (*range(0, minutes * number, minutes), *strays):
        path = frame_path(root, at(23, minute // 60, minute % 60))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (5, r"RAD150523000600\.png: found this time among frames mostly 6 minutes apart, "
            r"expected multiples of 5 minutes$"),
        (7, r"RAD150523000000\.png: .*expected multiples of 7 minutes$"),
        (12, r"RAD150523000600\.png: .*expected multiples of 12 minutes; .*subsampled"),
        (3, r"found no frames closer than 6 minutes, expected one every 3$"),
    ],
)  # fmt: skip
def test_a_step_that_is_not_the_archives_is_refused(tmp_path, step, found):
    archive_every(tmp_path, 6)
    with pytest.raises(InputError, match=found) as raised:
        HKO7Archive(tmp_path, SIZE, step)
    assert str(raised.value).startswith(str(tmp_path))
    assert HKO7Archive(tmp_path, SIZE, 6).splits["all"].frames_missing == 230


def test_a_few_frames_between_the_steps_are_taken_as_hko7_has_them(tmp_path):
    archive_every(tmp_path, 6, number=20, strays=(13, 45))
    split = HKO7Archive(tmp_path, SIZE).splits["all"]
    assert (len(split.frames), split.frames_missing) == (22, 220)


def test_a_folder_without_frames_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="radarPNG"):
            HKO7Archive(path)


def test_without_day_lists_it_is_said_how_they_are_named_and_where_they_belong(archive, caplog):
    (archive / "hko7_rainy_train_days.txt").unlink()
    HKO7Archive(archive, SIZE)
    (said,) = [record.getMessage() for record in caplog.records if "day list" in record.message]
    assert str(archive) in said
    for word in ("hko7_rainy_train_days.txt", "hko7_rainy_test_days.txt", "day_lists", "`all`"):
        assert word in said


def test_a_day_in_two_lists_is_reported_and_belongs_to_both(archive, caplog):
    (archive / "hko7_rainy_valid_days.txt").write_text("20150525, 1\n")
    splits = HKO7Archive(archive, SIZE).splits
    assert "1 days are both train and valid days: 2015-05-25" in caplog.text
    assert splits["valid"].frames == splits["train"].frames[2:]


def test_frames_of_days_in_no_list_are_counted_and_belong_to_no_split(archive):
    (archive / "hko7_rainy_train_days.txt").write_text("20150523, 1\n20150524, 1\n")
    found = HKO7Archive(archive, SIZE)
    assert (len(found.splits["train"].frames), found.frames_in_no_list) == (2, 2)
