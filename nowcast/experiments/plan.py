"""What is repeated in an experiment, and what is tried."""

import math
from dataclasses import dataclass

from nowcast.errors import InputError
from nowcast.experiments.tables import TUNE_DELTAS, TUNE_TOPS
from nowcast.memel.variants import Inhibition


@dataclass(frozen=True)
class Plan:
    """What is repeated, and what is tried.

    Args:
        seeds: each training is repeated with each; rows are compared seed by seed.
        tune_tops: tops that MEmeL-Tune and the search try beside MEmeL's own top 1 and Δ 1 (E.3) …
        tune_deltas: … each with each of these Δ.
    """

    seeds: tuple[int, ...] = (0,)
    tune_tops: tuple[int, ...] = TUNE_TOPS
    tune_deltas: tuple[float, ...] = TUNE_DELTAS

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds: found {list(self.seeds)}, expected different numbers from 0")
        if not (
            self.tune_tops
            and self.tune_deltas
            and min(self.tune_tops) > 0
            and 0 < min(self.tune_deltas) <= max(self.tune_deltas) < math.inf
        ):
            raise InputError(
                f"tuning: found tops {list(self.tune_tops)} and Δ {list(self.tune_deltas)}, "
                "expected at least one of each, all above 0 (E.3)"
            )

    @property
    def tried(self) -> tuple[Inhibition, ...]:
        """MEmeL's own top and Δ, then those of the grid."""
        grid = [Inhibition(top, delta) for top in self.tune_tops for delta in self.tune_deltas]
        return tuple(dict.fromkeys([Inhibition(), *grid]))
