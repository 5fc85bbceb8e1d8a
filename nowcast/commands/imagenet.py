"""`imagenet`: finetune Swin on ImageNet as the paper does, with MEmeL and without (Tables 2, 3)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from nowcast.adapters.augmentation import Augmentation
from nowcast.adapters.experiment import Plan
from nowcast.adapters.imagenet_experiment import reproduce
from nowcast.adapters.swin_callbacks import is_first_process
from nowcast.adapters.swin_execution import Execution
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_update import PAPER, format_beside_paper, measure_image_updates
from nowcast.adapters.table import format_table
from nowcast.commands.command_line import CommandParser, add_download, run, run_part, take
from nowcast.files import check_place, write_json

USAGE = """usage: imagenet PART [--help] …

  finetune  finetune networks in every row of Table 2 of the paper
  update    what one step does to the most monosemantic neurons (Table 3 of the paper)
"""

FLAT = {
    "plan": Plan,
    "recipe": Recipe,
    "augmentation": Augmentation,
    "execution": Execution,
}
"""Parameters whose settings are arguments of the command without a name in front."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_part(arguments, PARTS, "part", USAGE)


def _finetune(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        "imagenet.finetune", "Finetune Swin on ImageNet with MEmeL and without (Table 2)."
    )
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
            print(f"\n{settings['out'] / 'table.json'}, table.csv and runs/ beside it")

    return run(parser, act, arguments)


def _update(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        "imagenet.update",
        "Measure what one step of finetuning does to the most monosemantic neurons (Table 3).",
    )
    parser.add_function_arguments(measure_image_updates, skip={"augmentation", "download"})
    parser.add_class_arguments(Augmentation)
    add_download(parser)
    parser.add_argument("--out", type=Path | None, help="JSON file to write")

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        out = settings.pop("out")
        if out is not None:
            check_place(out)
        settings["augmentation"] = take(settings, Augmentation)
        rows = measure_image_updates(**settings)
        print(format_beside_paper(rows))
        if out is not None:
            for name in ("augmentation", "layers"):
                settings[name] = asdict(settings[name])
            plain = {name: asdict(row) for name, row in rows.items()}
            write_json(out, {"settings": settings, "rows": plain, "paper, percent": PAPER})
            print(f"\n{out}")

    return run(parser, act, arguments)


PARTS = {"finetune": _finetune, "update": _update}
