"""An experiment from its plan to its table."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nowcast.errors import InputError
from nowcast.evaluation.methods import Baseline
from nowcast.experiments.checks import check
from nowcast.experiments.gathering import gather, scores_of
from nowcast.experiments.plan import Plan
from nowcast.experiments.results import PAPER_COLUMNS, Results, write_results
from nowcast.experiments.steps import (
    Evaluation,
    Finetuning,
    Pretraining,
    Split,
    Step,
    with_what_they_need,
)
from nowcast.experiments.tables import (
    TABLES,
    TUNED,
    Row,
    Table,
    dependence_table,
    search_table,
)
from nowcast.experiments.work import NETWORK, Work, check_layer_settings, is_first_process
from nowcast.files import check_place
from nowcast.memel.variants import Inhibition
from nowcast.models.settings import NetworkSettings
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.module import OptimizationSettings
from nowcast.training.run_settings import RunSettings
from nowcast.training.sampling import UNIFORM, SamplingSettings

log = logging.getLogger("nowcast")

EXPERIMENTS = (*TABLES, "search", "dependence")


def reproduce(
    experiment: str,
    out: Path,
    data: DataSettings,
    run: RunSettings,
    network: NetworkSettings = NetworkSettings(),  # noqa: B008 - frozen
    pretraining: OptimizationSettings = OptimizationSettings(steps=20_000),  # noqa: B008
    finetuning: OptimizationSettings = OptimizationSettings(steps=2_000),  # noqa: B008
    plan: Plan = Plan(),  # noqa: B008
    layers: Mapping[str, Any] | None = None,
    finetuning_data: DataSettings | None = None,
    sampling: SamplingSettings = UNIFORM,
    baselines: tuple[Baseline, ...] = ("persistence", "optical flow"),
    stride: int = 5,
    at_most: int | None = None,
    device: str = "auto",
    only_plan: bool = False,
) -> Results | None:
    """Do an experiment of the paper on any radar, and tabulate what comes out beside the paper's.

    What is done in `out` is not done again, whichever experiment it was done for; what was
    interrupted goes on. Settings that differ from those of a training that is there are refused.

    Args:
        experiment: "table2", "table4" or "table7", "search" over top and Δ (E.3), or "dependence"
            of the effect in the pretraining on one setting at a time.
        out: folder for all that is left: a folder for each training with its scores, and the table
            as JSON, CSV and text.
        data: clips of pretrainings and evaluations.
        run: where trainings run; folder and seed are set for each.
        network: its shape.
        pretraining: how pretrainings optimize; the paper's 20,000 steps by default.
        finetuning: how finetunings do; 2,000 steps by default.
        plan: seeds, and what MEmeL-Tune, the search and `dependence` try.
        layers: settings of MEmeL layers but for those that the rows decide, and `at`, where they
            go.
        finetuning_data: clips of finetunings where they are others.
        sampling: which clips trainings draw more often, and how they are changed.
        baselines: methods without training whose scores stand below the rows.
        stride: frames between the starts of the clips that are scored; 5 is the benchmark's.
        at_most: score only so many clips of a split, spread evenly.
        device: where networks forecast: "auto", "cpu", "cuda".
        only_plan: say what there is to do, and do nothing.

    Returns:
        What was found; None with `only_plan`.

    Raises:
        InputError: for settings or data that do not fit.
        Stopped: on Ctrl-C or SIGTERM, with what is done saved.
    """
    if experiment not in EXPERIMENTS:
        raise InputError(f"experiment: found {experiment!r}, expected {', '.join(EXPERIMENTS)}")
    check_place(out, folder=True)
    layers = {"at": list(HIDDEN_STATES), **(layers or {})}
    check_layer_settings(layers)
    if not is_first_process():
        log.setLevel(logging.WARNING)
    table = _table(experiment, plan, layers)
    work = Work(
        out, data, finetuning_data or data, network, pretraining, finetuning, run, layers,
        sampling, stride, at_most, device,
    )  # fmt: skip
    choices = _choices(plan) if table.tuned else {}
    rows = {name: _evaluations(row, plan, table.split) for name, row in table.rows.items()}
    wanted = [*rows.values(), *choices.values()]
    # Seed by seed: with `plan.seeds` of those that are done there is a table before all are.
    steps = with_what_they_need([of[seed] for seed in plan.seeds for of in wanted])
    check(work, (s for s in steps if isinstance(s, Evaluation)), table.split, baselines)
    _say_plan(table, plan, steps, work)
    if experiment == "dependence":
        log.info(
            "in a pretraining layers of the encoder are called %s times, of the forecaster %s",
            *(f"{pretraining.steps * calls:,}" for calls in work.calls_per_step),
        )
    if only_plan:
        return None
    for number, step in enumerate(steps, start=1):
        log.info("step %d of %d: %s", number, len(steps), step)
        work.do(step)
    chosen: dict[str, str] = {}
    if choices:
        best = _best(choices, work)
        chosen[TUNED] = str(best)
        log.info("%s: %s, by its scores on validation clips", TUNED, best)
        rows[TUNED] = _evaluations(Row(finetuned_with=best), plan, table.split)
    if baselines:
        log.info("%s scores of %s", table.split, ", ".join(baselines))
    opponents = work.opponents(baselines, table.split)
    results = gather(table, plan, work, rows, chosen, opponents)
    if is_first_process():
        write_results(out, experiment, results)
    return results


def _table(experiment: str, plan: Plan, layers: Mapping[str, Any]) -> Table:
    if experiment == "search":
        return search_table(plan.tried)
    if experiment == "dependence":
        return dependence_table(plan.one_at_a_time(layers))
    return TABLES[experiment]


def _evaluations(row: Row, plan: Plan, split: Split) -> dict[int, Evaluation]:
    return {seed: row.evaluation(seed, split) for seed in plan.seeds}


def _choices(plan: Plan) -> dict[Inhibition, dict[int, Evaluation]]:
    return {tried: _evaluations(Row(finetuned_with=tried), plan, "valid") for tried in plan.tried}


def _best(choices: Mapping[Inhibition, Mapping[int, Evaluation]], work: Work) -> Inhibition:
    """The one with the smallest mean B-MSE + B-MAE over seeds; of equals, the first.

    What is no number is worse than all numbers.
    """

    def loss(tried: Inhibition) -> float:
        scores = [scores_of(work.report(e), NETWORK) for e in choices[tried].values()]
        found = fmean(sum(of[column] for column in PAPER_COLUMNS) for of in scores)
        return math.inf if math.isnan(found) else found

    return min(choices, key=loss)


def _say_plan(table: Table, plan: Plan, steps: Sequence[Step], work: Work) -> None:
    log.info("%s; seeds %s", table.title, ", ".join(map(str, plan.seeds)))
    done = {step: work.is_done(step) for step in steps}
    for number, step in enumerate(steps, start=1):
        log.info("  %d. %s%s", number, step, ": done" if done[step] else "")
    if table.tuned:
        log.info("  then: test scores of the best on validation clips (%s)", TUNED)
    counts: dict[str, list[Step]] = {
        "pretrainings": [s for s in steps if isinstance(s, Pretraining)],
        "finetunings": [s for s in steps if isinstance(s, Finetuning)],
        "evaluations": [s for s in steps if isinstance(s, Evaluation)],
    }
    log.info(
        "%s; %d pretraining and %d finetuning steps each, %d clips a step",
        ", ".join(
            f"{len(of)} {name} ({sum(not done[s] for s in of)} to do)"
            for name, of in counts.items()
        ),
        work.pretraining.steps,
        work.finetuning.steps,
        work.data.batch_size,
    )
