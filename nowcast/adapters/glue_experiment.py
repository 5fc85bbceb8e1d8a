"""Table 1's finetunings of BERT on GLUE, all of them, one task after another."""

import hashlib
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nowcast.adapters import glue, pretrained
from nowcast.adapters.bert import Execution, Finetuning, Tokens, finetune, tokenize
from nowcast.adapters.experiment import Plan, carry_out
from nowcast.adapters.extras import require
from nowcast.adapters.glue import TASKS, Task
from nowcast.adapters.glue_checks import LayerTrial, check_settings
from nowcast.adapters.glue_results import tabulate_glue, write_submissions
from nowcast.adapters.hub import from_hub
from nowcast.adapters.processes import is_first_process, processes
from nowcast.adapters.rows import LayerSettings
from nowcast.adapters.runs import Outcome, Run, begin, done, write_outcome
from nowcast.adapters.table import Table, counted, write_table
from nowcast.errors import InputError
from nowcast.files import check_place

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("nowcast")


def reproduce(
    out: Path,
    data: str = glue.HUB,
    model: str = pretrained.HUB,
    tasks: tuple[str, ...] = tuple(TASKS),
    learning_rates: tuple[float, ...] = (5e-5, 4e-5, 3e-5, 2e-5),
    plan: Plan = Plan(),  # noqa: B008 - frozen
    finetuning: Finetuning = Finetuning(),  # noqa: B008
    layers: LayerSettings = LayerSettings(),  # noqa: B008
    execution: Execution = Execution(),  # noqa: B008
    download: bool = False,
) -> Table:
    """Finetune BERT on GLUE with MEmeL and without, as the paper does, and tabulate the dev scores.

    What is done in `out` is not done again; what was interrupted goes on. After each task
    table.json and table.csv hold what there is so far, at the end submission/ a zip for the server
    of each row. Every finetuning leaves its settings, outcome and predictions in runs/.

    Args:
        out: folder for what is written.
        data: folder with GLUE's files as TSV, JSON lines or Parquet, or a data set of the hub.
        model: folder of a network in transformers' form, or a model of the hub.
        tasks: of GLUE.
        learning_rates: of which the best on dev is chosen for each task and row (E.1).
        plan: rows of the table, seeds and what MEmeL-Tune tries.
        finetuning: settings that decide the outcome.
        layers: where MEmeL layers go and how they work.
        execution: settings that do not decide the outcome.
        download: fetch from the hub what this machine has no copy of; else the network is not
            asked.

    Returns:
        The table.

    Raises:
        InputError: for what is wrong or missing, before any work is done.
    """
    require("glue", "glue", "transformers", "datasets", "accelerate")
    _quieten()
    check_settings(tasks, learning_rates, plan, finetuning, execution)
    check_place(out, folder=True)
    wanted = [task for name, task in TASKS.items() if name in tasks]
    network = _folder(model, pretrained.FILES, download, "--model")
    pretrained.check_folder(network, None if network == _local(model) else model, download)
    tokenizer = pretrained.open_tokenizer(network, finetuning.max_length)
    top = max((i.top for i in (*plan.inhibitions, *plan.tuning) if i is not None), default=0)
    trial = LayerTrial(network, layers) if top else None
    if trial is None:  # To refuse weights that do not fit.
        pretrained.open_network(network, 2, seed=0)
    splits = {
        task.name: glue.load_task(
            task, _folder(data, glue.task_patterns(task), download, "--data", "dataset")
        )
        for task in wanted
    }
    # Of several processes, each draws its own dropout and fills its last batch.
    identity = {"network_sha256": pretrained.fingerprint(network), "processes": processes(),
                **asdict(finetuning)}  # fmt: skip
    facts = {"data": data, "model": model, **identity, "learning_rates": learning_rates,
             **asdict(plan), "layers": asdict(layers)}  # fmt: skip
    works = [
        _Work(task, splits[task.name], network, tokenizer, out, identity, finetuning, layers,
              execution)
        for task in wanted
    ]  # fmt: skip
    if trial is not None:
        _check_top(trial, top, works)
        del trial
    number = counted(plan.count(learning_rates), "finetuning")
    log.info("%s of each of %s", number, ", ".join(splits))
    outcomes: dict[str, dict[Run, Outcome]] = {}
    for work in works:
        task = work.task
        outcomes[task.name] = carry_out(plan, task.name, learning_rates, tuple(task.dev), work)
        table = tabulate_glue(model, plan, finetuning, learning_rates, outcomes)
        if is_first_process():
            write_table(out, table, facts)
    if is_first_process() and execution.test_predictions:
        write_submissions(out, plan.rows, outcomes)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return table


