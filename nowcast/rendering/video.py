"""An MP4 that browsers and phones play: H.264, through PyAV. What its frames show: elsewhere."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, pairwise

import numpy as np
from PIL import Image

from nowcast.errors import InputError
from nowcast.files import replacing

QUALITY = 20
"""x264's constant rate factor: lower is better and larger; thin lines are still clean."""

LARGEST_SIDE = 1920
"""Pixels along the longer side, beyond which phones do not play it; larger pictures shrink."""

BT709 = 1
"""Number of the colour space of ITU-R BT.709 and of its curve, which players take for granted."""


def write_video(
    path: str | os.PathLike[str],
    pictures: Iterable[Image.Image],
    frames_per_second: float,
    last_frame_seconds: float,
) -> None:
    """Write pictures of one size as an MP4: H.264 in 4:2:0, its index in front.

    Pictures of more than 1920 pixels along their longer side shrink to it; an odd width or height
    gets one more row or column, a copy of the last one.

    Args:
        path: the file to write.
        pictures: at least one.
        frames_per_second: speed.
        last_frame_seconds: how long the last picture stays, at least; whole frames.

    Raises:
        InputError: the speed is not within (0, 50], or PyAV is not installed.
    """
    if not 0 < frames_per_second <= 50:
        raise InputError(f"frames per second: found {frames_per_second}, expected up to 50")
    try:
        import av
        from av.video.reformatter import ColorRange, Colorspace
    except ModuleNotFoundError:
        raise InputError("video: PyAV is not installed: pip install 'nowcast[video]'") from None
    rate = Fraction(frames_per_second).limit_denominator(1000)
    frames = map(_pixels, pictures)
    first = next(frames)
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        # Where a reader moves its slider to, the player finds a whole picture nearby.
        stream.options = {"crf": str(QUALITY), "g": str(max(1, round(2 * rate)))}
        coder = stream.codec_context
        coder.colorspace = coder.color_primaries = coder.color_trc = BT709
        coder.color_range = ColorRange.MPEG
        for pixels, times in _counted(chain([first], frames), round(last_frame_seconds * rate)):
            for _ in range(times):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _counted(pictures: Iterable[np.ndarray], last: int) -> Iterator[tuple[np.ndarray, int]]:
    """Every picture with how often it is shown: once, the last one `last` times."""
    for picture, following in pairwise(chain(pictures, [None])):
        if picture is not None:
            yield picture, max(1, last) if following is None else 1


def _pixels(picture: Image.Image) -> np.ndarray:
    """Red, green, blue (row, column, colour), not too large, rows and columns of even number."""
    picture = picture.convert("RGB")
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
