"""Which of a split's clips are drawn, and with what chances.

How a drawn clip is then turned, mirrored and cropped is `augmentation`.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.clips import Times, as_seconds, step_in_seconds
from nowcast.radar.store import Sequence

log = logging.getLogger("nowcast")

MOST_RAIN_FACTOR = 10.0


@dataclass(frozen=True)
class SamplingSettings:
    """Which clips training draws, and how it changes them; the defaults are the paper's protocol.

    Rain that is turned or mirrored moves from where it never comes from, and no longer lies as
    coasts and mountains make it lie: flips and quarter turns trade that for more kinds of rain.
    Validation and evaluation see whole frames as they are stored.

    Args:
        rain_share: share of the clips that is drawn in proportion to rain, in [0, 1); the others
            are drawn uniformly. 0.5 makes a clip at least half as likely as without, and rainy
            ones more. A clip's rain is 1 − exp(−R / (1 mm/h)), averaged over its frames.
        flips: mirror a clip left to right, and top to bottom, each with probability 1/2.
        quarter_turns: turn a clip by 0 to 3 quarter turns; square frames only. With `flips`, the 8
            symmetries of the square are equally likely.
        crop: side in pixels of the square that is cut from a clip, anywhere in the frame and the
            same in all of its frames; only for a network without coordinate channels. None takes
            whole frames.
        reversals: run a clip backwards with probability 1/2, so that rain which grows in an event
            does not teach that all rain grows.
        rain_factor: multiply the rain rates of a clip by a factor between its inverse and itself,
            all logarithms equally likely; what leaves the pixel range stays at its end. 1 leaves
            them as they are.
    """

    rain_share: float = 0.0
    flips: bool = False
    quarter_turns: bool = False
    crop: int | None = None
    reversals: bool = False
    rain_factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.rain_share < 1:
            raise InputError(
                f"sampling: rain_share is {self.rain_share}, expected at least 0 and less than 1"
            )
        if self.crop is not None and self.crop < 1:
            raise InputError(f"sampling: crop is {self.crop}, expected at least 1 pixel")
        if not 1 <= self.rain_factor <= MOST_RAIN_FACTOR:
            raise InputError(
                f"sampling: rain_factor is {self.rain_factor}, expected 1 to {MOST_RAIN_FACTOR:g}"
            )

    @property
    def changes_clips(self) -> bool:
        """Whether a clip may be another than the stored one."""
        return self != replace(UNIFORM, rain_share=self.rain_share)


UNIFORM = SamplingSettings()
"""The paper's protocol: uniform draws of clips as they are stored."""


def clip_rain(
    sequence: Sequence, starts: Times, length: int, step_minutes: float
) -> NDArray[np.float64]:
    """Rain of clips: the mean over their timestamps of `Sequence.rain`, 0 where a frame is missing.

    Args:
        sequence: whose clips they are.
        starts: of the clips.
        length: frames per clip.
        step_minutes: time between two frames of a clip.
    """
    stored, wanted = as_seconds(sequence.times), as_seconds(starts)
    total = np.zeros(len(wanted))
    for position in range(length):
        time = wanted + position * step_in_seconds(step_minutes)
        nearest = np.minimum(np.searchsorted(stored, time), len(stored) - 1)
        total += np.where(stored[nearest] == time, sequence.rain[nearest], 0)
    return total / length


class RainyDraw:
    """Draws a share a of the clips in proportion to their rain s and leaves the rest uniform.

    The chance of clip i of N is a defensive mixture (Hesterberg, Technometrics 37, 1995),

        p_i = (1 − a) / N + a s_i / Σ s,

    so that no clip is left out and the weight w_i = 1 / (N p_i), with which a mean over drawn clips
    estimates the mean over all without bias, never exceeds 1 / (1 − a). The training loss does
    without that weight: the balanced loss weighs rain up on purpose, and so does this draw. A split
    without rain is drawn from uniformly.

    Args:
        rain: of each clip, at least 0.
        share: a, in [0, 1).
    """

    def __init__(self, rain: NDArray[np.float64], share: float) -> None:
        self.rain = rain
        self.cumulative = np.cumsum(rain)
        self.share = share if self.cumulative[-1] > 0 else 0.0

    def replace(self, uniform: int, random: np.random.Generator) -> int:
        """A clip drawn in proportion to rain in a share of the cases, `uniform` in the others."""
        if random.random() >= self.share:
            return uniform
        drawn = random.random() * self.cumulative[-1]
        return int(np.searchsorted(self.cumulative, drawn, side="right"))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Chance p of each clip."""
        rainy = self.share * self.rain / (self.cumulative[-1] or 1.0)
        return (1 - self.share) / len(self.rain) + rainy

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight w of each clip."""
        return 1 / (len(self.rain) * self.probabilities)

    def describe(self) -> None:
        """Log what the draw does to the rain that training sees, or that there is none."""
        count = f"{len(self.rain):,}"
        if not self.share:
            log.warning("sampling: none of the %s clips has rain, all are equally likely", count)
            return
        chances, weights = self.probabilities, self.weights
        # Kish, Survey Sampling (1965): (Σ w)² / Σ w² of n draws, in the limit of many.
        effective = 1 / (chances @ weights**2)
        log.info(
            "sampling: %s clips, mean rain %.3g drawn uniformly and %.3g with rain_share %g; "
            "largest weight %.3g, effective sample size %.0f %%",
            count,
            self.rain.mean(),
            chances @ self.rain,
            self.share,
            weights.max(),
            100 * effective,
        )