@dataclass(frozen=True)
class _Work:
    """Does the finetunings of one task, or finds them done."""

    task: Task
    splits: "Mapping[str, Dataset]"
    network: Path
    tokenizer: Any
    out: Path
    identity: Mapping[str, Any]
    finetuning: Finetuning
    layers: LayerSettings
    execution: Execution

    def __call__(self, run: Run) -> Outcome:
        settings = {**self.identity, "data": self.content, "test_predictions": self.predicted}
        if run.inhibition is not None:
            settings["layers"] = asdict(self.layers)
        outcome = done(run, self.out, settings)
        if outcome is not None:
            log.info("  done before")
            return outcome
        begin(run, self.out, settings, write=is_first_process())
        outcome = finetune(
            run, run.folder(self.out), self.network, self.tokens, self.finetuning, self.layers,
            self.execution,
        )  # fmt: skip
        if is_first_process():
            write_outcome(run, self.out, settings, outcome)
            for checkpoint in run.folder(self.out).glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in outcome.scores.items())
        loss = ", ".join(f"{value:.3f}" for value in outcome.loss)
        steps = counted(outcome.steps, "step")
        log.info("  %s; loss %s; %s, %.0f s", shown, loss, steps, outcome.seconds)
        return outcome

    @cached_property
    def tokens(self) -> Tokens:
        """Only made where there is something to do."""
        return tokenize(self.task, self.splits, self.tokenizer, self.finetuning.max_length)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What tells the data that decide the outcome from others."""
        names = ("train", *self.task.dev.values())
        rows = {name: len(self.splits[name]) for name in names}
        return {"rows": rows, "sha256": self._hash(names, "label")}

    @cached_property
    def predicted(self) -> str:
        """What tells the test splits whose predictions a finetuning leaves from others."""
        names = [name for name in self.task.test.values() if name in self.splits]
        if not (self.execution.test_predictions and names):
            return "none"
        return f"of {', '.join(names)} with SHA-256 {self._hash(names, 'idx')}"

    def _hash(self, names: Sequence[str], column: str) -> str:
        digest = hashlib.sha256()
        for name in names:
            split = self.splits[name][:]
            for wanted in (*self.task.texts, column):
                digest.update("\0".join(map(str, split[wanted])).encode())
        return digest.hexdigest()


def _check_top(trial: LayerTrial, top: int, works: "Sequence[_Work]") -> None:
    """Refuse a top above the activations of a sample, before the first finetuning.

    Raises:
        InputError: naming the task.
    """
    try:
        trial.call(top, works[0].tokenizer("a")["input_ids"])
    except InputError:
        # Above what a single word has: worth making all tokens now.
        for work in works:
            trial.check_shortest(top, work.tokens)


def _folder(
    place: str, patterns: Sequence[str], download: bool, option: str, kind: Any = "model"
) -> Path:
    """A local folder, or this machine's copy of a repository of the hub."""
    folder = _local(place)
    return folder if folder.is_dir() else from_hub(place, patterns, download, option, kind)


def _local(place: str) -> Path:
    return Path(place).expanduser()


def _quieten() -> None:
    """Of what the libraries say, leave errors, and bars on a terminal."""
    import datasets
    import huggingface_hub.utils
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    if not is_first_process():
        log.setLevel(logging.WARNING)
