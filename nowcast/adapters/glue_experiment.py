"""Table 1's finetunings of BERT on GLUE, all of them, one task after another."""

import hashlib
import logging
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nowcast.adapters import glue, pretrained
from nowcast.adapters.bert import Execution, Finetuning, Tokens, finetune, insert_into, tokenize
from nowcast.adapters.experiment import Plan, carry_out
from nowcast.adapters.extras import require
from nowcast.adapters.glue import TASKS, Task
from nowcast.adapters.glue_results import tabulate_glue, write_submissions
from nowcast.adapters.hub import from_hub
from nowcast.adapters.processes import is_first_process, processes
from nowcast.adapters.rows import Inhibition, LayerSettings
from nowcast.adapters.runs import Outcome, Run, begin, done, write_outcome
from nowcast.adapters.table import Table, write_table
from nowcast.device import choose_device
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
    _check(tasks, learning_rates, plan, finetuning, execution)
    check_place(out, folder=True)
    wanted = [task for name, task in TASKS.items() if name in tasks]
    network = _folder(model, pretrained.FILES, download, "--model")
    pretrained.check_folder(network)
    tokenizer = pretrained.open_tokenizer(network, finetuning.max_length)
    if any(plan.inhibitions):
        empty = pretrained.empty_network(network, classes=2)
        names = ", ".join(insert_into(empty, Inhibition(), layers, steps=1))
        log.info("MEmeL layers behind %s", names)
    splits = {
        task.name: glue.load_task(
            task, _folder(data, glue.task_patterns(task), download, "--data", "dataset")
        )
        for task in wanted
    }
    identity = {"network_sha256": pretrained.fingerprint(network), **asdict(finetuning)}
    facts = {"data": data, "model": model, **identity, "learning_rates": learning_rates,
             **asdict(plan), "layers": asdict(layers)}  # fmt: skip
    number = plan.count(learning_rates)
    log.info("%d finetunings of each of %s", number, ", ".join(splits))
    outcomes: dict[str, dict[Run, Outcome]] = {}
    for task in wanted:
        work = _Work(task, splits[task.name], network, tokenizer, out, identity, finetuning,
                     layers, execution)  # fmt: skip
        outcomes[task.name] = carry_out(plan, task.name, learning_rates, tuple(task.dev), work)
        table = tabulate_glue(model, plan, finetuning, learning_rates, outcomes)
        if is_first_process():
            write_table(out, table, facts)
    if is_first_process():
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
        settings = {**self.identity, "data": self.content}
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
        log.info("  %s; loss %s; %d steps, %.0f s", shown, loss, outcome.steps, outcome.seconds)
        return outcome

    @cached_property
    def tokens(self) -> Tokens:
        """Only made where there is something to do."""
        return tokenize(self.task, self.splits, self.tokenizer, self.finetuning.max_length)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What tells the data that decide the outcome from others."""
        digest = hashlib.sha256()
        rows = {}
        for name in ("train", *self.task.dev.values()):
            split = self.splits[name][:]
            rows[name] = len(split["label"])
            for column in (*self.task.texts, "label"):
                digest.update("\0".join(map(str, split[column])).encode())
        return {"rows": rows, "sha256": digest.hexdigest()}


def _check(
    tasks: Sequence[str],
    learning_rates: Sequence[float],
    plan: Plan,
    finetuning: Finetuning,
    execution: Execution,
) -> None:
    """Refuse settings that cannot be.

    Raises:
        InputError: naming the setting.
    """
    plan.check()
    unknown = [name for name in tasks if name not in TASKS]
    if unknown or not tasks:
        found = ", ".join(unknown) or "none"
        raise InputError(f"tasks: found {found}, expected some of {', '.join(TASKS)}")
    rates = list(learning_rates)
    if not rates or len(set(rates)) < len(rates) or not all(0 < r < math.inf for r in rates):
        raise InputError(f"learning_rates: found {rates}, expected different ones above 0")
    for name, value, fits, expected in (
        ("batch_size", finetuning.batch_size, finetuning.batch_size >= 1, "at least 1"),
        ("batch_size", finetuning.batch_size, finetuning.batch_size % processes() == 0,
         f"a multiple of the {processes()} processes"),
        ("epochs", finetuning.epochs, finetuning.epochs >= 1, "at least 1"),
        ("warmup", finetuning.warmup, 0 <= finetuning.warmup < 1, "a share, from 0 to below 1"),
        ("weight_decay", finetuning.weight_decay, finetuning.weight_decay >= 0, "0 or more"),
        ("adam_epsilon", finetuning.adam_epsilon, finetuning.adam_epsilon > 0, "more than 0"),
        ("clip", finetuning.clip, finetuning.clip > 0, "more than 0"),
        ("checkpoint_every", execution.checkpoint_every,
         execution.checkpoint_every is None or execution.checkpoint_every >= 1, "at least 1"),
    ):  # fmt: skip
        if not fits:
            raise InputError(f"{name}: found {value}, expected {expected}")
    choose_device(execution.device)


def _folder(
    place: str, patterns: Sequence[str], download: bool, option: str, kind: Any = "model"
) -> Path:
    """A local folder, or this machine's copy of a repository of the hub."""
    folder = Path(place).expanduser()
    return folder if folder.is_dir() else from_hub(place, patterns, download, option, kind)


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
