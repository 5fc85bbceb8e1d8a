"""Checking an archive: every count beside its truth, and every file that cannot be read named."""

import shutil
import zipfile

import numpy as np
import pytest
from made_up import SIZE, at, write_frame

from nowcast.errors import InputError
from nowcast.radar import preparation_report
from nowcast.radar.archive import frame_path, mask_path
from nowcast.radar.archive_check import check_archive
from nowcast.radar.archive_check_report import PUBLISHED, ArchiveCheck, SplitCheck
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.preparation_report import SplitReport
from nowcast.radar.store import FrameStore

BAD_FRAMES = (at(23, 0, 6), at(24, 0, 0))
BAD_MASKS = (at(23, 0, 12), at(23, 0, 6))


@pytest.fixture
def archive(tmp_path):
    """Three days, one of them in no list; on the second nothing can be read."""
    root, random = tmp_path / "archive", np.random.default_rng(0)
    times = [at(23, 0, minute) for minute in range(0, 60, 6)] + [at(24), at(26), at(26, 0, 6)]
    for second in times:
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        mask = random.random((SIZE, SIZE)) < 0.7 if second != at(23, 0, 54) else None
        write_frame(root, second, frame, mask)
    for second in BAD_FRAMES:
        frame_path(root, second).write_bytes(b"no PNG")
    for second in BAD_MASKS:
        mask_path(root, second).write_bytes(b"no mask")
    frame_path(root, at(26)).write_bytes(b"of a day in no list")
    (root / "hko7_rainy_train_days.txt").write_text("20150523, 1\n20150524, 1\n20150525, 1\n")
    (root / "hko7_rainy_test_days.txt").write_text("20150524, 1\n")
    return root


@pytest.mark.parametrize("workers", [1, 2])
def test_every_count_is_what_was_made(archive, workers):
    before = sorted(archive.parent.rglob("*"))
    check = check_archive(archive, size=SIZE, workers=workers)
    assert check.splits == {
        "train": SplitCheck(3, ("2015-05-25",), 11, 3 * 240 - 11, 2, 1, 2),
        "test": SplitCheck(1, (), 1, 239, 1, 0, 0),
    }
    assert (check.frames_in_no_list, check.copies, dict(check.places)) == (2, 0, {"radarPNG": 13})
    assert [line.split(": ")[0] for line in check.unreadable] == [
        str(frame_path(archive, at(23, 0, 6))),
        str(mask_path(archive, at(23, 0, 6))),
        str(mask_path(archive, at(23, 0, 12))),
        str(frame_path(archive, at(24))),
    ]
    assert sorted(archive.parent.rglob("*")) == before


def test_the_check_prints_a_table_a_verdict_and_every_unreadable_file(archive):
    printed = str(check_archive(archive, size=SIZE, workers=1)).replace(str(archive), "ROOT")
    lines = printed.split("\n")
    assert lines[0].startswith("ROOT: 12 × 12 pixels, every 6 minutes (")
    assert lines[1:] == [
        "",
        "                        train              test",
        "                        found  published  found  published",
        "days listed                 3        812      1        131",
        "days without any frame      1          4      0          –",
        "frames found               11    192,168      1          –",
        "timestamps missing        709          –    239          –",
        "frames unreadable           2          –      1          –",
        "mask files missing          1          –      0          –",
        "mask files unreadable       2          –      0          –",
        "",
        "train: 3 instead of 812 listed days, 1 instead of 4 days without frames, "
        "11 instead of 192,168 frames, 2 of 11 frames unreadable, 2 of 10 mask files unreadable, "
        "the noise rule makes 1 of 11 masks",
        "  no frame of 2015-05-25",
        "test: 1 instead of 131 listed days, 1 of 1 frames unreadable",
        "",
        "frames were found in",
        "         13  radarPNG",
        "          2  of them on days in no list",
        "files found again elsewhere and passed over: 0",
        "static masks: none, the noise rule excludes nothing",
        "",
        "unreadable files: 4",
        "  ROOT/radarPNG/2015/05/23/RAD150523000600.png: found no PNG, expected an 8-bit grey one "
        "of 12 × 12",
        "  ROOT/radarPNG_mask/2015/05/23/RAD150523000600.mask: found no zlib stream (Error -3 "
        "while decompressing data: incorrect header check), expected a mask",
        "  ROOT/radarPNG_mask/2015/05/23/RAD150523001200.mask: found no zlib stream (Error -3 "
        "while decompressing data: incorrect header check), expected a mask",
        "  ROOT/radarPNG/2015/05/24/RAD150524000000.png: found no PNG, expected an 8-bit grey one "
        "of 12 × 12",
    ]


