"""What is scored, on which clips and by which protocol: the settings of an evaluation.

Which methods are compared is set in `methods`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from nowcast.errors import InputError
from nowcast.verification import (
    THRESHOLDS_MM_H,
    Accumulator,
    EnsembleScores,
    FractionsSkill,
    RainRateErrors,
    ScoreKinds,
    Scores,
    Spectra,
    central_region,
)
from nowcast.verification.fractions import WINDOWS_PIXELS, check_windows
from nowcast.verification.running import Region

FurtherScores = Literal["rain rate", "fractions", "spectra"]


@dataclass(frozen=True)
class ScoreSettings:
    """What is scored beside the benchmark's scores, and how sure the numbers are.

    Args:
        thresholds_mm_h: rain rates that make an event, in mm/h.
        scores: further scores: "rain rate" (bias, MAE and RMSE in mm/h), "fractions" (fractions
            skill score), "spectra" (power by wavelength, which shows blurring). Ensembles are also
            scored as such (CRPS, rank histogram, reliability).
        windows_pixels: sides of the squares of the fractions skill score, odd.
        central_region: score the middle half of each side only, as rows and columns 120–360 of
            HKO-7's 480.
        resamples: resamples of the events for intervals and paired tests; 0 goes without.
        resampling_seed: decides them.
    """

    thresholds_mm_h: tuple[float, ...] = THRESHOLDS_MM_H
    scores: tuple[FurtherScores, ...] = ("rain rate", "fractions", "spectra")
    windows_pixels: tuple[int, ...] = WINDOWS_PIXELS
    central_region: bool = False
    resamples: int = 1000
    resampling_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("resamples", "resampling_seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: found {getattr(self, name)}, expected at least 0")

    def region(self, shape: tuple[int, int]) -> Region | None:
        """Rows and columns of frames (y, x) that are scored, None for all."""
        return central_region(shape) if self.central_region else None

    def kinds(self, lead_times: int, shape: tuple[int, int]) -> ScoreKinds:
        """The scores to accumulate, for frames of a shape (y, x).

        Raises:
            InputError: thresholds or windows that make no sense.
        """
        top, bottom, left, right = self.region(shape) or (0, shape[0], 0, shape[1])
        scored = (bottom - top, right - left)
        if "fractions" in self.scores:
            check_windows(self.windows_pixels, scored)

        def of_forecasts() -> dict[str, Accumulator]:
            further: dict[str, Accumulator] = {
                "rain rate": RainRateErrors(lead_times),
                "fractions": FractionsSkill(lead_times, self.thresholds_mm_h, self.windows_pixels),
                "spectra": Spectra(lead_times, scored),
            }
            asked: dict[str, Accumulator] = {name: further[name] for name in self.scores}
            return {"benchmark": Scores(lead_times, self.thresholds_mm_h), **asked}

        def of_members(members: int) -> dict[str, Accumulator]:
            return {"ensemble": EnsembleScores(lead_times, members, self.thresholds_mm_h)}

        of_forecasts()  # Refuses what makes no sense before anything is forecast.
        return ScoreKinds(of_forecasts, of_members)


@dataclass(frozen=True)
class ClipSettings:
    """Which clips are scored, and by which protocol.

    Args:
        split: split of the store.
        protocol: "offline" scores each clip alone; "online" goes through them in order of time and
            lets networks learn on the way, by the rule of the benchmark's authors.
        stride: frames between the starts of clips; 5 is the benchmark's.
        at_most: score only so many clips, spread evenly; offline only.
        online_learning_rate: of AdaGrad, with which networks learn on the way.
    """

    split: str = "test"
    protocol: Literal["offline", "online"] = "offline"
    stride: int = 5
    at_most: int | None = None
    online_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise InputError(f"stride: found {self.stride}, expected at least 1")
        if self.protocol == "online" and self.at_most is not None:
            raise InputError(
                f"at_most: found {self.at_most} with the online protocol, which goes through all "
                "clips; expected none"
            )
        if not 0 < self.online_learning_rate < math.inf:
            raise InputError(
                f"online_learning_rate: found {self.online_learning_rate}, expected a positive "
                "number"
            )
