"""`forecast`: the next two hours from the latest files of radar."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run, take
from nowcast.errors import InputError
from nowcast.operations.model_settings import ModelSettings
from nowcast.operations.nowcasting import ForecastSettings, Nowcasting, RadarSettings
from nowcast.operations.products import Products
from nowcast.operations.watching import watch
from nowcast.radar.event_arrays import read_frames
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
        if bool(settings["files"]) == bool(settings["watch"]):
            raise InputError("found no files and no folder to watch, expected one of them")
        radar = take(settings, RadarSettings)
        products = take(settings, Products)
        products.check()
        nowcasting = Nowcasting(
            take(settings, ModelSettings).open(),
            take(settings, ForecastSettings),
            products,
            settings["lines"],
        )
        if settings["watch"]:
            watch(
                settings["watch"],
                nowcasting,
                radar,
                last=nowcasting.last,
                minutes=nowcasting.minutes,
                every_seconds=settings["every_seconds"],
            )
        frames = read_frames(
            settings["files"],
            nowcasting.last,
            minutes=nowcasting.minutes,
            variable=radar.variable,
            relation=radar.relation,
            accumulation_minutes=radar.accumulation_minutes,
            images=radar.images,
            skip_unusable=radar.skip_unusable,
        )
        for path in nowcasting(frames):
            print(path)

    return run(parser, act, arguments)
