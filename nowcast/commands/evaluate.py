"""`evaluate`: score networks beside their opponents, offline or online."""

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run, take
from nowcast.evaluation.methods import MethodSettings
from nowcast.evaluation.outputs import PAGE
from nowcast.evaluation.run import evaluate_into
from nowcast.evaluation.settings import ClipSettings, ScoreSettings
from nowcast.verification import format_table

FLAT = {"methods": MethodSettings, "clips": ClipSettings, "scores": ScoreSettings}
"""Parameters whose settings are arguments of the command without a name in front."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("evaluate", "Score networks beside their opponents.")
    parser.add_function_arguments(evaluate_into, skip=set(FLAT))
    for settings in FLAT.values():
        parser.add_class_arguments(settings)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        flat: dict[str, Any] = {name: take(settings, kind) for name, kind in FLAT.items()}
        print(format_table(evaluate_into(**settings, **flat)))
        print(f"\n{settings['out'] / PAGE}, scores.json, scores.csv and plots beside it")

    return run(parser, act, arguments)
