"""Going on with a run: what decides its outcome, and whether a checkpoint is of the same run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nowcast.errors import InputError
from nowcast.models.checkpoint import Description, read_checkpoint

log = logging.getLogger("nowcast")


Begun = tuple[Description, dict[str, Any]]
"""What the checkpoint of a run says of itself, and its content."""


def begun_run(checkpoint: Path) -> Begun | None:
    """The run whose newest checkpoint this is; None where there is none."""
    return read_checkpoint(checkpoint) if checkpoint.exists() else None


def steps_done(checkpoint: Path, begun: Begun | None, description: Description) -> int:
    """Step of the checkpoint to go on from, 0 where there is none; refuse one of other settings.

    Args:
        checkpoint: its path.
        begun: what it holds.
        description: of the run that is asked for.
    """
    if begun is None:
        return 0
    found, content = begun
    wanted, had = (_flat(plain(d.as_entry())) for d in (description, found))
    steps = "run.optimization.steps"
    if wanted["run.optimization.decay"] == "step" and wanted[steps] > had.get(steps, 0):
        wanted[steps] = had.get(steps)  # This schedule does not depend on where it ends.
    for name in sorted(wanted.keys() | had.keys()):
        if wanted.get(name) != had.get(name):
            raise InputError(
                f"{checkpoint}: found a run with {name} = {had.get(name)}, asked for "
                f"{wanted.get(name)}; choose another folder or remove this one"
            )
    step = int(content.get("global_step", 0))
    log.info("%s: is at step %s", checkpoint, f"{step:,}")
    return step


def plain(value: Any) -> Any:
    """Dicts, lists, numbers and strings only: what a checkpoint may hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    entries: dict[str, Any] = {}
    for key, item in value.items():
        entries |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return entries
