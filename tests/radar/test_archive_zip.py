"""Zip files of an archive, read in place: the same frames as unpacked, every wrong one named."""

import pickle
import random
import shutil
import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest
from made_up import SIZE
from made_up_zips import SECONDS, content_of, write_unpacked, zip_folder

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive, frame_path, mask_path
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.store import FrameStore
from nowcast.radar.zip_members import ZipMember, members, read_member


@pytest.fixture
def unpacked(tmp_path):
    return write_unpacked(tmp_path / "unpacked")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "HKO-7/", "./", "deep/er/"])
def test_a_zipped_archive_holds_what_the_unpacked_one_holds(unpacked, tmp_path, method, prefix):
    zip_folder(tmp_path / "zipped/hko7.ZIP", unpacked, prefix, method)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    archive, zipped = HKO7Archive(unpacked, SIZE), HKO7Archive(tmp_path / "zipped", SIZE)
    assert content_of(zipped) == content_of(archive)
    assert len(content_of(zipped)) == 6
    assert zipped.splits["train"].days == archive.splits["train"].days
    assert dict(zipped.places) == {"hko7.ZIP": 6}
    assert zipped.exclude_mask.read(10**6) == archive.exclude_mask.read(10**6)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_store_prepared_from_zip_parts_equals_the_one_from_files(unpacked, tmp_path):
    parts = tmp_path / "parts"
    zip_folder(parts / "a/radarPNG_23.zip", unpacked / "radarPNG/2015/05/23")
    zip_folder(parts / "b/radarPNG_24.zip", unpacked / "radarPNG/2015/05/24", "2015/05/24/")
    zip_folder(parts / "masks.zip", unpacked / "radarPNG_mask", "radarPNG_mask/")
    for name in ("hko7_rainy_train_days.txt", "mask_dat.npz"):
        shutil.copy(unpacked / name, parts)
    stores = []
    for root in (unpacked, parts):
        out = tmp_path / f"{root.name}.h5"
        report = prepare_hko7(root, out, size=SIZE, downsample_to=6, workers=2)
        assert report.splits["train"].masks_by_noise_rule == 1
        store = FrameStore(out)
        stores.append(store.read(store.split("train")[0], store.sequences[0].times[0], 243))
    for one, other in zip(*stores, strict=True):
        np.testing.assert_array_equal(one, other)
    again = prepare_hko7(parts, tmp_path / "parts.h5", size=SIZE, downsample_to=6, workers=1)
    assert again.already_there


def test_a_frame_both_zipped_and_unpacked_is_taken_once_if_it_is_the_same(unpacked):
    zip_folder(unpacked / "radarPNG.zip", unpacked / "radarPNG", "radarPNG/")
    zip_folder(unpacked / "z/again.zip", unpacked / "radarPNG", "x/", zipfile.ZIP_STORED)
    archive = HKO7Archive(unpacked, SIZE)
    assert (len(archive.splits["train"].frames), archive.copies) == (6, 12)
    path = frame_path(unpacked, SECONDS[2])
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="found other content") as raised:
        HKO7Archive(unpacked, SIZE)
    assert str(unpacked / f"radarPNG.zip/{path.relative_to(unpacked)}") in str(raised.value)
    assert str(path) in str(raised.value)


def test_hidden_and_foreign_members_are_passed_over(unpacked, caplog):
    with zipfile.ZipFile(unpacked / "extra.zip", "w") as file:
        for name in ("__MACOSX/2015/RAD150523000000.png", "x/.hidden/RAD150523000000.png",
                     "._RAD150523000000.png", "x.partial/RAD150523000000.png", "Thumbs.db",
                     "RAD150523000000.png/"):  # fmt: skip
            file.writestr(name, b"another one" if not name.endswith("/") else b"")
        file.writestr("inner.zip", b"x")
    archive = HKO7Archive(unpacked, SIZE)
    assert dict(archive.places) == {"radarPNG": 6}
    assert archive.copies == 0
    assert "extra.zip/inner.zip" in caplog.text


def test_names_written_with_backslashes_are_understood(unpacked, tmp_path):
    path = zip_folder(tmp_path / "zipped/hko7.zip", unpacked, method=zipfile.ZIP_STORED)
    content = path.read_bytes()
    for second in SECONDS:
        for file_path in (frame_path, mask_path):
            name = str(file_path(unpacked, second).relative_to(unpacked)).encode()
            content = content.replace(name, name.replace(b"/", b"\\"))
    path.write_bytes(content)
    assert content_of(HKO7Archive(path.parent, SIZE)) == content_of(HKO7Archive(unpacked, SIZE))


