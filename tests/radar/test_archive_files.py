"""Frames, masks and static masks of an archive: what is not as it must be is refused by name."""

import zlib

import cv2
import numpy as np
import pytest
from made_up import SIZE

from nowcast.errors import InputError
from nowcast.radar.archive_files import read_exclude_mask, read_frame, read_mask


def png(frame, parameters=()):
    return cv2.imencode(".png", frame, list(parameters))[1].tobytes()


GREY = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def in_pieces(frame, *kinds, header=b""):
    """A PNG with chunks of these kinds after its header; the image in as many as are IDAT."""
    rows = b"".join(b"\0" + row.tobytes() for row in frame)
    packed, number = zlib.compress(rows), max(1, kinds.count(b"IDAT"))
    pieces = [packed[n * len(packed) // number : (n + 1) * len(packed) // number]
              for n in range(number)]  # fmt: skip
    chunks = [chunk(kind, pieces.pop(0) if kind == b"IDAT" else b"Title\0x") for kind in kinds]
    size = np.array([frame.shape[1], frame.shape[0]], ">u4").tobytes()
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\0\0\0\0") + header
    return start + b"".join(chunks) + chunk(b"IEND", b"")


def test_an_image_in_several_chunks_between_others_is_read(tmp_path):
    path = tmp_path / "RAD150523000000.png"
    for kinds in ([b"IDAT"], [b"tEXt", b"IDAT", b"IDAT", b"IDAT", b"tIME"]):
        path.write_bytes(in_pieces(GREY, *kinds))
        np.testing.assert_array_equal(read_frame(path, SIZE), GREY)


def test_the_frames_of_an_animation_do_not_take_the_place_of_the_image(tmp_path):
    control = np.array([0, 5, 5, 0, 0], ">u4").tobytes() + b"\0\1\0\1\0\0"
    animation = chunk(b"acTL", b"\0\0\0\5\0\0\0\0") + chunk(b"fcTL", control)
    path = tmp_path / "RAD150523000000.png"
    path.write_bytes(in_pieces(GREY, b"IDAT", header=animation))
    np.testing.assert_array_equal(read_frame(path, SIZE), GREY)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (png(GREY[:-1]), "12 × 11 pixels of 8-bit grey"),
        (png(GREY.astype(np.uint16)), "12 × 12 pixels of 16-bit grey"),
        (png(np.dstack([GREY] * 3)), "12 × 12 pixels of 8-bit RGB"),
        (png(GREY)[:-20], "truncated PNG"),
        (png(GREY)[:60], "truncated PNG"),
        (png(GREY)[:50] + b"?" + png(GREY)[51:], "damaged PNG"),
        (png(GREY)[:8] + png(GREY)[33:], "without header"),
        (png(GREY)[:33] + png(GREY)[8:], "without header"),
        (in_pieces(GREY, b"IDAT", b"tEXt", b"IDAT"), "wrong order"),
        (in_pieces(GREY, b"IDAT", b"ABCD"), "cannot be decoded"),
        (in_pieces(GREY, b"IDAT")[:-20] + in_pieces(GREY)[-12:], "damaged|truncated"),
        (in_pieces(GREY), "cannot be decoded"),
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
    np.savez_compressed(path, exclude_mask=np.zeros((2000, 2000), np.uint8))
    with pytest.raises(InputError, match=r"mask_dat\.npz"):
        read_exclude_mask(path, SIZE)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(InputError, match=r"mask_dat\.npz"):
        read_exclude_mask(path, SIZE)
    np.savez(path, exclude_mask=np.asfortranarray(GREY % 2).astype(">i8"), outlier_mask=GREY)
    np.testing.assert_array_equal(read_exclude_mask(path, SIZE), GREY % 2 == 1)


def test_the_static_mask_is_read_anew_from_a_file_of_the_same_size(tmp_path):
    path = tmp_path / "mask_dat.npz"
    np.savez(path, exclude_mask=np.zeros((SIZE, SIZE), np.uint8))
    size = path.stat().st_size
    assert not read_exclude_mask(path, SIZE).any()
    np.savez(path, exclude_mask=np.ones((SIZE, SIZE), np.uint8))
    assert path.stat().st_size == size
    assert read_exclude_mask(path, SIZE).all()
