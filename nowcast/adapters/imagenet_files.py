"""Where the images of ImageNet-1k are: folders of class folders, or tar files read in place.

How a network is shown them is `imagenet`.
"""

import csv
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image

from nowcast.errors import InputError

TRAIN = ("train", "ILSVRC2012_img_train")
VAL = ("val", "validation", "ILSVRC2012_img_val")
VAL_CLASSES = "LOC_val_solution.csv"
"""Classes of the official validation images, as distributed with them on Kaggle."""
SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Split:
    """Images of one split, by class and file name.

    Args:
        path: folder or tar file.
        names: of the images in it.
        classes: names of the classes.
        labels: number of each image's class, int64.
        spans: first byte and length of each image in the tar file (image, 2); None in a folder.
    """

    path: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    spans: np.ndarray | None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, place: int) -> Image.Image:
        """One image, RGB.

        Raises:
            InputError: if it cannot be read; names the file.
        """
        where = self.path / self.names[place]
        try:
            if self.spans is None:
                content = where.read_bytes()
            else:  # Opened anew: workers that share a file would move one another's position.
                first, length = self.spans[place].tolist()
                with self.path.open("rb") as file:
                    file.seek(first)
                    content = file.read(length)
            return Image.open(BytesIO(content)).convert("RGB")
        except (OSError, SyntaxError) as error:
            reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
            raise InputError(f"{where}: found no readable image{reason}") from error


def open_split(root: Path, names: tuple[str, ...]) -> Split:
    """Find the images of a split below a folder; reads no image.

    Args:
        root: folder.
        names: that a folder or tar file of the split may have: `TRAIN` or `VAL`.

    Raises:
        InputError: if there are none, or not in classes.
    """
    places = [root / name for name in names] + [root / f"{name}.tar" for name in names]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        expected = ", ".join(place.name + "/" * (not place.suffix) for place in places)
        raise InputError(
            f"{root}: found none of {expected}; ImageNet-1k is given out at image-net.org, put it "
            "there or name its place (--data)"
        )
    found = _in_folder(path) if path.is_dir() else _in_tar(path)
    if not found:
        raise InputError(f"{path}: found no images ({' '.join(SUFFIXES)})")
    if any(not name for name, *_ in found):
        table = root / VAL_CLASSES
        if names is TRAIN or not table.exists():
            raise InputError(
                f"{path}: found images outside of class folders, expected <class>/<image>; put "
                f"validation images into folders, or {VAL_CLASSES} beside {path.name}"
            )
        classes_of = _read_classes(table)
        try:
            found = [(classes_of[PurePosixPath(name).stem], name, span) for _, name, span in found]
        except KeyError as error:
            raise InputError(f"{table}: found no image {error}, which is in {path}") from None
    found.sort(key=lambda entry: (entry[0], PurePosixPath(entry[1]).name))
    classes, labels = np.unique([entry[0] for entry in found], return_inverse=True)
    return Split(
        path,
        names=tuple(entry[1] for entry in found),
        classes=tuple(classes.tolist()),
        labels=labels.astype(np.int64),
        spans=None if path.is_dir() else np.array([entry[2] for entry in found], np.int64),
    )


Found = list[tuple[str, str, tuple[int, int]]]
"""Class, name and span of images; the class is empty outside of class folders."""


def _in_folder(path: Path) -> Found:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    found, numbers = find_images_and_targets(str(path), types=SUFFIXES, sort=False)
    classes = {number: name for name, number in numbers.items()}
    return [(classes[n], Path(file).relative_to(path).as_posix(), (0, 0)) for file, n in found]


def _in_tar(path: Path) -> Found:
    # timm's reader reads the whole archive to find them, at each start, unless it keeps a pickle.
    try:
        with path.open("rb") as file:
            return list(_members(file, "", 0))
    except tarfile.TarError as error:
        raise InputError(f"{path}: found no complete tar file ({error})") from error


def _members(file: IO[bytes], folder: str, base: int) -> Iterator[tuple[str, str, tuple[int, int]]]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # A million would fill memory.
            name = PurePosixPath(folder, member.name)
            first = base + member.offset_data
            suffix = name.suffix.lower()
            if member.isfile() and suffix == ".tar":
                inner = archive.extractfile(member)
                assert inner is not None
                yield from _members(inner, name.stem, first)
            elif member.isfile() and suffix in SUFFIXES:
                yield name.parent.name, str(name), (first, member.size)
        # An archive that was cut between two files, or in a header, ends without a word.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("unexpected end of data")


def _read_classes(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (KeyError, IndexError, AttributeError):
        raise InputError(
            f"{path}: found other columns, expected ImageId and PredictionString"
        ) from None
