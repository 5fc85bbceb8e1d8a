"""`render`: animate observed and forecast rain side by side."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run, take
from nowcast.errors import InputError
from nowcast.evaluation.methods import MethodSettings
from nowcast.evaluation.shown_clips import find, show
from nowcast.files import check_place
from nowcast.rendering import write_gif, write_png_strip
from nowcast.training.data import DataSettings, SequentialClips


def render_forecasts(
    data: DataSettings,
    out: Path,
    methods: MethodSettings,
    split: str = "test",
    sequence: str | None = None,
    start: str | None = None,
    frames_per_second: float = 5.0,
) -> Path:
    """Forecast one clip with every method; write a GIF and, beside it, a PNG of some lead times.

    Args:
        data: where the clip comes from.
        out: the GIF to write.
        methods: what forecasts.
        split: split of the store.
        sequence: name of the clip's sequence; any where not given.
        start: time of the clip's first frame in UTC, as 2017-05-09T10:45; where not given, the
            wettest clip is shown.
        frames_per_second: speed of the animation.

    Raises:
        InputError: if there is no such clip, a method does not fit, or `out` is no place for a GIF.
    """
    if out.suffix.lower() != ".gif":
        raise InputError(f"{out}: found no .gif at its end, expected the name of a GIF to write")
    check_place(out)
    check_place(out.with_suffix(".png"))
    wanted = None if start is None else _time(start)
    opened = methods.open(data, split)
    clips = SequentialClips(data.open(), split, data.length, stride=1)
    pictured = show(data, *find(clips, sequence, wanted), opened).arguments()
    write_gif(out, **pictured, frames_per_second=frames_per_second)
    steps = sorted({round(x) for x in np.linspace(1, data.lead_times, min(5, data.lead_times))})
    of_the_past = ("inputs", "input_mask")
    strip = {name: value for name, value in pictured.items() if name not in of_the_past}
    write_png_strip(out.with_suffix(".png"), **strip, lead_steps=steps)
    return out


def _time(start: str) -> np.datetime64:
    try:
        time = datetime.fromisoformat(start)
    except ValueError:
        raise InputError(f"start: found {start!r}, expected a time like 2017-05-09T10:45") from None
    return np.datetime64(time.replace(tzinfo=None) - (time.utcoffset() or timedelta()), "s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("render", "Animate observed and forecast rain side by side.")
    parser.add_function_arguments(render_forecasts, skip={"methods"})
    parser.add_class_arguments(MethodSettings)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        methods = take(settings, MethodSettings)
        path = render_forecasts(**settings, methods=methods)
        print(f"{path} and {path.with_suffix('.png')}")

    return run(parser, act, arguments)
