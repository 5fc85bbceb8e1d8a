"""What an evaluation has found: accumulated scores by method, event and kind.

How the numbers come about is `running`, what is made of them is decided elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from nowcast.errors import InputError
from nowcast.verification.accumulator import Accumulator, merged


@dataclass(frozen=True)
class ScoreKinds:
    """Which kinds of scores are accumulated, each by a name of its own.

    Args:
        forecast: makes empty accumulators, by kind, of the scores that every method gets.
        ensemble: makes those that methods with several members get besides, given the number of
            members. Their `update` takes members (batch, member, time, 1, y, x) for a prediction.
            None where there are none.
    """

    forecast: Callable[[], dict[str, Accumulator]]
    ensemble: Callable[[int], dict[str, Accumulator]] | None = None

    def of_members(self, members: int) -> dict[str, Accumulator]:
        """Empty accumulators of the scores of an ensemble; none for a single forecast."""
        return {} if self.ensemble is None or members < 2 else self.ensemble(members)


@dataclass
class MethodResult:
    """What was found of one method.

    Attributes:
        members: forecasts that it makes of each clip; 1 where it is no ensemble.
        events: accumulators by event and kind; every event has the same kinds.
        replaced: how many clips had another forecast than the method's own, by reason; empty where
            the method does not count them.
    """

    members: int
    events: dict[str, dict[str, Accumulator]] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of scores."""
        return tuple(next(iter(self.events.values()), {}))

    @property
    def clips(self) -> int:
        """Number of clips that were scored."""
        return sum(next(iter(kinds.values())).clips for kinds in self.events.values())

    def total(self, kind: str) -> Accumulator:
        """An accumulator of its own with one kind of scores over all events.

        Raises:
            InputError: there are no scores of that kind.
        """
        if kind not in self.kinds:
            there = ", ".join(self.kinds) or "none"
            raise InputError(f"scores: found {there}, expected {kind!r}")
        return merged([kinds[kind] for kinds in self.events.values()])
