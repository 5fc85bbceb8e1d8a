"""Part render: the pictures of a forecast and of an evaluation, the GIF beside plain Matplotlib."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.errors import InputError
from nowcast.evaluation.settings import ScoreSettings
from nowcast.evaluation.shown_clips import ShownClip
from nowcast.memory import keep_freed_memory
from nowcast.method import NowcastMethod
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.models.rover import Rover
from nowcast.radar.event_sources import read_event
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.units import pixel_to_rain_rate
from nowcast.rendering import (
    animate,
    write_gif,
    write_page,
    write_png_strip,
    write_reliability,
    write_score_curves,
    write_spectra,
)
from nowcast.rendering.palette import (
    DRY_COLOUR,
    NO_COVERAGE_COLOURS,
    RAIN_COLOURS,
    RAIN_EDGES_MM_H,
)
from nowcast.verification import Cases, make_report
from nowcast.verification import Report as ScoreReport
from nowcast.verification.running import Scoring, mean_rain_rate

GIF, PLAIN, WITH_INPUTS = "GIF", "GIF, plain Matplotlib", "GIF with the input frames"
METHODS: dict[str, Callable[[], NowcastMethod]] = {
    "persistence": Persistence,
    "optical flow": OpticalFlow,
    "ROVER": partial(Rover, "arctangent"),
}
STRIP_LEAD_TIMES = 5
DAY = np.datetime64("2015-06-01")
DOTS_PER_INCH = 100

Rates = NDArray[np.float32]


def measure_rendering(
    side: int = 480,
    lead_times: int = 20,
    input_frames: int = 5,
    event: Path | None = None,
    repeats: int = 7,
    warmup: int = 1,
) -> Report:
    """Time the pictures of a forecast and of an evaluation.

    The panels are what was observed, persistence, optical flow, and ROVER, whose forecast blurs as
    a network's does. The plain GIF is Matplotlib's own animation of the same lead times, a picture
    about as large. Plots and page are those of an evaluation of the same clip, with an ensemble
    beside the methods.

    Args:
        side: pixels along each side of a panel's grid.
        lead_times: forecast frames.
        input_frames: observed frames before them, at least 2.
        event: a radar event, as `prepare_data events` takes it, whose first frames are shown, the
            middle of the grid; synthetic rain where not given.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.

    Raises:
        InputError: for a setting that makes no sense, or an event that cannot be read or is too
            small.
    """
    settings = {**locals(), "event": None if event is None else str(event)}
    if lead_times < 1 or input_frames < 2:
        raise InputError(
            f"render: found lead_times={lead_times} and input_frames={input_frames}, expected at "
            "least 1 and 2"
        )
    keep_freed_memory()
    # It reports every animation that it saves.
    logging.getLogger("matplotlib.animation").setLevel(logging.WARNING)
    frames = input_frames + lead_times
    clip = _clip(*_observed(side, frames, event), input_frames)
    scores = score_report(clip)
    with_inputs = clip.arguments()
    case = {name: value for name, value in with_inputs.items() if not name.startswith("input")}
    steps = sorted({round(x) for x in np.linspace(1, lead_times, STRIP_LEAD_TIMES)})
    animation = animate(**with_inputs)
    strip, moving, page = "strip", "animation of the page", "page around it"
    curves, reliability, spectra = "score curves", "reliability", "spectra"
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: Path(folder) / file
            for name, file in (
                (PLAIN, "plain.gif"),
                (GIF, "forecast.gif"),
                (WITH_INPUTS, "with_inputs.gif"),
                (strip, "strip.png"),
                (page, "report.html"),
                (curves, "scores.png"),
                (reliability, "reliability.png"),
                (spectra, "spectra.png"),
            )
        }
        variants: dict[str, Callable[[], object]] = {
            PLAIN: partial(plain_gif, files[PLAIN], rates_by_panel(clip), clip.step_minutes),
            GIF: partial(write_gif, files[GIF], **case),
            WITH_INPUTS: partial(write_gif, files[WITH_INPUTS], **with_inputs),
            strip: partial(write_png_strip, files[strip], **case, lead_steps=steps),
            moving: partial(animate, **with_inputs),
            page: partial(write_page, files[page], title="", facts={}, animations=[animation]),
            curves: partial(write_score_curves, files[curves], scores),
            reliability: partial(write_reliability, files[reliability], scores),
            spectra: partial(write_spectra, files[spectra], scores),
        }
        seconds = time_rounds(variants, repeats, warmup, "pictures")
        facts = {
            "frames, height and width in pixels": {
                name: _shape(files[name]) for name in (PLAIN, GIF, WITH_INPUTS)
            },
            "kB of files": {name: path.stat().st_size / 1e3 for name, path in files.items()},
        }
    counts = {PLAIN: lead_times, GIF: lead_times, WITH_INPUTS: frames, moving: frames}
    rows = []
    for name, own in seconds.items():
        unit = "frames" if name in counts else "files"
        rows.append(Row(name, own, counts.get(name, 1), unit, PLAIN if name == GIF else None))
    return Report("render", settings, tuple(rows), facts)


def plain_gif(path: Path, rates: Mapping[str, Rates], step_minutes: float) -> None:
    """Animate rain rates as Matplotlib's documentation does it: images whose values are replaced.

    Args:
        path: the GIF to write.
        rates: mm/h (time, y, x) by the name above the panel; NaN is no coverage.
        step_minutes: minutes between frames.
    """
    first = next(iter(rates.values()))
    height, width = first.shape[1:]
    size = (len(rates) * (width + 12) / DOTS_PER_INCH, (height + 120) / DOTS_PER_INCH)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(rates))
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.12, top=0.9, wspace=0.02)
    rain_colours = ListedColormap([DRY_COLOUR, *RAIN_COLOURS])
    colours = rain_colours.with_extremes(bad=NO_COVERAGE_COLOURS[0])
    norm = BoundaryNorm([0.0, *RAIN_EDGES_MM_H, 1000.0], colours.N)
    images = []
    for axis, (name, field) in zip(axes, rates.items(), strict=True):
        images.append(axis.imshow(field[0], colours, norm))
        axis.set_title(name)
        axis.set_axis_off()
    legend = figure.add_axes((0.3, 0.07, 0.4, 0.03))
    figure.colorbar(images[0], cax=legend, orientation="horizontal", label="mm/h")
    title = figure.suptitle("")

    def draw(number: int) -> list[Artist]:
        for image, field in zip(images, rates.values(), strict=True):
            image.set_data(field[number])
        title.set_text(f"lead time +{(number + 1) * step_minutes:g} min")
        return [*images, title]

    animation = FuncAnimation(figure, draw, frames=len(first))
    animation.save(path, writer=PillowWriter(fps=5))


def rates_by_panel(clip: ShownClip) -> dict[str, Rates]:
    """What the panels show, in mm/h (time, y, x); NaN where there is no coverage."""
    return {
        name: np.where(clip.mask, pixel_to_rain_rate(pixels), np.float32(np.nan))
        for name, pixels in {"observed": clip.observed, **clip.forecasts}.items()
    }


class LaggedPersistence:
    """An ensemble: of the frames that were seen, each persists."""

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """Pixel values of the mean rain rate; see `nowcast.method`."""
        return mean_rain_rate(self.forecast_members(frames, lead_times))

    def forecast_members(self, frames: Tensor, lead_times: int) -> Tensor:
        """As many members as frames; see `nowcast.method`."""
        return frames[:, :, None].repeat(1, 1, lead_times, 1, 1, 1)


def score_report(clip: ShownClip) -> ScoreReport:
    """What an evaluation of the methods shown, and of an ensemble, reports of a clip."""
    observed, inputs = (torch.from_numpy(f)[None, :, None] for f in (clip.observed, clip.inputs))
    lead_times, shape = len(clip.observed), clip.observed.shape[1:]
    kinds = ScoreSettings(scores=("rain rate", "spectra")).kinds(lead_times, shape)
    methods = {name: make() for name, make in METHODS.items()}
    scoring = Scoring({**methods, "ensemble": LaggedPersistence()}, lead_times, kinds)
    mask = torch.from_numpy(clip.mask)[None, :, None]
    issued = np.array([clip.issue_time])
    scoring.add(Cases(inputs, observed, mask, ("",), issued, ("",), (True,)))
    return make_report(scoring.results, {"step_minutes": clip.step_minutes})


def _clip(
    pixels: NDArray[np.uint8], counts: NDArray[np.bool_], step_minutes: float, input_frames: int
) -> ShownClip:
    """The clip with every method's forecast; no coverage is where no frame counts."""
    observed = pixels / np.float32(255)
    mask = counts.any(axis=0, keepdims=True).repeat(len(pixels), axis=0)
    past, future = slice(None, input_frames), slice(input_frames, None)
    seen = torch.from_numpy(observed[past])[None, :, None]
    lead_times = len(observed) - input_frames
    return ShownClip(
        observed=observed[future],
        forecasts={
            name: make().forecast(seen, lead_times)[0, :, 0].numpy()
            for name, make in METHODS.items()
        },
        mask=mask[future],
        inputs=observed[past],
        input_mask=mask[past],
        issue_time=DAY,
        step_minutes=step_minutes,
        title="Rain as it was observed and forecast",
        source="",
    )


def _observed(
    side: int, frames: int, event: Path | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float]:
    """Stored pixel values and mask (time, y, x), and minutes between frames.

    Raises:
        InputError: for a side that rain cannot have, or an event that cannot be read or is too
            small.
    """
    if event is None:
        rain = SyntheticRain(size=side, missing_fraction=0.0, outages_per_day=0.0)
        _, pixels, masks = zip(*rain.simulate(DAY, frames * rain.step_minutes / 60), strict=True)
        return np.stack(pixels), np.stack(masks), rain.step_minutes
    found = read_event(event)
    height, width = found.event.shape
    if len(found.frames) < frames or min(height, width) < side:
        raise InputError(
            f"{event}: found {len(found.frames)} frames of {height} × {width} pixels, expected at "
            f"least {frames} of {side} × {side}"
        )
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.s_[:frames, top : top + side, left : left + side]
    return found.frames[middle], found.mask[middle], found.event.step_minutes


def _shape(path: Path) -> list[int]:
    """Frames, height and width of a GIF."""
    with Image.open(path) as image:
        return [getattr(image, "n_frames", 1), image.height, image.width]
