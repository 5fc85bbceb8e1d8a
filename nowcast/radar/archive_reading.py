"""Frames of an archive as a frame store wants them: with their masks, cropped and averaged.

What a file holds is read in `archive_files`; how grids are made coarser is in `regrid`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.archive_files import noise_rule, read_exclude_mask, read_frame, read_mask
from nowcast.radar.archive_places import ArchiveFile, FrameFile, mask_name, png_name
from nowcast.radar.regrid import average_pixels, central_crop


@dataclass(frozen=True)
class ArchiveReader:
    """Frames of an HKO-7 archive, cropped and averaged.

    A frame without a mask file gets its mask by the noise rule. Where the files lie is left out of
    the `repr`, so that it says what the reader does with them and nothing else.

    Attributes:
        root: the folder that the frames' places are relative to.
        size: pixels along each side of a frame in the archive.
        crop_to: side of the central crop.
        factor: pixels along each side of a cell that is averaged.
        exclude_mask: mask_dat.npz; None if there is none.
    """

    root: Path = field(repr=False)
    size: int
    crop_to: int
    factor: int
    exclude_mask: ArchiveFile | None

    def __call__(
        self, references: Sequence[FrameFile]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stored values (n, y, x) and masks of n frames.

        Raises:
            InputError: a file cannot be read.
        """
        frames = np.empty((len(references), self.crop_to, self.crop_to), dtype=np.uint8)
        masks = np.empty(frames.shape, dtype=bool)
        static = self.exclude_mask
        # Read once a call and never kept: the file may change between two preparations.
        by_rule = any(reference.mask is None for reference in references)
        exclude = read_exclude_mask(static, self.size) if static and by_rule else None
        for number, reference in enumerate(references):
            try:
                frame, mask = read_frame_and_mask(self.root, reference, self.size)
            except InputError as error:
                raise InputError(
                    f"{error}; --check lists all such files, --skip_unreadable true leaves them out"
                ) from error
            if mask is None:
                mask = noise_rule(frame, exclude)
            frames[number] = central_crop(frame, self.crop_to)
            masks[number] = central_crop(mask, self.crop_to)
        return average_pixels(frames, masks, self.factor)


def read_frame_and_mask(
    root: Path, frame: FrameFile, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Stored pixel values (size, size) of a frame, and its mask if it has a file of its own.

    Raises:
        InputError: one of the files cannot be read.
    """
    pixels = read_frame(ArchiveFile(root, frame.png, png_name(frame.second)), size)
    if frame.mask is None:
        return pixels, None
    return pixels, read_mask(ArchiveFile(root, frame.mask, mask_name(frame.second)), size)
