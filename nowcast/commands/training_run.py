"""What pretraining and finetuning share on the command line: MEmeL, and what a run leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from jsonargparse import ActionYesNo, Namespace

from nowcast.commands.command_line import CommandParser
from nowcast.errors import InputError
from nowcast.files import check_place, replacing
from nowcast.memel import MEmeL
from nowcast.models.checkpoint import read_checkpoint
from nowcast.rendering import write_learning_curves, write_monosemanticity
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.monosemanticity import split_off_phi
from nowcast.training.run_settings import RunSettings


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
    """Settings of the MEmeL layers, or None without `--memel`.

    Raises:
        InputError: layers are wanted, but after no module.
    """
    if not arguments.memel:
        return None
    if not arguments.inhibition.at:
        raise InputError("inhibition.at: found no module, expected at least one with --memel")
    return cast(dict[str, Any], arguments.inhibition.as_dict())


@contextmanager
def recorded(parser: CommandParser, arguments: Namespace, run: RunSettings) -> Iterator[None]:
    """Leave a record of the training within the block, be it finished or interrupted.

    A training that takes no step, refused or done before, leaves the record as it is.

    Raises:
        InputError: the run's folder cannot be written.
    """
    check_place(run.out, folder=True)
    before = _stamp(run.checkpoint)
    try:
        yield
    finally:
        if _stamp(run.checkpoint) != before:
            _leave_record(parser, arguments, run)


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _leave_record(parser: CommandParser, arguments: Namespace, run: RunSettings) -> None:
    """Write all settings and pictures of the learning curve into the run's folder."""
    # As the run settled it, so that the same settings repeat it on another machine.
    arguments.run.precision = read_checkpoint(run.checkpoint)[0].run["precision"]
    with replacing(run.out / "config.yaml") as temporary:
        temporary.write_text(parser.dump(arguments), encoding="utf-8")
    if run.learning_curve.exists():
        curve, courses = split_off_phi(read_learning_curve(run.learning_curve))
        write_learning_curves(run.out / "learning_curve.png", curve, title=run.out.name)
        if courses:
            history = {layer: {run.out.name: course} for layer, course in courses.items()}
            write_monosemanticity(
                run.out / "monosemanticity.png", history=history, title=run.out.name
            )
