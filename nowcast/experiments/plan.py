"""What is repeated in an experiment, and what is tried."""

from dataclasses import dataclass

from nowcast.memel.variants import Inhibition
from nowcast.search import DELTAS, TOPS, check_seeds, check_space, tried


@dataclass(frozen=True)
class Plan:
    """What is repeated, and what is tried.

    Args:
        seeds: each training is repeated with each; rows are compared seed by seed.
        tune_tops: tops that MEmeL-Tune and the search try beside MEmeL's own top 1 and Δ 1 (E.3) …
        tune_deltas: … each with each of these Δ.
    """

    seeds: tuple[int, ...] = (0,)
    tune_tops: tuple[int, ...] = TOPS
    tune_deltas: tuple[float, ...] = DELTAS

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        check_space(self.tune_tops, self.tune_deltas)

    @property
    def tried(self) -> tuple[Inhibition, ...]:
        """MEmeL's own top and Δ, then those of the grid."""
        return tried(self.tune_tops, self.tune_deltas)
