"""Archives as people have them: files are found wherever they lie, and never taken twice."""

import os
import shutil
import zipfile
import zlib

import numpy as np
import pytest
from made_up import SIZE, at, write_frame
from made_up_zips import zip_folder

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive, frame_path, mask_path
from nowcast.radar.archive_check import check_archive
from nowcast.radar.archive_files import read_exclude_mask
from nowcast.radar.archive_places import ArchiveFile, png_name
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.archive_reading import read_frame_and_mask

SECONDS = (at(23), at(23, 0, 6), at(25), at(25, 23, 54))
FRAMES = np.random.default_rng(5).integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8)
MASKS = np.random.default_rng(6).random((4, SIZE, SIZE)) < 0.6
LIST = "20150525, 1\n20150523, 12.5\n"


@pytest.fixture
def archive(tmp_path):
    """As published: four frames on two days, the last one without a mask."""
    root = tmp_path / "archive"
    for number, second in enumerate(SECONDS):
        write_frame(root, second, FRAMES[number], MASKS[number] if number < 3 else None)
    (root / "hko7_rainy_train_days.txt").write_text(LIST)
    np.savez(root / "mask_dat.npz", exclude_mask=np.eye(SIZE, dtype=np.uint8))
    return root


def found_whole(root, **settings):
    """The archive, once what its frames hold has been compared."""
    archive = HKO7Archive(root, SIZE, **settings)
    (split,) = archive.splits.values()
    assert [frame.second for frame in split.frames] == list(SECONDS)
    for number, frame in enumerate(split.frames):
        pixels, mask = read_frame_and_mask(archive.root, frame, SIZE)
        np.testing.assert_array_equal(pixels, FRAMES[number])
        if number < 3:
            np.testing.assert_array_equal(mask, MASKS[number])
        else:
            assert mask is None
    return archive


def one_level_deeper(root):
    shutil.move(root, root.with_name("moved"))
    shutil.move(root.with_name("moved"), root / "HKO-7")
    return {"HKO-7/radarPNG": 4}


def twice_in_a_folder_of_the_same_name(root):
    for name in ("radarPNG", "radarPNG_mask"):
        shutil.move(root / name, root / "moved")
        shutil.move(root / "moved", root / name / name)
    return {"radarPNG/radarPNG": 4}


def in_parts(root):
    shutil.move(root / "radarPNG/2015/05/25", root / "part2/radarPNG/2015/05/25")
    shutil.move(root / "radarPNG_mask", root / "part3/deeper/radarPNG_mask")
    return {"part2/radarPNG": 2, "radarPNG": 2}


def without_folders_of_days(root):
    for path in list(root.rglob("RAD*")):
        shutil.move(path, root / path.name)
    shutil.rmtree(root / "radarPNG")
    return {"": 4}


def among_other_files(root):
    day = root / "radarPNG/2015/05/23"
    for name in (
        *("Thumbs.db", ".DS_Store", "README", "._RAD150523000000.png", "RAD150523000000.gif"),
        *("RAD15052300000.png", "xRAD150523000000.png", "RAD150523000000.png.tmp"),
    ):
        (day / name).write_bytes(b"x")
    for folder in ("__MACOSX", ".Trash", "2015.partial", ".2015-05-23.partial"):
        (root / folder).mkdir()
        (root / folder / "RAD150523000000.png").write_bytes(b"another one")
        (root / folder / "hko7_rainy_train_days.txt").write_text("20010101, 1\n")
    (day / "RAD150523001200.png").mkdir()
    (root / "broken link").symlink_to(root / "nothing")
    return {"radarPNG": 4}


def with_links_in_circles(root):
    (root / "radarPNG/2015/up").symlink_to(root)
    (root / "again").symlink_to(root / "radarPNG")
    return {"again": 4}


def through_a_link(root):
    shutil.move(root / "radarPNG", root.parent / "another disk")
    (root / "frames").symlink_to(root.parent / "another disk")
    return {"frames": 4}


