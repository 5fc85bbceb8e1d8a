"""Whether a series grows: a robust slope, and how far it is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS = 100
"""Points that a slope is taken through, at most; each is the median of neighbouring values."""

BLOCKS = 10
"""Parts of a series that are resampled as wholes: what lasts for a tenth of it stays together."""

RESAMPLES = 1_000
LEVEL = 0.95


@dataclass(frozen=True)
class Trend:
    """A slope per unit of the abscissa, with the bounds of its 95 % interval."""

    slope: float
    low: float
    high: float

    def times(self, factor: float) -> dict[str, float | list[float]]:
        """Slope and interval multiplied by a factor above 0, as plain values."""
        return {
            "slope": self.slope * factor,
            "95 % interval": [self.low * factor, self.high * factor],
        }


def trend_of(at: ArrayLike, values: ArrayLike, seed: int = 0) -> Trend:
    """Theil–Sen slope with an interval by a block bootstrap of the residuals.

    The slope is the median of those of all pairs of points (Sen, JASA 63, 1968): outliers, such as
    steps that a checkpoint follows, do not move it. Residuals are resampled in circular blocks
    (Politis and Romano, 1992), so that the interval holds where neighbouring values go together, as
    under another program's load.

    Args:
        at: abscissas, increasing (n,), at least 2.
        values: at these (n,).
        seed: of the bootstrap.
    """
    count = min(np.size(at), POINTS)
    x = _medians(at, count)
    y = _medians(values, count)
    first, second = np.triu_indices(count, k=1)
    runs = x[second] - x[first]

    def slope_of(ordinates: NDArray[np.float64]) -> float:
        return float(np.median((ordinates[second] - ordinates[first]) / runs))

    slope = slope_of(y)
    # Of ten blocks, the line has taken two degrees of freedom.
    residuals = (y - slope * x) * np.sqrt(BLOCKS / (BLOCKS - 2))
    random = np.random.default_rng(seed)
    length = -(-count // BLOCKS)
    within = np.arange(length)
    slopes = []
    for _ in range(RESAMPLES):
        starts = random.integers(count, size=BLOCKS)
        places = (starts[:, None] + within).ravel()[:count] % count
        slopes.append(slope + slope_of(residuals[places]))
    low, high = np.quantile(slopes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Trend(slope, float(low), float(high))


def _medians(values: ArrayLike, count: int) -> NDArray[np.float64]:
    parts = np.array_split(np.asarray(values, np.float64), count)
    return np.array([np.median(part) for part in parts])
