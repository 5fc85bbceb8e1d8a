"""A table's finetunings: which there are, in which order, and which of them a row shows."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nowcast.adapters.rows import ROWS
from nowcast.adapters.runs import Outcome, Run
from nowcast.errors import InputError
from nowcast.memel.variants import FINETUNED_WITH, Inhibition
from nowcast.search import DELTAS, TOPS, check_seeds, check_space, tried

log = logging.getLogger("nowcast")


@dataclass(frozen=True)
class Plan:
    """What is to be finetuned.

    Args:
        rows: of the table; MEmeL-T needs no finetuning of its own beside MEmeL.
        seeds: each finetuning is repeated with each.
        tune_tops: tops that MEmeL-Tune tries beside MEmeL's own top 1 and Δ 1 (E.3) …
        tune_deltas: … each with each of these Δ, at the learning rate chosen for MEmeL.
    """

    rows: tuple[str, ...] = ROWS
    seeds: tuple[int, ...] = (0,)
    tune_tops: tuple[int, ...] = TOPS
    tune_deltas: tuple[float, ...] = DELTAS

    def check(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            InputError: for rows that do not exist, no seeds, or a grid that makes no sense.
        """
        unknown = [row for row in self.rows if row not in ROWS]
        if unknown or not self.rows:
            found = ", ".join(unknown) or "none"
            raise InputError(f"rows: found {found}, expected some of {', '.join(ROWS)}")
        check_seeds(self.seeds)
        if "MEmeL-Tune" in self.rows:
            check_space(self.tune_tops, self.tune_deltas)

    @property
    def inhibitions(self) -> tuple[Inhibition | None, ...]:
        """What is finetuned at every learning rate; MEmeL-Tune needs MEmeL's choice of it."""
        wanted = [FINETUNED_WITH["MEmeL" if row == "MEmeL-Tune" else row] for row in self.rows]
        return tuple(dict.fromkeys(wanted))

    @property
    def tuning(self) -> tuple[Inhibition, ...]:
        """What MEmeL-Tune chooses from: MEmeL's own top and Δ, then those of the grid."""
        if "MEmeL-Tune" not in self.rows:
            return ()
        return tried(self.tune_tops, self.tune_deltas)

    def count(self, learning_rates: Sequence[float]) -> int:
        """Finetunings of one task."""
        # MEmeL's own is there at every learning rate.
        tuning = len(self.tuning[1:])
        return len(self.seeds) * (len(self.inhibitions) * len(learning_rates) + tuning)


def carry_out(
    plan: Plan,
    task: str,
    learning_rates: Sequence[float],
    columns: Sequence[str],
    finetune: Callable[[Run], Outcome],
) -> dict[Run, Outcome]:
    """Do the finetunings of one task; those that are done are taken as they are.

    Args:
        plan: what to do.
        task: its name.
        learning_rates: that are tried.
        columns: of the table that the task fills; their mean decides what is chosen.
        finetune: does one finetuning, or finds it done.
    """
    outcomes: dict[Run, Outcome] = {}
    total = plan.count(learning_rates)

    def do(inhibition: Inhibition | None, learning_rate: float) -> None:
        for seed in plan.seeds:
            run = Run(task, inhibition, learning_rate, seed)
            if run not in outcomes:
                log.info("finetuning %d of %d: %s", len(outcomes) + 1, total, run)
                outcomes[run] = finetune(run)

    for inhibition in plan.inhibitions:
        for learning_rate in learning_rates:
            do(inhibition, learning_rate)
    if plan.tuning:
        at = chosen("MEmeL", outcomes, columns)[0].learning_rate
        for inhibition in plan.tuning:
            do(inhibition, at)
    return outcomes


def chosen(row: str, outcomes: Mapping[Run, Outcome], columns: Sequence[str]) -> list[Run]:
    """The finetunings of one task that a row shows, one for each seed.

    The learning rate is the one with the best mean over columns and seeds. MEmeL-Tune has MEmeL's
    learning rate, and of all top and Δ that were tried at it, MEmeL's own among them, those with
    the best mean. Of equals, the first; what is no number is worse than all numbers.

    Args:
        row: of the table.
        outcomes: of one task, as `carry_out` leaves them.
        columns: that decide.
    """
    tune = row == "MEmeL-Tune"
    at = chosen("MEmeL", outcomes, columns)[0].learning_rate if tune else None
    groups: dict[tuple[Inhibition | None, float], list[Run]] = {}
    for run in outcomes:
        reverse = run.inhibition is not None and run.inhibition.delta > 0
        if (reverse and run.learning_rate == at) if tune else run.inhibition == FINETUNED_WITH[row]:
            groups.setdefault((run.inhibition, run.learning_rate), []).append(run)

    def mean(runs: list[Run]) -> float:
        found = fmean(scores(row, outcomes[run])[c] for run in runs for c in columns)
        return -math.inf if math.isnan(found) else found

    return max(groups.values(), key=mean)


def scores(row: str, outcome: Outcome) -> Mapping[str, float]:
    """The scores of a finetuning that a row shows."""
    return outcome.scores_in_testing if row == "MEmeL-T" else outcome.scores
