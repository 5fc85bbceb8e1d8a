"""`reproduce`: the paper's precipitation experiments, on any radar."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, Namespace

from nowcast.commands.command_line import CommandParser, run, run_part, take
from nowcast.errors import InputError
from nowcast.experiments.plan import Plan
from nowcast.experiments.reproduction import reproduce
from nowcast.experiments.results import format_results
from nowcast.experiments.work import is_first_process
from nowcast.memel import MEmeL
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.run_settings import RunSettings

EXPERIMENTS = {
    "table2": "inhibition in the finetuning: Original, naive (a) and (b), MEmeL, MEmeL-Tune",
    "table4": "MEmeL in the pretraining: P- and T-Original, P- and T-MEmeL",
    "table7": "MEmeL kept on in testing",
    "search": "top and Δ of the finetuning, on validation clips (E.3)",
    "dependence": "of MEmeL's effect in the pretraining on one setting at a time",
}

USAGE = "usage: reproduce EXPERIMENT [--help] …\n\n" + "".join(
    f"  {name:<12}{purpose}\n" for name, purpose in EXPERIMENTS.items()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parts = {name: _part(name, purpose) for name, purpose in EXPERIMENTS.items()}
    return run_part(arguments, parts, "experiment", USAGE)


def _part(experiment: str, purpose: str) -> Callable[[Sequence[str]], int]:
    def act_on(arguments: Sequence[str]) -> int:
        # All experiments share a section: their settings, and what is done for them.
        parser = CommandParser("reproduce", f"{experiment}: {purpose}.")
        parser.prog = f"reproduce {experiment}"
        own: set[str | int] = {"experiment", "run", "plan", "layers", "only_plan"}
        parser.add_function_arguments(reproduce, skip=own)
        parser.add_class_arguments(RunSettings, "run", skip={"out", "seed"}, instantiate=False)
        parser.add_class_arguments(Plan)
        parser.add_class_arguments(
            MEmeL, "inhibition", skip={"in_evaluation", "top", "delta"}, instantiate=False
        )
        parser.add_argument(
            "--inhibition.at",
            type=list[str],
            default=list(HIDDEN_STATES),
            help="names or globs of the modules that a layer follows",
        )
        parser.add_argument(
            "--only_plan",
            action=ActionYesNo(yes_prefix="", no_prefix="no_"),
            default=False,
            help="say what there is to do, and do nothing",
        )

        def act(given: Namespace) -> None:
            settings: dict[str, Any] = parser.instantiate(given).as_dict()
            del settings["config"]
            layers = settings.pop("inhibition")
            if not layers["at"]:
                raise InputError("inhibition.at: found no module, expected at least one")
            settings["run"] = RunSettings(out=Path(), **settings["run"])
            plan = take(settings, Plan)
            results = reproduce(experiment, plan=plan, layers=layers, **settings)
            if results is not None and is_first_process():
                print(format_results(results))
                place = settings["out"] / experiment
                print(f"\n{place}.json, .csv and .txt; each training with its scores beside them")

        return run(parser, act, arguments)

    return act_on