@pytest.mark.parametrize(
    "arrange",
    [
        one_level_deeper,
        twice_in_a_folder_of_the_same_name,
        in_parts,
        without_folders_of_days,
        among_other_files,
        with_links_in_circles,
        through_a_link,
    ],
)
def test_however_an_archive_was_unpacked_the_same_frames_are_found(archive, arrange):
    places = arrange(archive)
    found = found_whole(archive)
    assert dict(found.places) == places
    assert (found.copies, found.frames_in_no_list) == (0, 0)
    assert found.exclude_mask.name == "mask_dat.npz"


@pytest.mark.parametrize("inside", ["", "radarPNG"])
@pytest.mark.parametrize("relative", [False, True])
def test_given_the_folder_of_the_frames_what_lies_beside_it_is_found(
    archive, inside, relative, monkeypatch
):
    if inside:
        twice_in_a_folder_of_the_same_name(archive)
    other = archive / "another archive/RAD150523000000.png"
    other.parent.mkdir()
    other.write_bytes(b"another one")
    if relative:
        monkeypatch.chdir(archive)
        given = "radarPNG"
    else:
        given = archive / "radarPNG" / inside
    found = found_whole(given)
    assert found.root == archive
    assert list(found.splits) == ["train"]


def test_a_moved_archive_gives_the_same_frames_with_the_same_repr(archive):
    before = repr(HKO7Archive(archive, SIZE).splits["train"].frames)
    one_level_deeper(archive)
    assert repr(HKO7Archive(archive, SIZE).splits["train"].frames) == before
    path = frame_path(archive / "HKO-7", SECONDS[0])
    os.utime(path, ns=(0, 0))
    assert repr(HKO7Archive(archive, SIZE).splits["train"].frames) != before


def test_identical_copies_are_taken_once_and_counted(archive):
    shutil.copytree(archive / "radarPNG", archive / "copy/radarPNG")
    shutil.copy(archive / "hko7_rainy_train_days.txt", archive / "copy")
    shutil.copy(archive / "mask_dat.npz", archive / "copy")
    found = found_whole(archive)
    assert found.copies == 6
    assert dict(found.places) == {"copy/radarPNG": 4}


@pytest.mark.parametrize("same_size", [False, True])
@pytest.mark.parametrize(
    "which",
    ["frame", "mask", "hko7_rainy_train_days.txt", "mask_dat.npz"],
)
def test_the_same_name_with_different_content_is_refused_naming_both(archive, which, same_size):
    original = {
        "frame": frame_path(archive, SECONDS[1]),
        "mask": mask_path(archive, SECONDS[1]),
    }.get(which, archive / which)
    content = original.read_bytes()
    copy = archive / "copy" / original.name
    copy.parent.mkdir()
    copy.write_bytes(content[:-1] + (b"?" if same_size else b""))
    with pytest.raises(InputError, match="found other content than in") as raised:
        HKO7Archive(archive, SIZE)
    assert str(copy) in str(raised.value)
    assert str(original) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_day_lists_and_static_masks_are_taken_from_a_folder_that_is_named(archive):
    elsewhere = archive.parent / "clone/HKO-7/hko_data"
    elsewhere.mkdir(parents=True)
    (elsewhere / "hko7_rainy_valid_days.txt").write_text(LIST)
    (elsewhere.parent / "RAD150523000000.png").write_bytes(b"no frame")
    np.savez(elsewhere / "mask_dat.npz", exclude_mask=np.ones((SIZE, SIZE), np.uint8))
    found = found_whole(archive, day_lists=archive.parent / "clone")
    assert list(found.splits) == ["valid"]
    assert found.exclude_mask.root == archive
    (archive / "mask_dat.npz").unlink()
    found = found_whole(archive, day_lists=archive.parent / "clone")
    assert str(found.exclude_mask) == str(elsewhere / "mask_dat.npz")


@pytest.mark.parametrize("lists", ["nowhere", "empty"])
def test_a_folder_without_day_lists_is_refused_when_it_was_named(archive, lists):
    (archive.parent / "empty").mkdir()
    with pytest.raises(InputError, match=rf"{lists}: .*expected") as raised:
        HKO7Archive(archive, SIZE, day_lists=archive.parent / lists)
    assert "\n" not in str(raised.value)


def test_masks_may_be_missing_one_by_one_or_altogether(archive):
    shutil.rmtree(archive / "radarPNG_mask/2015/05/25")
    frames = HKO7Archive(archive, SIZE).splits["train"].frames
    assert [frame.mask is None for frame in frames] == [False, False, True, True]
    shutil.rmtree(archive / "radarPNG_mask")
    frames = HKO7Archive(archive, SIZE).splits["train"].frames
    assert all(frame.mask is None for frame in frames)


