"""`export`: a trained network as a file to pass on."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run
from nowcast.models.checkpoint import export


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("export", "Make a file of a trained network's weights to pass on.")
    parser.add_function_arguments(export)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given)
        export(settings.checkpoint, settings.out)
        size = Path(settings.out).stat().st_size / 1e6
        print(f"{settings.out}: {size:.2f} MB; nowcast.load and --checkpoints take it")

    return run(parser, act, arguments)
