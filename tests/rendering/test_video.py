"""Videos, decoded again: number, size and time of the frames, and their colours."""

import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from nowcast.errors import InputError
from nowcast.rendering.palette import DRY_COLOUR, PROBABILITY_COLOURS, RAIN_COLOURS
from nowcast.rendering.video import write_video

COLOURS = [
    tuple(bytes.fromhex(colour[1:]))
    for colour in ("#ffffff", DRY_COLOUR, *RAIN_COLOURS, *PROBABILITY_COLOURS)
]
BOX = 24


def picture(shift=0, width=BOX * 20, height=96):
    """Boxes of all colours beside each other, turned by some boxes."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for index in range(-(-width // BOX)):
        pixels[:, index * BOX : (index + 1) * BOX] = COLOURS[(index + shift) % len(COLOURS)]
    return Image.fromarray(pixels)


def decoded(path):
    with av.open(str(path)) as container:
        (stream,) = container.streams
        frames = list(container.decode(stream))
        seconds = float(stream.duration * stream.time_base)
        return stream.codec_context, frames, seconds


def test_frames_are_all_there_at_the_speed_asked_for_and_the_last_one_stays(tmp_path):
    path = tmp_path / "new" / "a.mp4"
    write_video(path, (picture(shift) for shift in range(6)), 4, last_frame_seconds=1.5)
    coder, frames, seconds = decoded(path)
    # Six frames, and the last one five times more: a second and a half.
    assert (len(frames), seconds) == (11, 2.75)
    assert [frame.pts * frame.time_base for frame in frames] == [
        Fraction(index, 4) for index in range(11)
    ]
    assert (coder.name, coder.profile, coder.pix_fmt) == ("h264", "High", "yuv420p")
    assert (coder.width, coder.height) == (480, 96)
    assert (coder.colorspace, coder.color_range) == (1, 1)  # BT.709, limited.
    # A player need not have the whole file to begin.
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.mp4"]


def test_every_colour_comes_back_in_every_frame_by_two_decoders(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, (picture(shift) for shift in range(5)), 5, last_frame_seconds=0)
    _, frames, _ = decoded(path)
    capture = cv2.VideoCapture(str(path))
    assert len(frames) == capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    for shift, frame in enumerate(frames):
        expected = np.asarray(picture(shift))[48, BOX // 2 :: BOX].astype(int)
        own = frame.to_ndarray(format="rgb24", src_colorspace="ITU709")
        there, other = capture.read()
        assert there
        # Nobody tells these colours apart: 6 of 255 at most, the nearest two are further apart.
        np.testing.assert_allclose(own[48, BOX // 2 :: BOX], expected, atol=6)
        # OpenCV decodes with the curve of standard definition whatever the file says.
        np.testing.assert_allclose(other[48, BOX // 2 :: BOX, ::-1], expected, atol=40)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((481, 95), (482, 96)), ((2400, 1201), (1920, 962)), ((33, 65), (34, 66))],
)
def test_sides_become_even_and_not_too_long(tmp_path, size, expected):
    write_video(tmp_path / "a.mp4", [picture(0, *size)], 2.5, 0.4)
    coder, frames, seconds = decoded(tmp_path / "a.mp4")
    assert (coder.width, coder.height, len(frames)) == (*expected, 1)
    assert seconds == pytest.approx(0.4)


def test_what_cannot_be_written_is_refused_and_the_earlier_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    for speed in (0, 51, float("nan")):
        with pytest.raises(InputError, match="frames per second"):
            write_video(path, [picture()], speed, 1)

    def broken():
        yield picture()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(path, broken(), 5, 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'nowcast\[video\]'"):
        write_video(path, [picture()], 5, 1)
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
