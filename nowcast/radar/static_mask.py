"""The pixels of an archive that never count, as a frame store keeps them in its `preparation`.

They are read from an archive in `archive_files`; the online protocol's noise rule
(`verification.online`) is what needs them.
"""

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.regrid import average_pixels, central_crop
from nowcast.radar.store_contents import pack_masks, unpack_masks

HKO7_SOURCE = "archive in the HKO-7 layout"
"""What `preparation` says under `source` of a store to which the benchmark's noise rule belongs."""


def coarse_exclude_mask(exclude: NDArray[np.bool_], crop_to: int, factor: int) -> NDArray[np.bool_]:
    """The pixels that never count on the grid of a store, by the rule of every other mask.

    Args:
        exclude: bool (y, x) on the archive's grid, True = leave out.
        crop_to: side of the central crop that the store shows, in the archive's pixels.
        factor: pixels of the archive along each side of one of the store's.
    """
    counts = ~central_crop(exclude, crop_to)
    return ~average_pixels(np.zeros(counts.shape, np.uint8), counts, factor)[1]


def exclude_mask_as_text(exclude: NDArray[np.bool_]) -> str:
    """Base64 of the zlib stream of a mask packed as the store's other masks are."""
    return base64.b64encode(zlib.compress(pack_masks(exclude).tobytes(), 9)).decode("ascii")


def exclude_mask_from_text(text: object, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask bool (y, x) that `exclude_mask_as_text` made a text of; True = leave out.

    Args:
        text: what stands in the store, which is not believed.
        shape: (y, x) of the store's frames.

    Raises:
        InputError: it is no such text, or one of a mask of another shape.
    """
    height, along_x = shape[0], -(-shape[1] // 8)
    if not isinstance(text, str):
        raise InputError(f"found exclude_mask {text!r:.40}, expected text")
    try:
        stream = zlib.decompressobj()
        # One byte more than expected is enough to tell: a stream can grow a thousandfold.
        packed = stream.decompress(base64.b64decode(text, validate=True), height * along_x + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InputError(f"found an unreadable exclude_mask ({error})") from error
    if len(packed) != height * along_x or not stream.eof:
        raise InputError(
            f"found exclude_mask of another size than the frames, expected {height} × {shape[1]}"
        )
    return unpack_masks(np.frombuffer(packed, np.uint8).reshape(height, along_x), shape[1])
