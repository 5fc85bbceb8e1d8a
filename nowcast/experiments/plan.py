"""What is repeated in an experiment, and what is tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from nowcast.errors import InputError
from nowcast.memel.layer import MEmeL
from nowcast.memel.variants import Inhibition
from nowcast.search import DELTAS, TOPS, check_seeds, check_space, tried


@dataclass(frozen=True)
class Plan:
    """What is repeated, and what is tried.

    Args:
        seeds: each training is repeated with each; rows are compared seed by seed.
        tune_tops: tops that MEmeL-Tune and the search try beside MEmeL's own top 1 and Δ 1 (E.3) …
        tune_deltas: … each with each of these Δ; `dependence` tries tops and Δ one at a time.
        late_starts: calls that only collect statistics, that `dependence` alone tries beside those
            of all layers, one at a time, too.
    """

    seeds: tuple[int, ...] = (0,)
    tune_tops: tuple[int, ...] = TOPS
    tune_deltas: tuple[float, ...] = DELTAS
    late_starts: tuple[int, ...] = (0, 10_000)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        check_space(self.tune_tops, self.tune_deltas)
        if min(self.late_starts, default=0) < 0 or len(set(self.late_starts)) < len(
            self.late_starts
        ):
            raise InputError(
                f"late_starts: found {list(self.late_starts)}, expected different numbers from 0"
            )

    @property
    def tried(self) -> tuple[Inhibition, ...]:
        """MEmeL's own top and Δ, then those of the grid."""
        return tried(self.tune_tops, self.tune_deltas)

    def one_at_a_time(self, layers: Mapping[str, Any]) -> tuple[Inhibition, ...]:
        """MEmeL's own settings, one of them changed: top, Δ, late start, what a neuron is.

        Args:
            layers: settings of all layers; what they have anyway is no change.
        """
        changed = (
            *(Inhibition(top=top) for top in self.tune_tops),
            *(Inhibition(delta=delta) for delta in (0.0, -1.0, *self.tune_deltas)),
            *(Inhibition(late_start=calls) for calls in self.late_starts),
            Inhibition(neurons="element"),
            Inhibition(neurons="channel"),
        )
        defaults = {name: given.default for name, given in signature(MEmeL).parameters.items()}
        usual = {**defaults, **layers, **Inhibition().settings}
        return tuple(one for one in dict.fromkeys(changed) if usual | one.settings != usual)
