"""`render`: animate observed and forecast rain side by side."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run
from nowcast.commands.methods import Baseline, methods_to_compare
from nowcast.errors import InputError
from nowcast.files import check_place
from nowcast.progress import progress
from nowcast.radar.store import FrameStore
from nowcast.radar.store import Sequence as Place
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.rendering import write_gif, write_png_strip
from nowcast.training.data import DataSettings, SequentialClips

WET_PIXEL = 255 * float(rain_rate_to_pixel(2.0))
CLIPS_TO_CHOOSE_FROM = 200


def render_forecasts(
    data: DataSettings,
    out: Path,
    checkpoints: dict[str, Path] | None = None,
    baselines: tuple[Baseline, ...] = ("persistence", "optical flow"),
    split: str = "test",
    sequence: str | None = None,
    start: str | None = None,
    frames_per_second: float = 5.0,
    device: str = "auto",
) -> Path:
    """Forecast one clip with every method; write a GIF and, beside it, a PNG of some lead times.

    Args:
        data: where the clip comes from.
        out: the GIF to write.
        checkpoints: trained networks by the names to show them under, as in
            --checkpoints.ConvGRU FILE.
        baselines: methods without training.
        split: split of the store.
        sequence: name of the clip's sequence; any where not given.
        start: time of the clip's first frame in UTC, as 2017-05-09T10:45; where not given, the clip
            with the largest area of at least 2 mm/h is shown.
        frames_per_second: speed of the animation.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: if there is no such clip, a checkpoint does not fit, or `out` is no place for a
            GIF.
    """
    if out.suffix.lower() != ".gif":
        raise InputError(f"{out}: found no .gif at its end, expected the name of a GIF to write")
    check_place(out)
    check_place(out.with_suffix(".png"))
    wanted = None if start is None else _time(start)
    methods = methods_to_compare(baselines, checkpoints or {}, data, device)
    store = data.open()
    clips = SequentialClips(store, split, data.length, stride=1)
    place, first = _choose(clips, sequence, wanted)
    clip = store.read(place, first, data.length)
    pixels = clip.frames.astype(np.float32) / 255
    # HKO-7's masks also leave out single noisy pixels; what is hatched is what no frame shows. A
    # frame that is missing altogether is hatched as a whole.
    missing = ~np.any(clip.mask, axis=(1, 2), keepdims=True)
    coverage = np.any(clip.mask, axis=0) & ~missing
    past, future = slice(None, data.input_frames), slice(data.input_frames, None)
    inputs = torch.from_numpy(pixels[past])[None, :, None]
    forecasts = {
        name: method.forecast(inputs, data.lead_times)[0, :, 0].cpu().numpy()
        for name, method in methods.items()
    }
    issue_time = clip.times[data.input_frames - 1]
    about: dict[str, Any] = {
        "issue_time": issue_time,
        "step_minutes": data.step_minutes,
        "title": f"Forecast of {str(issue_time.astype('datetime64[m]')).replace('T', ' ')} UTC, "
        f"{place.name}",
        "source": _credit(store, place.metadata),
    }
    write_gif(
        out,
        pixels[future],
        forecasts,
        coverage[future],
        pixels[past],
        coverage[past],
        frames_per_second=frames_per_second,
        **about,
    )
    steps = sorted({round(x) for x in np.linspace(1, data.lead_times, min(5, data.lead_times))})
    write_png_strip(
        out.with_suffix(".png"),
        pixels[future],
        forecasts,
        coverage[future],
        lead_steps=steps,
        **about,
    )
    return out


def _time(start: str) -> np.datetime64:
    try:
        time = datetime.fromisoformat(start)
    except ValueError:
        raise InputError(f"start: found {start!r}, expected a time like 2017-05-09T10:45") from None
    return np.datetime64(time.replace(tzinfo=None) - (time.utcoffset() or timedelta()), "s")


def _choose(
    clips: SequentialClips, sequence: str | None, start: np.datetime64 | None
) -> tuple[Place, np.datetime64]:
    """The clip asked for, or the wettest."""
    candidates = [c for c in clips.clips if sequence is None or c[0].name == sequence]
    if start is not None:
        candidates = [c for c in candidates if c[1] == start]
    if not candidates:
        there = sorted({c[0].name for c in clips.clips})
        raise InputError(
            f"{clips.store.path}: found no valid clip of {sequence or 'any sequence'} at "
            f"{start or 'any time'}; there are {len(clips)} from {clips.clips[0][1]} to "
            f"{clips.clips[-1][1]} in {', '.join(there[:6])}"
        )
    every = max(1, len(candidates) // CLIPS_TO_CHOOSE_FROM)
    wetness = [
        (clips.store.read(*candidate, clips.length).frames >= WET_PIXEL).mean()
        for candidate in progress(candidates[::every], "looking for rain", unit="clips")
    ]
    return candidates[::every][int(np.argmax(wetness))]


def _credit(store: FrameStore, metadata: Mapping[str, Any]) -> str:
    parts = [str(metadata[key]) for key in ("source", "license", "licence") if metadata.get(key)]
    return "; ".join(parts) or store.path.name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("render", "Animate observed and forecast rain side by side.")
    parser.add_function_arguments(render_forecasts)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        path = render_forecasts(**settings)
        print(f"{path} and {path.with_suffix('.png')}")

    return run(parser, act, arguments)