def whole_check(**changes):
    """A check that found HKO-7 as published."""
    empty = tuple(f"2009-01-0{n}" for n in range(1, 6))
    splits = {
        "train": SplitCheck(812, empty[:4], 192_168, 2_743, 0, 0, 0),
        "valid": SplitCheck(50, empty[:1], 11_736, 264, 0, 0, 0),
        "test": SplitCheck(131, (), 31_350, 90, 0, 0, 0),
    }
    fields = {
        "root": "hko7", "size": 480, "step_minutes": 6, "splits": splits, "unreadable": (),
        "places": {"": 1}, "frames_in_no_list": 0, "copies": 0, "static_masks": "x", "seconds": 1.0,
    }  # fmt: skip
    return ArchiveCheck(**{**fields, **changes})


def test_what_is_published_is_recognised():
    printed = str(whole_check())
    assert "\ntrain: as published\n" in printed
    assert "\nvalid: as published\n" in printed
    assert "\ntest: as published (131 days; the number of frames is not published)\n" in printed
    assert "unreadable files" not in printed
    more = SplitCheck(50, (), 11_738, 0, 0, 3, 0)
    assert more.verdict(PUBLISHED["valid"]) == (
        "0 instead of 1 days without frames, 11,738 instead of 11,736 frames, "
        "the noise rule makes 3 of 11,738 masks"
    )
    assert more.verdict(None) == (
        "nothing is published to compare with, the noise rule makes 3 of 11,738 masks"
    )


def test_only_the_first_of_many_unreadable_files_and_places_are_printed():
    names = tuple(f"file {n}: damaged" for n in range(1_234))
    check = whole_check(unreadable=names, places={f"place {n}": 1 for n in range(25)})
    lines = str(check).split("\n")
    assert lines[-22:] == ["unreadable files: 1,234", *(f"  {name}" for name in names[:20]),
                           "  and 1,214 more"]  # fmt: skip
    assert sum("place " in line for line in lines) == 20
    assert "  and 5 more" in lines
    assert len(check.unreadable) == 1_234


def test_published_counts_are_those_of_the_reference_data(shared):
    times = np.load(shared / "hko7/timestamps.npz", allow_pickle=False)
    for name in ("train", "valid"):
        lines = (shared / f"hko7/hko7_rainy_{name}_days.txt").read_text().split("\n")
        listed = {line[:8] for line in lines if line}
        days = times[f"rainy_{name}"].astype("datetime64[D]")
        found = {str(day).replace("-", "") for day in np.unique(days)}
        published = PUBLISHED[name]
        assert (published.days, published.frames) == (len(listed), len(days))
        assert published.days_without_frames == len(listed - found)


def test_without_day_lists_there_is_nothing_to_compare_with(archive):
    for path in archive.glob("*.txt"):
        path.unlink()
    check = check_archive(archive, size=SIZE, workers=1)
    assert (check.splits["all"].frames, check.splits["all"].frames_unreadable) == (13, 3)
    assert "all: 3 of 13 frames unreadable, 2 of 12 mask files unreadable, the noise" in str(check)