def test_members_written_as_a_stream_or_with_zip64_sizes_are_read(unpacked, tmp_path):
    (tmp_path / "zipped").mkdir()

    class Unseekable:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            return self.file.write(content)

        def flush(self):
            self.file.flush()

    with (
        (tmp_path / "zipped/stream.zip").open("wb") as file,
        zipfile.ZipFile(Unseekable(file), "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        for number, second in enumerate(SECONDS):
            content = frame_path(unpacked, second).read_bytes()
            with zipped.open(f"RAD1505{23 + number // 3}00{6 * (number % 3):02}00.png", "w",
                                 force_zip64=True) as member:  # fmt: skip
                member.write(content)
    found = content_of(HKO7Archive(tmp_path / "zipped", SIZE))
    expected = content_of(HKO7Archive(unpacked, SIZE))
    assert [frame for frame, _ in found.values()] == [frame for frame, _ in expected.values()]


def zip64(content):
    """The same zip file with everything in its directory that zip64 can hold, held there."""
    end = content.rindex(b"PK\5\6")
    number, _, start = struct.unpack_from("<HII", content, end + 10)
    directory, position = b"", start
    while position < end:
        fields = list(struct.unpack_from("<4sHHHHHHIIIHHHHHII", content, position))
        name = content[position + 46 : position + 46 + fields[10]]
        large = struct.pack("<HHQQQ", 1, 24, fields[9], fields[8], fields[16])
        extra = struct.pack("<HH3s", 0x7777, 3, b"abc") + large
        position += 46 + sum(fields[10:13])
        fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
        fields[11:13] = len(extra), 0
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", *fields) + name + extra
    end64 = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, number, number, len(directory), start
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(directory), 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, *[0xFFFFFFFF] * 2, 0)
    return content[:start] + directory + end64 + locator + last


def test_a_directory_in_zip64_is_read(unpacked, tmp_path):
    path = zip_folder(tmp_path / "zipped/hko7.zip", unpacked)
    path.write_bytes(zip64(path.read_bytes()))
    with zipfile.ZipFile(path) as known_good:
        assert known_good.testzip() is None
    assert content_of(HKO7Archive(path.parent, SIZE)) == content_of(HKO7Archive(unpacked, SIZE))


def test_more_members_than_the_end_can_count_are_all_found():
    number, local = 2**16 + 3, struct.pack("<4s26x", b"PK\3\4")
    names = [str(n).encode() for n in range(number)]
    directory = b"".join(struct.pack("<4s24xH16x", b"PK\1\2", len(n)) + n for n in names)
    counts = (3, 3, len(directory), len(local))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *counts, 0)
    file = BytesIO(local + directory + end)
    listed = list(members(file, "", "many.zip", lambda folder, name: True))
    assert [name.encode() for name, _ in listed] == names


def test_a_zip_file_with_a_comment_or_behind_something_else_is_read(unpacked, tmp_path):
    path = zip_folder(tmp_path / "zipped/hko7.zip", unpacked)
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"as downloaded"
    path.write_bytes(b"a program that unpacks the rest" * 10 + path.read_bytes())
    assert content_of(HKO7Archive(path.parent, SIZE)) == content_of(HKO7Archive(unpacked, SIZE))


@pytest.mark.parametrize(("written", "folder"), [("降雨", "降雨"), ("xxx", "été")])
def test_folders_named_in_utf_8_or_cp437_are_understood(unpacked, tmp_path, written, folder):
    path = zip_folder(tmp_path / "zipped/hko7.zip", unpacked, f"{written}/", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"xxx/", "été/".encode("cp437")))
    archive = HKO7Archive(path.parent, SIZE)
    assert content_of(archive) == content_of(HKO7Archive(unpacked, SIZE))
    assert archive.splits["train"].frames[0].png.folder == f"{folder}/radarPNG/2015/05/23"


def test_deflated_members_of_any_content_come_back_whole(tmp_path):
    made = random.Random(2)
    contents = {f"m{n}": made.randbytes(n) + bytes(50 * n) for n in (0, 1, 7, 1000, 70_000)}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(f"folder/{name}", content)
    with (tmp_path / "a.zip").open("rb") as opened:
        listed = dict(members(opened, "a.zip", "a.zip", lambda folder, name: True))
        assert listed.keys() == contents.keys()
        for name, content in contents.items():
            assert listed[name].folder == "folder"
            assert read_member(opened, listed[name], name, 10**7, name) == content


def test_places_are_small_and_their_repr_tells_their_content(unpacked):
    zip_folder(unpacked.parent / "zipped/hko7.zip", unpacked)
    frames = HKO7Archive(unpacked.parent / "zipped", SIZE).splits["train"].frames
    assert pickle.loads(pickle.dumps(frames)) == frames  # noqa: S301 - our own, just made
    assert len(pickle.dumps(frames)) < 200 * len(frames)
    assert isinstance(frames[0].png, ZipMember)
    with zipfile.ZipFile(unpacked.parent / "zipped/hko7.zip") as file:
        crc = file.getinfo("radarPNG/2015/05/23/RAD150523000000.png").CRC
    assert f"{crc:08x}" in repr(frames[0])
