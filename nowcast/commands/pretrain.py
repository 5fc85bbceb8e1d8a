"""`pretrain`: train a network from its initial weights, with MEmeL or without."""

from collections.abc import Sequence

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run
from nowcast.commands.training_run import add_memel, inhibition_of, recorded
from nowcast.training.protocol import pretrain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("pretrain", "Train a network from its initial weights.")
    parser.add_function_arguments(pretrain, skip={"inhibition", "callbacks"})
    add_memel(parser)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given)
        with recorded(parser, given, settings.run):
            checkpoint = pretrain(
                settings.network,
                settings.data,
                settings.optimization,
                settings.run,
                inhibition_of(given),
                settings.sampling,
            )
        print(f"checkpoint: {checkpoint}, its settings and learning curve beside it")

    return run(parser, act, arguments)
