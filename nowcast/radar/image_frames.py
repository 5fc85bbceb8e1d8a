"""A folder of PNG or GIF images as a radar event: settings, decoding, reading frame by frame.

Which files are frames is in `image_names`, what their pixels stand for in `image_legend`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from nowcast.errors import InputError
from nowcast.radar.events import MOST_PIXELS, Event
from nowcast.radar.image_legend import GreyLevels, Legend, checked_levels, read_legend
from nowcast.radar.image_names import DatedImage, image_files
from nowcast.radar.units import ZRRelation

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = 0
"""The PNG header's colour type of grey without alpha (PNG specification, chapter 11)."""


@dataclass(frozen=True)
class ImageSeries:
    """How folders of images are read: all frames are PNG or GIF images of one size, north at the
    top. What a pixel means is said by one of `dbz_per_level`, `mm_h_per_level` and `legend`.

    Args:
        pattern: names of the frames with their valid time in UTC, such as
            %Y/%m/%d/radar_%Y%m%d%H%M.png, with the fields %Y %y %m %d %j %H %M %S; a pattern with
            a slash is that of the path below the folder, one without that of the name alone,
            however deep the file lies. Fields that come twice must agree. Files with other names
            are passed over. Needed where an event is a folder of images.
        pixel_km: side of a pixel in km; without it nothing can be coarsened.
        dbz_per_level: reflectivity from one grey level to the next, in dB; with `dbz_at_zero`, and
            the Z–R relation zr_a, zr_b.
        dbz_at_zero: reflectivity that grey level 0 would have, in dBZ.
        mm_h_per_level: rain rate from one grey level to the next, in mm/h; level 0 is 0 mm/h.
        no_echo_levels: grey levels that are 0 mm/h, whatever the formula gives.
        missing_levels: grey levels that are not observed.
        legend: CSV file of colours, header colour,rain_rate_mm_h and lines #rrggbb,rate; an empty
            rate is not observed. Transparent pixels are not observed, with a legend or without.
        unknown_colours: what becomes of pixels of other colours: "refuse" names them as an error,
            "missing" takes them for not observed, as coastlines and text on a map need, and
            counts them in the log.
    """

    pattern: str | None = None
    pixel_km: float | None = None
    dbz_per_level: float | None = None
    dbz_at_zero: float | None = None
    mm_h_per_level: float | None = None
    no_echo_levels: Sequence[int] = (0,)
    missing_levels: Sequence[int] = ()
    legend: str | None = None
    unknown_colours: Literal["refuse", "missing"] = "refuse"

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values; nothing where there is no pattern."""
        return {} if self.pattern is None else asdict(self)


NO_IMAGES = ImageSeries()
"""Settings where no event is a folder of images."""


@dataclass(frozen=True)
class ImageReader:
    """Frames of a folder of images.

    Attributes:
        folder: where they lie.
        shape: (y, x) that every image has.
        bits: 8 or 16, of a grey level, that every image has.
        meaning: what the pixels stand for.
        files: the frames' files, in order of time.
    """

    folder: Path = field(repr=False)
    shape: tuple[int, int]
    bits: int
    meaning: GreyLevels | Legend
    files: tuple[DatedImage, ...]

    def taken(self, numbers: Sequence[int]) -> "ImageReader":
        """A reader of some of its frames alone, given by their places among them."""
        return replace(self, files=tuple(self.files[number] for number in numbers))

    def chunks(self) -> NDArray[np.int64]:
        """(n,): every frame lies in a file of its own."""
        return np.arange(len(self.files))

    def rain_rates(self, oddities: Counter[str]) -> Iterator[NDArray[np.float64]]:
        """Rain rate (y, x) in mm/h of each frame, row 0 north; NaN = not observed.

        Raises:
            InputError: a file is damaged, of another size, or has a pixel without meaning.
        """
        for file in self.files:
            path = self.folder / file.name
            image = read_image(path, self.shape)
            if (bits := _bits(image)) != self.bits:
                raise InputError(f"{path}: found {bits} bits per level, expected {self.bits}")
            try:
                yield self.meaning.rain_rates(image, oddities)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None


def open_images(folder: Path, images: ImageSeries, relation: ZRRelation | None) -> Event:
    """Find the frames of a folder, and decode the first of them, whose size all must have.

    Args:
        folder: where the images lie.
        images: how they are read, with a pattern.
        relation: the Z–R relation, for reflectivity.

    Raises:
        InputError: the settings contradict each other, no file matches, or the first is damaged.
    """
    meaning = _meaning(images, relation)
    if images.pixel_km is not None and not 0 < images.pixel_km < math.inf:
        raise InputError(f"pixel_km: found {images.pixel_km}, expected a length in km")
    files = image_files(folder, str(images.pattern))
    first = read_image(folder / files[0].name)
    seconds = np.array([file.second for file in files], dtype=np.int64)
    reflectivity = isinstance(meaning, GreyLevels) and meaning.relation is not None
    return Event(
        path=folder,
        times=seconds.astype("datetime64[s]"),
        shape=(first.height, first.width),
        grid_spacing_km=images.pixel_km,
        metadata={
            "file": folder.name,
            **({"zr_a": relation.a, "zr_b": relation.b} if reflectivity and relation else {}),
        },
        reader=ImageReader(folder, (first.height, first.width), _bits(first), meaning, files),
    )


def read_image(path: Path, shape: tuple[int, int] | None = None) -> Image.Image:
    """A decoded PNG or GIF.

    Args:
        path: the file.
        shape: (y, x) that it must have; None takes any up to `MOST_PIXELS`.

    Raises:
        InputError: it is damaged, of another format or size, animated, or of levels that would
            not be decoded as they are.
    """
    try:
        with Image.open(path, formats=("PNG", "GIF")) as image:
            _check_header(path, image, shape)
            # Checksums, which decoding passes over; it leaves the image unusable.
            image.verify()
        with Image.open(path, formats=("PNG", "GIF")) as image:
            if getattr(image, "is_animated", False):
                raise InputError("found an animation, expected one frame per file")
            image.load()
            return image.copy()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    # A damaged image makes Pillow raise whatever comes; to the reader it is all the same.
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a PNG or GIF image ({reason})") from error


def _check_header(path: Path, image: ImageFile.ImageFile, shape: tuple[int, int] | None) -> None:
    """Refuse an image by what its header says: a few bytes can announce one of any size."""
    if shape is not None and (image.height, image.width) != shape:
        raise InputError(
            f"found {image.height} × {image.width} pixels, "
            f"expected {shape[0]} × {shape[1]} as in the first image"
        )
    if image.height * image.width > MOST_PIXELS:
        raise InputError(
            f"found {image.height} × {image.width} pixels, expected at most {MOST_PIXELS:,}"
        )
    if image.format == "GIF" and image.tile[0][1] != (0, 0, *image.size):
        raise InputError("found a frame that covers a part of the GIF, expected all of it")
    with path.open("rb") as file:
        header = file.read(26)
    if header.startswith(_PNG_SIGNATURE):
        depth, colour_type = header[24], header[25]
        # Pillow stretches fewer bits to 8, and cuts colours of 16 bits down to them.
        if (depth < 8 and colour_type == _PNG_GREY) or (depth > 8 and colour_type != _PNG_GREY):
            kind = "grey levels" if colour_type == _PNG_GREY else "colours"
            raise InputError(
                f"found {kind} of {depth} bits, expected grey of 8 or 16, or colours of 8"
            )


def _bits(image: Image.Image) -> int:
    return 16 if image.mode.startswith("I") else 8


def _meaning(images: ImageSeries, relation: ZRRelation | None) -> GreyLevels | Legend:
    """What the pixels stand for, from the settings."""
    given = [
        name
        for name in ("dbz_per_level", "mm_h_per_level", "legend")
        if getattr(images, name) is not None
    ]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise InputError(
            f"images: found {found}, expected one of dbz_per_level, mm_h_per_level and legend"
        )
    levels = [checked_levels(n, getattr(images, n)) for n in ("no_echo_levels", "missing_levels")]
    if images.legend is not None:
        if images.missing_levels:
            raise InputError("images: found missing_levels, expected an empty rate in the legend")
        return read_legend(Path(images.legend), images.unknown_colours)
    if images.mm_h_per_level is not None:
        if not 0 < images.mm_h_per_level < math.inf:
            raise InputError(f"mm_h_per_level: found {images.mm_h_per_level}, expected more than 0")
        return GreyLevels(images.mm_h_per_level, 0.0, None, *levels)
    if images.dbz_at_zero is None or relation is None:
        missing = "dbz_at_zero" if images.dbz_at_zero is None else "zr_a and zr_b"
        raise InputError(f"images: found dbz_per_level without {missing}, expected both")
    per_level = float(images.dbz_per_level or 0)
    if not per_level or not math.isfinite(per_level + images.dbz_at_zero):
        raise InputError(f"dbz_per_level: found {images.dbz_per_level}, expected a number, not 0")
    return GreyLevels(per_level, images.dbz_at_zero, relation, *levels)
