"""Accumulators of scores: sums over clips, and the scores that follow from the sums.

Every score here is a function of sums that add up over clips. That is what makes scores of parts
mergeable, evaluations resumable, and resampling of events cheap: a resampled score is the same
function of other sums.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError

Sums = Mapping[str, NDArray[Any]]
"""Sums over clips by name; `clips` is their number."""

Field = torch.Tensor | NDArray[Any]

LEAD_TIME = "lead_time"
THRESHOLD = "threshold_mm_h"


class Accumulator(ABC):
    """Sums over clips, per lead time.

    Args:
        lead_times: number of forecast frames of every clip.

    Attributes:
        lead_times: as given.
        sums: what has been added up so far, by name; `clips` () is the number of clips.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]]
    """The axes of each score; the first is always `lead_time`."""

    COUNTS: ClassVar[frozenset[str]] = frozenset()
    """The scores that are sums themselves, of which a mean over lead times says nothing."""

    def __init__(self, lead_times: int) -> None:
        if lead_times < 1:
            raise InputError(f"lead times: expected at least 1, found {lead_times}")
        self.lead_times = lead_times
        self.sums: dict[str, NDArray[Any]] = {"clips": np.zeros((), np.int64)}

    @property
    def clips(self) -> int:
        """Number of clips that were added."""
        return int(self.sums["clips"])

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Values along the axes of the scores, by axis; lead times, which are steps, left out."""
        return {}

    @abstractmethod
    def update(self, prediction: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips.

        Args:
            prediction: pixel values (batch, time, 1, y, x).
            truth: observed pixel values in [0, 1], same shape.
            mask: True where a pixel counts, same shape.
        """

    @abstractmethod
    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores that follow from sums, NaN where one is undefined.

        Args:
            sums: as `self.sums`, or with further axes in front, the same for all: one set of sums
                for each of many resamples, say. They are then in front of the scores' axes too.
        """

    def compute(self) -> dict[str, NDArray[Any]]:
        """Scores by name, with the axes of `DIMENSIONS`."""
        return self.scores_from(self.sums)

    def summary_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Mean over lead times of every score that follows from sums; counts are left out.

        Lead times at which a score is undefined (NaN) are left out of its mean; a score undefined
        at every lead time stays NaN.
        """
        return {
            name: mean_of_defined(values, axis=values.ndim - len(self.DIMENSIONS[name]))
            for name, values in self.scores_from(sums).items()
            if name not in self.COUNTS
        }

    def summary(self) -> dict[str, NDArray[Any]]:
        """Mean over lead times of every score that `compute` gives: see `summary_from`."""
        return self.summary_from(self.sums)

    def merge(self, other: "Accumulator") -> Self:
        """Add what `other` has accumulated; returns this accumulator.

        Raises:
            InputError: `other` is of another kind or has other lead times, thresholds and so on.
        """
        mine, theirs = self._described(), other._described()
        if mine != theirs:
            raise InputError(f"scores to merge: found {theirs}, expected {mine}")
        for name, values in other.sums.items():
            self.sums[name] = self.sums[name] + values
        return self

    def _described(self) -> str:
        axes = ", ".join(f"{axis} {values}" for axis, values in self.coordinates.items())
        return f"{type(self).__name__} of {self.lead_times} lead times{axes and ', '}{axes}"


def merged(accumulators: Iterable[Accumulator]) -> Accumulator:
    """An accumulator of its own with what several have accumulated.

    Raises:
        InputError: there is none, or they are of several kinds: see `Accumulator.merge`.
    """
    total: Accumulator | None = None
    for one in accumulators:
        total = copy.deepcopy(one) if total is None else total.merge(one)
    if total is None:
        raise InputError("scores to merge: found none, expected at least one")
    return total


def mean_of_defined(values: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """Mean over an axis of the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=axis) / defined.sum(axis=axis))
