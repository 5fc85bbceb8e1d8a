"""How much rain a frame holds, as one number.

The measure is that by which Ravuri et al. 2021 ("Skilful precipitation nowcasting using deep
generative models of radar") weigh clips: the mean of 1 − exp(−R) over the pixels, R the rain rate
in mm/h. It lies in [0, 1] and grows with the area of rain rather than with its peaks.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.radar.units import pixel_to_rain_rate


def _saturated_rain_of_each_value() -> NDArray[np.float64]:
    values = -np.expm1(-pixel_to_rain_rate(np.arange(256) / 255))
    values[0] = 0.0
    return values


SATURATED_RAIN = _saturated_rain_of_each_value()
"""1 − exp(−R / (1 mm/h)) of each stored value 0–255; value 0 is no echo, so no rain."""


def mean_saturated_rain(frames: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of 1 − exp(−R / (1 mm/h)) over each frame's pixels that count, with HKO-7's Z–R.

    Args:
        frames: uint8 (n, y, x), pixel value × 255.
        masks: bool (n, y, x), True = counts.

    Returns:
        float32 (n,); 0 where no pixel counts.
    """
    rain = np.zeros(len(frames), dtype=np.float32)
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        counts = cv2.calcHist([frame], [0], mask.view(np.uint8), [256], [0, 256]).ravel()
        pixels = counts.sum(dtype=np.float64)
        if pixels:
            rain[number] = np.dot(counts.astype(np.float64), SATURATED_RAIN) / pixels
    return rain
