"""`prepare_data`: radar archives and events to a frame store; synthetic rain."""

from collections.abc import Callable, Sequence
from dataclasses import fields

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run, run_part
from nowcast.files import check_place
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

USAGE = """usage: prepare_data SOURCE [--help] …

  hko7       an archive in the layout of HKO-7 → frame store
  events     events in CF NetCDF files → frame store
  synthetic  synthetic rain → an archive in the layout of HKO-7
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_part(arguments, SOURCES, "source", USAGE)


def _prepare(name: str, purpose: str, function: Callable[..., object]) -> Callable[..., int]:
    def prepare(arguments: Sequence[str]) -> int:
        parser = CommandParser(f"prepare_data.{name}", purpose)
        parser.add_function_arguments(function)

        def act(given: Namespace) -> None:
            settings = parser.instantiate(given).as_dict()
            del settings["config"]
            check_place(settings["out"])
            print(function(**settings))

        return run(parser, act, arguments)

    return prepare


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
    "hko7": _prepare("hko7", "Archive in the layout of HKO-7 → frame store.", prepare_hko7),
    "events": _prepare("events", "Events in CF NetCDF files → frame store.", prepare_events),
    "synthetic": _write_synthetic_rain,
}
