"""The HKO-7 archive: the reference archive to the byte, and every wrong file by its name."""

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import SIZE, at, write_frame

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive, frame_path, mask_path, read_day_list
from nowcast.radar.archive_files import (
    noise_rule,
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


def test_frames_are_found_one_level_deeper_and_other_files_passed_over(archive, tmp_path_factory):
    (archive / "radarPNG/2015/05/23/Thumbs.db").write_bytes(b"x")
    outer = tmp_path_factory.mktemp("outer")
    archive.rename(outer / "hko7")
    found = HKO7Archive(outer, SIZE)
    assert found.root == outer / "hko7"
    train = found.splits["train"]
    assert [frame.second for frame in train.frames] == [
        at(23),
        at(23, 0, 6),
        at(25),
        at(25, 23, 54),
    ]
    assert [frame.mask is None for frame in train.frames] == [False, False, True, True]
    assert train.days_without_frames == ("2015-05-24",)


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


def test_the_static_mask_is_read_anew_from_a_file_of_the_same_size(archive):
    path = archive / "mask_dat.npz"
    np.savez(path, exclude_mask=np.zeros((SIZE, SIZE), np.uint8))
    size = path.stat().st_size
    assert not read_exclude_mask(path, SIZE).any()
    np.savez(path, exclude_mask=np.ones((SIZE, SIZE), np.uint8))
    assert path.stat().st_size == size
    assert read_exclude_mask(path, SIZE).all()


def test_a_folder_without_frames_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="radarPNG"):
            HKO7Archive(path)


def png(frame, parameters=()):
    return cv2.imencode(".png", frame, list(parameters))[1].tobytes()


GREY = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (png(GREY[:-1]), "12 × 11 pixels of 8-bit grey"),
        (png(GREY.astype(np.uint16)), "12 × 12 pixels of 16-bit grey"),
        (png(np.dstack([GREY] * 3)), "12 × 12 pixels of 8-bit RGB"),
        (png(GREY)[:-20], "truncated PNG"),
        (png(GREY)[:60], "truncated PNG"),
        (png(GREY)[:50] + b"?" + png(GREY)[51:], "damaged PNG"),
        (b"GIF89a", "no PNG"),
        (b"", "no PNG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 2**18, "more than"),
    ],
)
def test_a_frame_that_is_not_as_expected_is_refused(tmp_path, content, found):
    path = tmp_path / "RAD150523000000.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found) as raised:
        read_frame(path, SIZE)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_an_image_that_announces_a_billion_pixels_is_refused_unread(tmp_path):
    header = b"IHDR" + (2**20).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0d" + header + zlib.crc32(header).to_bytes(4, "big")
    )
    with pytest.raises(InputError, match="1048576 × 1048576"):
        read_frame(path, SIZE)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (zlib.compress(b"\1" * 144)[:-6], "truncated"),
        (zlib.compress(b"\1" * 144, 0)[:80], "truncated"),
        (zlib.compress(b"\1" * 143), "143 bytes"),
        (zlib.compress(b"\1" * 145), "more than 144 bytes"),
        (zlib.compress(bytes(10**7)), "more than 144 bytes"),
        (zlib.compress(b"\1" * 143 + b"\2"), "the byte 2"),
        (zlib.compress(b"\1" * 144) + b"x", "more than 144 bytes"),
        (b"\1" * 144, "no zlib stream"),
        (b"", "truncated"),
    ],
)
def test_a_mask_that_is_not_as_expected_is_refused(tmp_path, content, found):
    path = tmp_path / "RAD150523000000.mask"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found) as raised:
        read_mask(path, SIZE)
    assert str(raised.value).startswith(f"{path}: ")


def test_the_static_masks_must_have_the_frames_size_and_no_objects(tmp_path):
    path = tmp_path / "mask_dat.npz"
    for wrong in (np.zeros((4, 4), np.uint8), np.array([object()], dtype=object)):
        np.savez(path, exclude_mask=wrong)
        with pytest.raises(InputError, match=r"mask_dat\.npz"):
            read_exclude_mask(path, SIZE)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(InputError, match=r"mask_dat\.npz"):
        read_exclude_mask(path, SIZE)
    np.savez(path, exclude_mask=GREY % 2)
    np.testing.assert_array_equal(read_exclude_mask(path, SIZE), GREY % 2 == 1)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([png(GREY), zlib.compress(b"\1" * 144)]),
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
def test_damaged_files_give_the_true_content_or_an_input_error(tmp_path, whole, changes, length):
    content = bytearray(whole)
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path / "file"
    path.write_bytes(bytes(content[:length]))
    for read, truth in ((read_frame, GREY), (read_mask, np.ones((SIZE, SIZE), bool))):
        try:
            np.testing.assert_array_equal(read(path, SIZE), truth)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017 - whole files are read, too