@pytest.mark.parametrize("kind", ["png", "mask"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_in_the_folders_of_another_day_is_refused_by_name(archive, kind, zipped):
    name = f"radarPNG/2015/05/24/RAD150523001200.{kind}"
    if zipped:
        with zipfile.ZipFile(archive / "part.zip", "w") as file:
            file.writestr(name, b"x")
    else:
        (archive / name).parent.mkdir(parents=True)
        (archive / name).write_bytes(b"x")
    with pytest.raises(
        InputError, match=rf"{name}: found a frame of 2015-05-23, expected one of 2015-05-24"
    ):
        HKO7Archive(archive, SIZE)


@pytest.mark.parametrize(
    "stamp", ["150230000000", "151301000000", "150523240000", "150523006000", "150523000060"]
)
def test_a_name_without_a_time_is_refused(archive, stamp):
    (archive / f"RAD{stamp}.png").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"RAD{stamp}\.png: found no time in the name"):
        HKO7Archive(archive, SIZE)


def test_a_frame_that_links_to_nothing_is_unreadable_and_what_is_no_file_is_refused(archive):
    path = archive / "RAD150523001200.png"
    path.symlink_to(archive / "nothing")
    (line,) = check_archive(archive, SIZE, workers=1).unreadable
    assert line.startswith(f"{path}: cannot be read (No such file")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"RAD150523001200\.png: found something else"):
        HKO7Archive(archive, SIZE)


def test_a_file_that_changes_after_the_search_is_refused(archive):
    found = HKO7Archive(archive, SIZE)
    frame = found.splits["train"].frames[0]
    path = frame_path(archive, frame.second)
    status = path.stat()
    content = path.read_bytes()
    write_frame(archive, frame.second, np.zeros((SIZE, SIZE), np.uint8))
    with pytest.raises(InputError, match=r"RAD150523000000\.png: found it changed since"):
        read_frame_and_mask(found.root, frame, SIZE)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(read_frame_and_mask(found.root, frame, SIZE)[0], FRAMES[0])


@pytest.mark.parametrize("zipped", [False, True])
def test_capital_letters_in_names_do_not_matter(archive, zipped):
    for path in [*archive.rglob("RAD*"), *archive.glob("hko7_*"), archive / "mask_dat.npz"]:
        path.rename(path.with_name(path.name.swapcase()))
    if zipped:
        zip_folder(archive.parent / "zip/frames.zip", archive)
        archive = archive.parent / "zip"
    found = found_whole(archive)
    assert list(found.splits) == ["train"]
    assert found.exclude_mask is not None
    read_exclude_mask(found.exclude_mask, SIZE)


@pytest.mark.parametrize("size", [0, -1, 480_000, 10**11])
def test_frames_of_no_sensible_size_are_refused_at_once(archive, tmp_path, size):
    for act in (
        lambda: check_archive(archive, size),
        lambda: prepare_hko7(archive, tmp_path / "s.h5", size=size),
    ):
        with pytest.raises(InputError, match=f"size: found {size}, expected 1 to"):
            act()


def test_archives_that_are_not_read_are_named(archive, caplog):
    (archive / "radarPNG_2016.tar.gz").write_bytes(b"x")
    found_whole(archive)
    assert f"not looked into: {archive / 'radarPNG_2016.tar.gz'}" in caplog.text
    shutil.rmtree(archive / "radarPNG")
    with pytest.raises(InputError, match=r"not looked into: .*radarPNG_2016\.tar\.gz"):
        HKO7Archive(archive, SIZE)


def test_places_name_the_files_they_stand_for(archive):
    frame = HKO7Archive(archive, SIZE).splits["train"].frames[0]
    file = ArchiveFile(archive, frame.png, png_name(frame.second))
    assert str(file) == str(frame_path(archive, SECONDS[0]))
    assert zlib.crc32(file.read(10**6)) == zlib.crc32(frame_path(archive, SECONDS[0]).read_bytes())
    with pytest.raises(InputError, match="more than 10 bytes"):
        file.read(10)
