"""What comes out of the finetunings on GLUE: Table 1 beside the paper's, files for the server."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from nowcast.adapters import glue
from nowcast.adapters.bert import Finetuning
from nowcast.adapters.experiment import Plan, chosen, scores
from nowcast.adapters.glue import COLUMNS, TASKS
from nowcast.adapters.runs import Outcome, Run
from nowcast.adapters.submission import write_submission
from nowcast.adapters.table import Table, counted, tabulate

log = logging.getLogger("nowcast")

METRICS = {
    "QQP": "F1",
    "CoLA": "Matthews correlation",
    "STS-B": "Spearman's correlation",
    "MRPC": "F1",
}
"""What a task's own column is, where it is not accuracy."""


def tabulate_glue(
    model: str,
    plan: Plan,
    finetuning: Finetuning,
    learning_rates: Sequence[float],
    outcomes: Mapping[str, Mapping[Run, Outcome]],
) -> Table:
    """Table 1 as far as it is measured; the average stands there where all nine columns do.

    Args:
        model: its name or folder.
        plan: rows and seeds.
        finetuning: for the title.
        learning_rates: of which one was chosen.
        outcomes: by task.
    """
    deciding = {name: tuple(TASKS[name].dev) for name in outcomes}
    named = [f"{name} {METRICS[name]}" for name in outcomes if name in METRICS]
    notes = [
        "Measured: GLUE's dev sets. Paper: BERT-base, the server's test sets (Tables 1 and 5).",
        ", ".join([*named, "others accuracy" if named else "Accuracy"]) + ".",
    ]
    if "CoLA" in outcomes:
        notes.append(
            "CoLA: the paper's caption says accuracy, but its 52.1 is BERT's Matthews correlation."
        )
    if len(learning_rates) > 1:
        said = ", ".join(f"{rate:g}" for rate in learning_rates)
        notes.append(f"Learning rate of each task and row: the best of {said} on the same dev set.")
    if plan.tuning:
        notes.append(
            f"MEmeL-Tune: the best of {counted(len(plan.tuning), 'pair')} of top and Δ, MEmeL's "
            "own among them, on the same dev set, at MEmeL's learning rate."
        )
    if len(plan.seeds) > 1:
        notes.append(f"Mean ± standard deviation over {len(plan.seeds)} seeds.")
    return tabulate(
        f"{model} on GLUE, {counted(finetuning.epochs, 'epoch')}, "
        f"batch {finetuning.batch_size}; percent",
        plan.rows,
        outcomes,
        deciding,
        {name: glue.further_columns(TASKS[name]) for name in outcomes},
        glue.PAPER,
        notes,
        averaged=COLUMNS,
    )


def write_submissions(
    out: Path, rows: Sequence[str], outcomes: Mapping[str, Mapping[Run, Outcome]]
) -> None:
    """Write a zip of each row: of the finetunings that it shows, of several seeds the best on dev.

    Args:
        out: folder of the experiment.
        rows: of the table.
        outcomes: by task.
    """
    missing: tuple[str, ...] = ()
    for row in rows:
        suffix = "_in_testing" if row == "MEmeL-T" else ""
        files: dict[str, Path] = {}
        for name, of_task in outcomes.items():
            columns = tuple(TASKS[name].dev)
            folder = _best(row, of_task, columns).folder(out)
            paths = {stem: folder / f"test_{stem}{suffix}.tsv" for stem in TASKS[name].test}
            files |= {stem: path for stem, path in paths.items() if path.exists()}
        if files:
            path = out / "submission" / f"{row}.zip"
            missing = write_submission(path, files)
    also = f"; the server wants {', '.join(missing)}, too" if missing else ""
    log.info("%s: a zip of test predictions for each row%s", out / "submission", also)


def _best(row: str, outcomes: Mapping[Run, Outcome], columns: Sequence[str]) -> Run:
    """The seed with the best mean on dev, of the finetunings that a row shows."""

    def mean(run: Run) -> float:
        return fmean(scores(row, outcomes[run])[column] for column in columns)

    return max(chosen(row, outcomes, columns), key=mean)
