"""Single finetunings: what each is, what came out, and not doing again what is done."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nowcast.errors import InputError
from nowcast.files import write_json
from nowcast.memel.variants import Inhibition

OUTCOME = "outcome.json"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Run:
    """One finetuning.

    Args:
        task: such as "RTE", or the name of a Swin.
        inhibition: None in the row Original.
        learning_rate: peak.
        seed: of the new head, the order of the data, dropout.
    """

    task: str
    inhibition: Inhibition | None
    learning_rate: float
    seed: int = 0

    def folder(self, out: Path) -> Path:
        """Where it lives below `out`."""
        what = self.inhibition
        name = "original" if what is None else f"top{what.top}_delta{what.delta:g}"
        return out / "runs" / self.task / name / f"lr{self.learning_rate:g}_seed{self.seed}"

    def __str__(self) -> str:
        what = self.inhibition or "without MEmeL"
        return f"{self.task}, {what}, learning rate {self.learning_rate:g}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What came out of a finetuning.

    Args:
        scores: by column of the table, fractions of 1, layers out of the way.
        scores_in_testing: the same with deactivation kept on (-T, F.1); empty without layers.
        loss: mean training loss of each epoch.
        steps: optimizer steps.
        seconds: that they took, evaluation included.
    """

    scores: Mapping[str, float]
    scores_in_testing: Mapping[str, float]
    loss: tuple[float, ...]
    steps: int
    seconds: float


def done(run: Run, out: Path, settings: Mapping[str, Any]) -> Outcome | None:
    """The outcome of a finetuning that is done, else None.

    Scores and losses that were not finite are NaN.

    Args:
        run: the finetuning.
        out: folder of the experiment.
        settings: plain values that decide what comes out.

    Raises:
        InputError: if it was done with other settings, or its file is damaged.
    """
    path = run.folder(out) / OUTCOME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outcome = _with_nan(Outcome(**content["outcome"]))
        before = dict(content["settings"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: found no outcome of a finetuning ({error}); delete it to do it again"
        ) from error
    _refuse_others(path, before, settings)
    return outcome


def begin(run: Run, out: Path, settings: Mapping[str, Any], write: bool = True) -> None:
    """Put the settings into the folder of a finetuning that is to be done, or to go on.

    Args:
        run: the finetuning.
        out: folder of the experiment.
        settings: as for `done`.
        write: whether this process writes; of several, one.

    Raises:
        InputError: if it was begun with other settings, or their file is damaged.
    """
    path = run.folder(out) / SETTINGS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        _refuse_others(path, before, settings)
    except FileNotFoundError:
        if write:
            write_json(path, dict(settings))
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: found no settings of a finetuning ({error}); delete its folder to do it again"
        ) from error


def _refuse_others(path: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    # As they are in a file, where null stands for what is not finite.
    now = json.loads(json.dumps(dict(settings), default=str), parse_constant=lambda name: None)
    was, now = _flat(before), _flat(now)
    for name in sorted(now.keys() | was.keys()):
        if now.get(name) != was.get(name):
            old, new = _short(was.get(name)), _short(now.get(name))
            raise InputError(
                f"{path}: was made with {name}={old}, now asked for {new}; choose another folder "
                "(--out)"
            )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of settings as "outer.inner"."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {}
        flat |= inner or {prefix + name: value}
    return flat


def _short(value: Any) -> str:
    """A value for a message; of a hash, the beginning."""
    text = str(value)
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1…", text)


def write_outcome(run: Run, out: Path, settings: Mapping[str, Any], outcome: Outcome) -> None:
    """Write what `done` reads, null for what is not finite; complete or not there."""
    content = {"settings": dict(settings), "outcome": asdict(outcome)}
    write_json(run.folder(out) / OUTCOME, content)


def _with_nan(outcome: Outcome) -> Outcome:
    """With NaN for the null of a file."""

    def number(found: float | None) -> float:
        if not isinstance(found, int | float | None):
            raise TypeError(f"expected a number, found {found!r}")
        return math.nan if found is None else found

    return replace(
        outcome,
        scores={name: number(found) for name, found in outcome.scores.items()},
        scores_in_testing={
            name: number(found) for name, found in outcome.scores_in_testing.items()
        },
        loss=tuple(map(number, outcome.loss)),
    )
