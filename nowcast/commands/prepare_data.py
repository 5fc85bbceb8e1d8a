"""`prepare_data`: radar archives and events to a frame store; synthetic rain."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, Namespace

from nowcast.commands.command_line import CommandParser, run, run_part
from nowcast.errors import InputError
from nowcast.files import check_place
from nowcast.radar.archive_check import check_archive
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.store_verification import verify_store
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

USAGE = """usage: prepare_data SOURCE [--help] …

  hko7       an archive in the layout of HKO-7 → frame store
  events     radar events (NetCDF, Zarr, folders of images) → frame store
  synthetic  synthetic rain → an archive in the layout of HKO-7
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_part(arguments, SOURCES, "source", USAGE)


def _prepare(
    name: str,
    purpose: str,
    function: Callable[..., object],
    instead: dict[str, tuple[Callable[..., None], str]],
) -> Callable[..., int]:
    """A source's part: `function`, or what a flag asks for in its place with the same settings."""

    def prepare(arguments: Sequence[str]) -> int:
        parser = CommandParser(f"prepare_data.{name}", purpose)
        parser.add_function_arguments(function)
        for flag, (_, meaning) in instead.items():
            parser.add_argument(
                f"--{flag}",
                action=ActionYesNo(yes_prefix="", no_prefix="no_"),
                default=False,
                help=meaning,
            )
        if any(f"--{flag}" in arguments for flag in instead):
            parser.require_nothing()

        def act(given: Namespace) -> None:
            settings = parser.instantiate(given).as_dict()
            del settings["config"]
            asked = [flag for flag in instead if settings.pop(flag)]
            if len(asked) > 1:
                raise InputError(f"found --{' and --'.join(asked)}, expected one of them")
            if asked:
                _with_its_own(instead[asked[0]][0], asked[0], settings)
                return
            check_place(settings["out"])
            print(function(**settings))

        return run(parser, act, arguments)

    return prepare


def _with_its_own(act: Callable[..., None], flag: str, settings: dict[str, Any]) -> None:
    """Call a function with those of the settings that it takes."""
    own = {name: settings[name] for name in inspect.signature(act).parameters}
    if missing := [f"--{name}" for name in ("root", "out") if own.get(name, name) is None]:
        raise InputError(f"--{flag} needs {' and '.join(missing)}")
    act(**own)


def _check(
    root: Path, size: int, step_minutes: float, day_lists: Path | None, workers: int | None
) -> None:
    check = check_archive(root, size, step_minutes, day_lists, workers)
    print(check)
    if check.unreadable:
        raise InputError(
            f"{check.root}: found {len(check.unreadable):,} unreadable files, expected none; "
            "--skip_unreadable true leaves their frames out"
        )


def _verify(out: Path, workers: int | None) -> None:
    verification = verify_store(out, workers)
    print(verification)
    if verification.damaged:
        raise InputError(
            f"{verification.path}: found {len(verification.damaged):,} damaged blocks, expected "
            "none; --overwrite true prepares it anew"
        )


_CHECK = (
    _check,
    "convert nothing, but read every file of the archive and report what is found, missing and "
    "unreadable, beside what is published of HKO-7",
)
_VERIFY = (
    _verify,
    "convert nothing, but read the store at `out` and compare every block with its checksum",
)


def _write_synthetic_rain(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        "prepare_data.synthetic", "Write synthetic rain as an archive in the layout of HKO-7."
    )
    parser.add_function_arguments(write_archive, skip={"rain"})
    parser.add_class_arguments(SyntheticRain)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        check_place(settings["root"], folder=True)
        rain = SyntheticRain(**{f.name: settings.pop(f.name) for f in fields(SyntheticRain)})
        write_archive(rain=rain, **settings)
        print(f"{settings['root']}: synthetic rain in the layout of HKO-7")

    return run(parser, act, arguments)


SOURCES = {
    "hko7": _prepare(
        "hko7",
        "Archive in the layout of HKO-7 → frame store.",
        prepare_hko7,
        {"check": _CHECK, "verify": _VERIFY},
    ),
    "events": _prepare(
        "events",
        "Radar events (NetCDF, Zarr, folders of images) → frame store.",
        prepare_events,
        {"verify": _VERIFY},
    ),
    "synthetic": _write_synthetic_rain,
}
