"""Zip files that are damaged, encrypted, split or hostile: each is refused by its name."""

import struct
import zipfile

import pytest
from made_up import SIZE
from made_up_zips import SECONDS, content_of, write_unpacked, zip_folder

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive, frame_path
from nowcast.radar.archive_reading import read_frame_and_mask


@pytest.fixture
def unpacked(tmp_path):
    return write_unpacked(tmp_path / "unpacked")


def set_flag(content, flag):
    """The zip file with a flag set in every header of a member and entry of the directory."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        position = content.find(signature)
        while position >= 0:
            changed[position + offset] |= flag
            position = content.find(signature, position + 4)
    return bytes(changed)


def with_end(content, **fields):
    """The zip file with other numbers in its end."""
    end = content.rindex(b"PK\5\6")
    names = ("disk", "directory_disk", "own", "number", "length", "start")
    values = dict(zip(names, struct.unpack_from("<HHHHII", content, end + 4), strict=True))
    changed = struct.pack("<HHHHII", *{**values, **fields}.values())
    return content[: end + 4] + changed + content[end + 20 :]


def with_entries(content, **fields):
    """The zip file with bytes replaced in every entry of its directory."""
    offsets = {"version": 6, "utf8": 9, "method": 10, "volume": 34, "name": 46}
    changed = bytearray(content)
    position = content.find(b"PK\1\2")
    while position >= 0:
        for field, byte in fields.items():
            changed[position + offsets[field]] = byte
        position = content.find(b"PK\1\2", position + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: set_flag(content, 1), r"RAD\d+\.png: found an encrypted member"),
        (lambda content: content[:-30], "cannot be listed .*expected a whole zip file"),
        (lambda content: content[200:], "found it outside the zip file"),
        (lambda content: b"", "cannot be listed"),
        (lambda content: b"Rar!\x1a\x07" * 100, "cannot be listed"),
        (lambda content: with_end(content, start=2**31), "found it outside the zip file"),
        (lambda content: with_end(content, length=0xFFFFFFFF), "cannot be listed"),
        (lambda content: with_end(content, length=100), "cannot be listed"),
        (lambda content: with_entries(content, version=99), "cannot be listed .*version 9.9"),
        (lambda content: with_entries(content, utf8=8, name=0xFF), "cannot be listed .*'utf-8'"),
        (
            lambda content: with_entries(content, volume=1),
            r"RAD\d+\.png: found one part of a split",
        ),
        (lambda content: with_entries(content, method=9), r"RAD\d+\.png: found compression .* 9,"),
    ],
)
def test_a_zip_file_that_cannot_be_listed_is_refused_by_name(unpacked, change, found):
    path = zip_folder(unpacked / "parts/radarPNG_2009.zip", unpacked / "radarPNG")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=found) as raised:
        HKO7Archive(unpacked, SIZE)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_of_compression_that_is_not_read_is_refused(unpacked, method):
    zip_folder(unpacked / "a.zip", unpacked / "radarPNG", method=method)
    with pytest.raises(InputError, match=rf"a\.zip/.*\.png: found compression method {method},"):
        HKO7Archive(unpacked, SIZE)


@pytest.mark.parametrize("name", ["radarPNG.z01", "radarPNG.zip.001", "radarPNG.Z12"])
def test_parts_of_a_split_zip_file_are_refused(unpacked, name):
    (unpacked / name).write_bytes(b"PK\x07\x08")
    with pytest.raises(InputError, match=rf"{name}: found one part of a split archive.*join"):
        HKO7Archive(unpacked, SIZE)


def test_an_encrypted_or_odd_member_that_is_no_frame_does_not_matter(unpacked):
    with zipfile.ZipFile(unpacked / "notes.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("README", b"text")
    path = unpacked / "notes.zip"
    path.write_bytes(set_flag(path.read_bytes(), 1))
    assert len(content_of(HKO7Archive(unpacked, SIZE))) == 6


def one_frame(root, content, method=zipfile.ZIP_DEFLATED):
    """A zip file of one frame, and the frame as the archive knows it."""
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "one.zip", "w", method) as file:
        file.writestr("radarPNG/RAD150523000000.png", content)
    archive = HKO7Archive(root, SIZE)
    return archive, archive.splits["all"].frames[0]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c, p: c[:p] + bytes([c[p] ^ 1]) + c[p + 1 :], "size or CRC differs"),
        (
            lambda c, p: c.replace(b"RAD150523000000", b"RAD150523000600", 1),
            "differs from the zip file's directory",
        ),
        (lambda c, p: c[:14] + b"????" + c[18:], "differs from the zip file's directory"),
        (lambda c, p: c[:22] + b"????" + c[26:], "differs from the zip file's directory"),
        (lambda c, p: c[:6] + b"\1" + c[7:], "differs from the zip file's directory"),
        (lambda c, p: c[:8] + b"\x08" + c[9:], "differs from the zip file's directory"),
        (lambda c, p: b"??" + c[2:], "found no member where"),
        (lambda c, p: c[: p + 5], "size or CRC differs"),
        (lambda c, p: c[:10], "found no member where"),
    ],
)
def test_a_member_that_changed_after_it_was_listed_is_refused(unpacked, tmp_path, change, found):
    root = tmp_path / "zipped"
    content = frame_path(unpacked, SECONDS[0]).read_bytes()
    archive, frame = one_frame(root, content, zipfile.ZIP_STORED)
    path = root / "one.zip"
    whole = path.read_bytes()
    path.write_bytes(change(whole, whole.index(content)))
    with pytest.raises(InputError, match=found) as raised:
        read_frame_and_mask(archive.root, frame, SIZE)
    assert str(raised.value).startswith(f"{path}/radarPNG/RAD150523000000.png: ")
    assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(InputError, match=r"one\.zip: cannot be read"):
        read_frame_and_mask(archive.root, frame, SIZE)


def test_members_that_do_not_lie_where_the_directory_says_are_refused(tmp_path):
    _, frame = one_frame(tmp_path / "zipped", bytes(100), zipfile.ZIP_STORED)
    path = tmp_path / "zipped/one.zip"
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    path.write_bytes(with_end(content, start=start - 4))
    archive = HKO7Archive(path.parent, SIZE)
    (moved,) = archive.splits["all"].frames
    assert moved.png.header_offset == frame.png.header_offset + 4
    with pytest.raises(InputError, match="found no member where the directory says"):
        read_frame_and_mask(archive.root, moved, SIZE)


@pytest.mark.parametrize("stated", [100, None])
def test_a_bomb_is_refused_whether_or_not_it_states_its_size(tmp_path, stated):
    root = tmp_path / "zipped"
    archive, frame = one_frame(root, bytes(10**8))
    assert (root / "one.zip").stat().st_size < 10**6
    if stated is not None:
        path = root / "one.zip"
        content = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
            struct.pack_into("<I", content, content.index(signature) + offset, stated)
        path.write_bytes(bytes(content))
        archive = HKO7Archive(root, SIZE)
        frame = archive.splits["all"].frames[0]
        assert frame.png.size == stated
    with pytest.raises(InputError, match=r"more than|size or CRC differs"):
        read_frame_and_mask(archive.root, frame, SIZE)
