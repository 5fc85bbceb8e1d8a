"""`forecast`: the next two hours from the latest files of radar."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, read_experiment, run, take
from nowcast.errors import InputError, Stopped
from nowcast.operations.latest import LatestFrames, RadarSettings
from nowcast.operations.model_settings import ModelSettings
from nowcast.operations.nowcasting import ForecastSettings, Nowcasting
from nowcast.operations.products import Products
from nowcast.operations.watching import watch
from nowcast.rendering.map_lines import MapLines

FLAT = (ModelSettings, RadarSettings, ForecastSettings, Products)
"""Settings that are arguments of the command without a name in front."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("forecast", "Forecast rain from the latest files of radar.")
    parser.add_argument(
        "files",
        nargs="*",
        default=[],
        help="composites (ODIM and KNMI HDF5, FMI PGM, GeoTIFF, MRMS GRIB2), NetCDF-4 files, Zarr "
        "stores, or folders of them, in any order; the latest frames are used",
    )
    for settings in FLAT:
        parser.add_class_arguments(settings)
    parser.add_class_arguments(MapLines, "lines")
    parser.add_argument(
        "--watch",
        type=Path | None,
        default=None,
        metavar="FOLDER",
        help="stay, and forecast whenever a new frame arrives in the folder",
    )
    parser.add_argument(
        "--every_seconds", type=float, default=10.0, help="how often the folder is looked at"
    )

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        watched = settings["watch"]
        settings["files"] = settings["files"] or _files_of(parser.configurations)
        if bool(settings["files"]) == bool(watched):
            found = "files and a folder to watch" if watched else "no files and no folder to watch"
            raise InputError(f"found {found}, expected one of them")
        radar = take(settings, RadarSettings)
        if watched and radar.images.pattern is not None:
            raise InputError("watch: found images, expected composites or NetCDF-4 files")
        products = take(settings, Products)
        products.check()
        read = [watched] if watched else map(Path, settings["files"])
        products.check_apart(path for path in read if watched or path.is_file())
        nowcasting = Nowcasting(
            take(settings, ModelSettings).open(),
            take(settings, ForecastSettings),
            products,
            settings["lines"],
        )
        # A watcher never ends for a bad file.
        radar = replace(radar, skip_unusable=True) if watched else radar
        latest = LatestFrames(radar, nowcasting.at_most, nowcasting.minutes)
        if watched:
            try:
                watch(watched, latest, nowcasting, settings["every_seconds"])
            except KeyboardInterrupt:
                raise Stopped(f"stopped watching {watched}") from None
            return
        for path in nowcasting(latest.read(settings["files"])):
            print(path)

    return run(parser, act, arguments)


def _files_of(configurations: Sequence[Path]) -> list[str]:
    """Files that a configuration names: argparse takes none on the command line for an empty list.

    Raises:
        InputError: it names something else.
    """
    for configuration in reversed(configurations):
        found = read_experiment(configuration)["forecast"].get("files")
        if not isinstance(found, list | None) or not all(
            isinstance(one, str) for one in found or ()
        ):
            raise InputError(f"{configuration}: found files {found!r}, expected a list of names")
        if found:
            return found
    return []
