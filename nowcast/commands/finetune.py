"""`finetune`: train a pretrained network on, with a fresh optimizer."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run
from nowcast.commands.training_run import add_memel, inhibition_of, recorded
from nowcast.training.protocol import finetune


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("finetune", "Train a pretrained network on, with a fresh optimizer.")
    parser.add_argument(
        "--from", type=Path, required=True, help="checkpoint of the pretrained network"
    )
    parser.add_function_arguments(finetune, skip={"checkpoint", "inhibition"})
    add_memel(parser)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given)
        with recorded(parser, given, settings.run):
            checkpoint = finetune(
                settings["from"],
                settings.data,
                settings.optimization,
                settings.run,
                inhibition_of(given),
                settings.fresh_statistics,
                settings.sampling,
            )
        print(f"checkpoint: {checkpoint}, its settings and learning curve beside it")

    return run(parser, act, arguments)
