"""Whatever the files of an archive hold: their true content, or `InputError` in one line.

The files are valid ones changed at random bytes, cut or put together otherwise, and random ones. No
file may make its reader take much more memory than a whole one does.
"""

import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive
from nowcast.radar.archive_files import read_day_list, read_exclude_mask, read_frame, read_mask
from nowcast.radar.archive_reading import read_frame_and_mask

SIZE = 12
MOST_BYTES = 4_000_000
"""Memory that a reader may take for a frame of 12 × 12: buffers of fixed size, no more."""

GREY = (np.arange(SIZE * SIZE) * 7 % 256).astype(np.uint8).reshape(SIZE, SIZE)
PNG = cv2.imencode(".png", GREY)[1].tobytes()
MASK = zlib.compress(bytes([0, 1] * (SIZE * SIZE // 2)))
DAY_LIST = b"20150523, 12.5\n20150524, 0.0\r\n20160229, 3\n"


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


def npz(save, **arrays):
    file = BytesIO()
    save(file, **arrays)
    return file.getvalue()


STATIC = npz(np.savez_compressed, exclude_mask=GREY % 2, outlier_mask=GREY % 3)
STATIC_STORED = npz(np.savez, exclude_mask=GREY % 2, outlier_mask=GREY % 3)
NAMES = [f"radarPNG/2015/05/23/RAD15052300{minute:02}00.png" for minute in (0, 6, 12)]
ARCHIVE = {
    **dict.fromkeys(NAMES, PNG),
    "radarPNG_mask/2015/05/23/RAD150523000000.mask": MASK,
    "hko7_rainy_train_days.txt": DAY_LIST,
    "mask_dat.npz": STATIC,
}
ZIPS = [zipped(ARCHIVE), zipped(ARCHIVE, zipfile.ZIP_STORED)]
ODD_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


@st.composite
def changed(draw, wholes):
    """A whole file with bytes replaced, numbers written over, pieces cut out, doubled or moved."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 4))):
        if not content:
            break
        first = draw(st.integers(0, len(content) - 1))
        how = draw(st.sampled_from(["byte", "number", "cut", "double", "move", "end"]))
        last = min(len(content), first + draw(st.integers(1, 64)))
        piece = bytes(content[first:last])
        if how == "byte":
            content[first] = draw(st.integers(0, 255))
        elif how == "number":
            number = struct.pack(
                draw(st.sampled_from("<>")) + "I", draw(st.sampled_from(ODD_NUMBERS))
            )
            content[first : first + 4] = number
        elif how == "cut":
            del content[first:last]
        elif how == "double":
            content[first:first] = piece
        elif how == "move":
            del content[first:last]
            place = draw(st.integers(0, len(content)))
            content[place:place] = piece
        else:
            del content[first:]
    return bytes(content)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@st.composite
def pngs(draw):
    """PNGs whose chunks are sound by themselves, in any order, with any header and any image."""
    numbers = st.sampled_from([0, 1, SIZE - 1, SIZE, SIZE + 1, 2**16, 2**31 - 1, 2**32 - 1])
    small = st.sampled_from([0, 0, 0, 1, 2, 8, 16, 255])
    true_header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 0, 0, 0, 0)
    lying = st.builds(
        lambda *fields: struct.pack(">IIBBBBB", *fields),
        numbers, numbers, st.sampled_from([8, 8, 1, 16]), small, small, small, small,
    )  # fmt: skip
    interlaced = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 0, 0, 0, 1)
    rows = st.binary(max_size=2 * SIZE * (SIZE + 1)).map(zlib.compress)
    true_image = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY))
    bomb = zlib.compress(bytes(10**6))
    kinds = {
        b"IHDR": st.one_of(st.sampled_from([true_header, true_header, interlaced]), lying),
        b"IDAT": st.one_of(st.sampled_from([true_image, bomb, true_image[:20]]), rows),
        b"IEND": st.just(b""),
        b"PLTE": st.just(b"abc"),
        b"tRNS": st.just(b"\0\1"),
        b"acTL": st.just(struct.pack(">II", 2, 0)),
        b"fcTL": st.builds(
            lambda w, h: struct.pack(">IIIIIHHBB", 0, w, h, 0, 0, 1, 1, 0, 0), numbers, numbers
        ),
        b"iCCP": st.just(b"x\0\0" + bomb),
        b"zTXt": st.just(b"x\0\0" + bomb),
    }
    names = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=6))
    if draw(st.booleans()):
        names = [b"IHDR", *names, b"IDAT", b"IEND"]
    chunks = [chunk(kind, draw(kinds[kind])) for kind in names]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def check_message(error, path):
    """Errors name the file in one line."""
    assert str(error).startswith(str(path))
    assert "\n" not in str(error)


@contextmanager
def bounded_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def read_or_refused(read, content, name="RAD150523000000.png"):
    """What is read of a file, or None if it is refused as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        # What is imported at the first time is not what reading takes.
        with suppress(InputError):
            read(path)
        with bounded_memory():
            try:
                return read(path)
            except InputError as error:
                check_message(error, path)
                return None


@settings(deadline=None)
@given(st.one_of(changed([PNG]), st.binary(max_size=400)))
def test_a_changed_frame_gives_its_content_or_an_input_error(content):
    frame = read_or_refused(lambda path: read_frame(path, SIZE), content)
    assert frame is None or np.array_equal(frame, GREY)


@settings(deadline=None)
@given(pngs())
def test_a_frame_of_any_chunks_gives_a_frame_of_the_right_size_or_an_input_error(content):
    frame = read_or_refused(lambda path: read_frame(path, SIZE), content)
    if frame is not None:
        assert (frame.shape, frame.dtype) == ((SIZE, SIZE), np.uint8)
        assert b"IDAT" in content


@settings(deadline=None)
@given(
    st.one_of(changed([MASK]), st.binary(max_size=400), st.binary(max_size=400).map(zlib.compress))
)
def test_a_changed_mask_gives_a_mask_or_an_input_error(content):
    mask = read_or_refused(lambda path: read_mask(path, SIZE), content)
    if mask is not None:
        assert zlib.decompress(content) == mask.tobytes()


@settings(deadline=None)
@given(st.one_of(changed([STATIC, STATIC_STORED]), st.binary(max_size=400)))
def test_a_changed_static_mask_gives_its_content_or_an_input_error(content):
    exclude = read_or_refused(lambda path: read_exclude_mask(path, SIZE), content)
    assert exclude is None or np.array_equal(exclude, GREY % 2 == 1)


HEADERS = st.one_of(
    st.binary(max_size=120),
    st.text(alphabet="{}()[]'\",: 0123456789descrfotanhp|<u", max_size=120).map(str.encode),
    st.builds(
        "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}\n".format,
        st.sampled_from(["'|u1'", "'<f8'", "'|O'", "[('a', 'O')]", "'<i8'", "'|S9'", "'|V1'", "1"]),
        st.sampled_from(["False", "True", "1", "None"]),
        st.sampled_from(["(12, 12)", "(12, -12)", "(99999999999, 9)", "()", "(12,)", "((1,),)",
                         "'x'", "(" * 90, "(12.0, 12)", "(1e400, 1)", "(True, 144)"]),
    ).map(str.encode),
)  # fmt: skip


@settings(deadline=None)
@given(HEADERS, st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\x09\0"]), st.binary(max_size=300))
def test_a_static_mask_with_any_header_is_a_mask_or_refused(header, version, values):
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    content = zipped({"exclude_mask.npy": b"\x93NUMPY" + version + length + header + values})
    exclude = read_or_refused(lambda path: read_exclude_mask(path, SIZE), content, "mask_dat.npz")
    assert exclude is None or (exclude.shape, exclude.dtype) == ((SIZE, SIZE), bool)


@settings(deadline=None)
@given(
    st.one_of(changed([DAY_LIST]), st.binary(max_size=400), st.text(max_size=99).map(str.encode))
)
def test_a_changed_day_list_gives_days_of_the_calendar_or_an_input_error(content):
    days = read_or_refused(read_day_list, content)
    if days is not None:
        assert list(days) == sorted({str(np.datetime64(day, "D")) for day in days})
        assert len(days) == sum(bool(line.strip()) for line in content.splitlines())


def frames_of(root):
    """Each frame that the archive is found to hold, or the error that reading it gives."""
    archive = HKO7Archive(root, SIZE)
    read = {}
    for split in archive.splits.values():
        for frame in split.frames:
            try:
                read[frame.second] = read_frame_and_mask(archive.root, frame, SIZE)[0]
            except InputError as error:
                check_message(error, root)
    return read


@settings(deadline=None)
@given(st.one_of(changed(ZIPS), st.binary(max_size=400)))
def test_a_changed_zip_file_gives_true_frames_or_an_input_error(content):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "part.zip").write_bytes(content)
        with bounded_memory():
            try:
                for frame in frames_of(root).values():
                    np.testing.assert_array_equal(frame, GREY)
            except InputError as error:
                check_message(error, root)
        assert [path.name for path in root.rglob("*")] == ["part.zip"]


@settings(deadline=None)
@given(st.data(), changed(ZIPS))
def test_a_zip_file_changed_after_it_was_listed_gives_true_frames_or_an_input_error(data, content):
    whole = data.draw(st.sampled_from(ZIPS))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "part.zip").write_bytes(whole)
        (split,) = HKO7Archive(root, SIZE).splits.values()
        assert len(split.frames) == 3
        (root / "part.zip").write_bytes(content)
        with bounded_memory():
            for frame in split.frames:
                try:
                    pixels, _ = read_frame_and_mask(root, frame, SIZE)
                    np.testing.assert_array_equal(pixels, GREY)
                except InputError as error:
                    check_message(error, root)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_members_of_any_name_leave_the_folder_as_it_was(name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "archive"
        root.mkdir()
        names = [f"{name}/RAD150523000000.png", f"../../{name}/RAD150523000600.png", f"/{name}"]
        (root / "part.zip").write_bytes(zipped(dict.fromkeys(names, PNG)))
        try:
            found = frames_of(root)
        except InputError as error:
            check_message(error, root)
        else:
            assert all(np.array_equal(frame, GREY) for frame in found.values())
        assert [path.name for path in Path(folder).rglob("*")] == ["archive", "part.zip"]


def test_the_unchanged_files_are_read():
    assert np.array_equal(read_or_refused(lambda path: read_frame(path, SIZE), PNG), GREY)
    assert read_or_refused(lambda path: read_mask(path, SIZE), MASK).sum() == SIZE * SIZE // 2
    for static in (STATIC, STATIC_STORED):
        exclude = read_or_refused(lambda path: read_exclude_mask(path, SIZE), static)
        assert np.array_equal(exclude, GREY % 2 == 1)
    assert read_or_refused(read_day_list, DAY_LIST) == ("2015-05-23", "2015-05-24", "2016-02-29")
    for whole in ZIPS:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "part.zip").write_bytes(whole)
            assert len(frames_of(Path(folder))) == 3
