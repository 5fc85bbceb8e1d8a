"""What pretraining and finetuning share on the command line: MEmeL, and what a run leaves."""

from typing import Any

from jsonargparse import ActionYesNo, Namespace

from nowcast.commands.command_line import CommandParser
from nowcast.files import replacing
from nowcast.memel import MEmeL
from nowcast.rendering import write_learning_curves
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.protocol import HIDDEN_STATES, RunSettings


def add_memel(parser: CommandParser) -> None:
    """Add `--memel` and, from the layer's own signature, `--inhibition.…`."""
    parser.add_argument(
        "--memel",
        action=ActionYesNo(yes_prefix="", no_prefix="no_"),
        default=False,
        help="train with MEmeL layers, set by --inhibition",
    )
    parser.add_class_arguments(MEmeL, "inhibition", skip={"in_evaluation"}, instantiate=False)
    parser.add_argument(
        "--inhibition.at",
        type=list[str],
        default=list(HIDDEN_STATES),
        help="names or globs of the modules that a layer follows",
    )


def inhibition_of(arguments: Namespace) -> dict[str, Any] | None:
    """Settings of the MEmeL layers, or None without `--memel`."""
    return arguments.inhibition.as_dict() if arguments.memel else None


def leave_record(parser: CommandParser, arguments: Namespace, run: RunSettings) -> None:
    """Write all settings and a picture of the learning curve into the run's folder."""
    if not run.learning_curve.exists():
        return
    with replacing(run.out / "config.yaml") as temporary:
        temporary.write_text(parser.dump(arguments), encoding="utf-8")
    curve = read_learning_curve(run.learning_curve)
    write_learning_curves(run.out / "learning_curve.png", curve, title=run.out.name)
