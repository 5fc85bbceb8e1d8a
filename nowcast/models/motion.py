"""How rain moves: a motion field from the last frames.

A motion field is `(2, y, x)`: the displacement of the rain to the right (x) and downwards (y, as
rows count), in pixels per time step. What is done with it is not here but in `extrapolation`.

Dense inverse search (DIS; Kroeger et al., ECCV 2016) as OpenCV computes it gives one field per pair
of successive frames. Three things make them one field that rain can be moved along for hours:

* what earlier pairs say is carried along with the rain and averaged with what later ones say;
* a pixel has a say if both frames of the pair observed it and one of them has rain there, and
  shares it with its surroundings by normalised convolution (Knutsson and Westin, CVPR 1993);
* air that is far from all rain takes the motion of what surrounds it, the wider the farther, so
  that a shower that is on its way through dry air goes on.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.units import rain_rate_to_pixel

FAINTEST_PIXEL = float(rain_rate_to_pixel(0.1))
"""Pixel value that DIS sees as black: 0.1 mm/h."""

BRIGHTEST_PIXEL = float(rain_rate_to_pixel(100.0))
"""Pixel value that DIS sees as white: 100 mm/h."""

SMALLEST_SIDE = 12
"""Shorter sides hold hardly more than one patch of DIS, which is 8 pixels wide."""

SMALLEST_SIDE_FOR_DIS = 48
"""Images are padded to it: OpenCV changes DIS for smaller ones, and crashes for some."""

CELL = 2
"""Side in pixels of the cells that motion is averaged on; DIS sees no finer either."""

SMOOTHING_CELLS = 2.0
"""Standard deviation, in cells, of the Gaussian that a pixel's say is shared by."""

FARTHER = 4
"""How much wider the next Gaussian is, for where the one before found no rain."""

SAY_OF_FARTHER = 1e-3
"""Weight of the next wider Gaussian: next to nothing wherever a narrower one found rain."""


def estimate_motion(frames: NDArray[np.floating[Any]], pairs: int = 4) -> NDArray[np.float32]:
    """Estimate how the rain moves, in pixels per time step.

    The pixel scale is logarithmic in rain rate already; only its part from 0.1 to 100 mm/h is
    stretched to the 8 bits that DIS takes. The flow runs from the later frame back to the earlier
    one, so that the motion stands where the rain has arrived. DIS goes down to half the grid's
    resolution, without variational refinement: on real events at 1 to 4 km that was both faster
    and better than its presets, which stop at a quarter and refine.

    Args:
        frames: pixel values in [0, 1], `(time, y, x)`, oldest first. NaN is not observed: no echo,
            and without a say.
        pairs: how many of the last pairs of successive frames to average over; fewer if there are
            fewer. Four 5- or 6-minute steps are right for rain; steps of 2 minutes want more.

    Returns:
        `(2, y, x)`: motion along x and along y; zero if there is no rain at all.

    Raises:
        InputError: fewer than two frames, or a side below 12 pixels.
    """
    if pairs < 1:
        raise InputError(f"optical flow: found pairs={pairs}, expected at least 1")
    if frames.ndim != 3 or frames.shape[0] < 2 or min(frames.shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"optical flow: found frames of shape {frames.shape}, expected (time, y, x) with at "
            f"least 2 frames and {SMALLEST_SIDE} pixels on each side"
        )
    used = frames[-pairs - 1 :]
    observed = ~np.isnan(used)
    stretched = (np.nan_to_num(used) - FAINTEST_PIXEL) * (255 / (BRIGHTEST_PIXEL - FAINTEST_PIXEL))
    images = stretched.clip(0, 255).astype(np.uint8)
    height, width = images.shape[1:]
    missing = [(0, max(0, SMALLEST_SIDE_FOR_DIS - side)) for side in (height, width)]
    padded = np.pad(images, [(0, 0), *missing], mode="edge") if np.any(missing) else images
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(1)
    # Motion along x and y times its weight, and the weight, in one array of cells: (y, x, 3).
    said = np.zeros((-(-height // CELL), -(-width // CELL), 3), dtype=np.float32)
    place = np.indices(said.shape[:2], dtype=np.float32)[::-1]
    for number in range(1, len(images)):
        found = flow.calc(padded[number], padded[number - 1], None)[:height, :width]
        backwards = _averaged(found, CELL)
        has_rain = (images[number - 1] | images[number]) > 0
        counts = has_rain & observed[number - 1] & observed[number]
        weight = _averaged(counts.astype(np.float32), CELL)[..., None]
        x, y = (place + np.moveaxis(backwards, -1, 0) / CELL).astype(np.float32, copy=False)
        said = cv2.remap(said, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        said += np.concatenate([-backwards * weight, weight], axis=-1)
    return _shared(said, height, width)


def _shared(said: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Motion `(2, y, x)` everywhere, from weighted motion and weight `(y, x, 3)` of cells."""
    shared = np.zeros_like(said)
    share, farther = 1.0, said
    while True:
        blurred = cv2.GaussianBlur(
            farther, (0, 0), sigmaX=SMOOTHING_CELLS, borderType=cv2.BORDER_REPLICATE
        )
        shared += share * cv2.resize(blurred, (said.shape[1], said.shape[0]))
        if farther.shape[:2] == (1, 1):
            break
        share, farther = share * SAY_OF_FARTHER, _averaged(farther, FARTHER)
    total, weight = shared[..., :2], shared[..., 2:]
    motion = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return np.ascontiguousarray(np.moveaxis(cv2.resize(motion, (width, height)), -1, 0))


def _averaged(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean over cells of factor × factor pixels, a little less where the sides do not divide."""
    height, width = values.shape[:2]
    size = (-(-width // factor), -(-height // factor))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
