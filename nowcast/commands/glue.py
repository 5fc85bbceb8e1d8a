"""`glue`: finetune BERT on GLUE as the paper does, with MEmeL and without (Table 1)."""

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from nowcast.adapters.bert import Execution, Finetuning
from nowcast.adapters.experiment import Plan
from nowcast.adapters.glue_experiment import reproduce
from nowcast.adapters.processes import is_first_process
from nowcast.adapters.table import format_table
from nowcast.commands.command_line import CommandParser, add_download, run, take

FLAT = {"plan": Plan, "finetuning": Finetuning, "execution": Execution}
"""Parameters whose settings are arguments of the command without a name in front."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("glue", "Finetune BERT on GLUE with MEmeL and without (Table 1).")
    parser.add_function_arguments(reproduce, skip={*FLAT, "download"})
    for settings in FLAT.values():
        parser.add_class_arguments(settings)
    add_download(parser)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        flat: dict[str, Any] = {name: take(settings, kind) for name, kind in FLAT.items()}
        table = reproduce(**settings, **flat)
        if is_first_process():
            print(format_table(table))
            print(f"\n{settings['out'] / 'table.json'}, table.csv and submission/ beside it")

    return run(parser, act, arguments)