def test_a_check_looks_into_zip_files_and_takes_lists_from_elsewhere(archive, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in archive.glob("*.txt"):
        shutil.move(path, lists)
    root = tmp_path / "zipped"
    root.mkdir()
    with zipfile.ZipFile(root / "all.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(archive.rglob("RAD*")):
            file.write(path, path.relative_to(archive))
    expected = check_archive(archive, size=SIZE, day_lists=lists, workers=1)
    check = check_archive(root, size=SIZE, day_lists=lists, workers=1)
    assert check.splits == expected.splits
    assert dict(check.places) == {"all.zip": 13}
    assert list(check.unreadable) == [
        line.replace(str(archive), str(root / "all.zip")) for line in expected.unreadable
    ]


def test_a_wrong_size_makes_every_frame_and_mask_unreadable(archive):
    check = check_archive(archive, size=SIZE + 1, workers=1)
    assert check.splits["train"].frames_unreadable == 11
    assert check.splits["train"].masks_unreadable == 10


def test_an_archive_that_is_wrong_as_a_whole_is_refused(archive):
    (archive / "hko7_rainy_valid_days.txt").write_text("no list")
    with pytest.raises(InputError, match="valid_days"):
        check_archive(archive, size=SIZE)


def test_unreadable_frames_are_left_out_if_asked_for_and_counted(archive, tmp_path, caplog):
    out = tmp_path / "s.h5"
    report = prepare_hko7(
        archive, out, size=SIZE, downsample_to=None, skip_unreadable=True, workers=2
    )
    train = report.splits["train"]
    assert (train.frames, train.frames_unreadable, train.frames_missing) == (8, 3, 3 * 240 - 8)
    assert train.days_without_frames == ("2015-05-24", "2015-05-25")
    assert list(report.splits) == ["train"]
    assert "8 frames, 712 missing, 3 unreadable among them" in str(report)
    store = FrameStore(out)
    kept = [at(23, 0, minute) for minute in range(0, 60, 6) if minute not in (6, 12)]
    times = store.split("train")[0].times
    assert times.astype(int).tolist() == kept
    for second in BAD_FRAMES:
        assert f"left out: {frame_path(archive, second)}: found no PNG" in caplog.text
    for second in BAD_MASKS:
        assert f"left out: {mask_path(archive, second)}: found no zlib stream" in caplog.text
    again = prepare_hko7(
        archive, out, size=SIZE, downsample_to=None, skip_unreadable=True, workers=1
    )
    assert again.already_there
    assert again.splits == report.splits


def test_the_first_unreadable_file_is_refused_with_what_can_be_done_about_it(archive, tmp_path):
    with pytest.raises(InputError) as raised:
        prepare_hko7(archive, tmp_path / "s.h5", size=SIZE, downsample_to=None, workers=1)
    message = str(raised.value)
    assert message.startswith(f"{frame_path(archive, at(23, 0, 6))}: found no PNG")
    assert "--check lists all such files" in message
    assert "--skip_unreadable true leaves them out" in message
    assert "\n" not in message
    assert not (tmp_path / "s.h5").exists()


def test_an_archive_of_which_nothing_can_be_read_is_refused(archive, tmp_path):
    with pytest.raises(InputError, match="found no readable frame of test"):
        prepare_hko7(
            archive, tmp_path / "s.h5", size=SIZE, downsample_to=None, splits=["test"],
            skip_unreadable=True, workers=1,
        )  # fmt: skip


def test_reports_of_stores_made_before_frames_could_be_left_out_are_still_read(archive, tmp_path):
    out = tmp_path / "s.h5"
    prepare_hko7(archive, out, size=SIZE, downsample_to=None, skip_unreadable=True, workers=1)
    store = FrameStore(out)
    for split in store.preparation["splits"].values():
        del split["frames_unreadable"]
    report = preparation_report.report_of(store, 0.0, already_there=True)
    assert report.splits["train"].frames_unreadable == SplitReport(1, 1).frames_unreadable == 0


def test_masks_by_the_noise_rule_are_counted_whether_some_or_all_are_missing(archive, tmp_path):
    settings = {"size": SIZE, "downsample_to": None, "skip_unreadable": True, "workers": 1}
    some = prepare_hko7(archive, tmp_path / "some.h5", **settings).splits["train"]
    assert (some.frames, some.masks_by_noise_rule) == (8, 1)
    # Without the tree of masks, the frame of 00:12 has no damaged mask any more.
    shutil.rmtree(archive / "radarPNG_mask")
    every = prepare_hko7(archive, tmp_path / "all.h5", **settings).splits["train"]
    assert (every.frames, every.masks_by_noise_rule) == (9, 9)
