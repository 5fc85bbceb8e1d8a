"""What all pictures of a forecast share: the checked fields, frame by frame, and their times."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nowcast.errors import InputError
from nowcast.rendering.canvas import enlargement
from nowcast.rendering.palette import RAIN, Scale, rain_classes


@dataclass(frozen=True, eq=False)
class ShownField:
    """What one panel shows.

    Attributes:
        name: written over it.
        classes: palette entries (frame, y, x), row 0 north.
        first_frame: number of the frame that shows the first of them; before it the panel says when
            the forecast starts.
        scale: what the entries stand for.
    """

    name: str
    classes: np.ndarray
    first_frame: int = 0
    scale: Scale = RAIN


@dataclass(frozen=True, eq=False)
class Scene:
    """Fields of one grid and one issue time that are shown together, frame by frame.

    Attributes:
        fields: a panel each.
        valid_times: of the frames, in order, UTC, datetime64[s]; those up to the issue time show
            what was observed.
        issue_time: UTC, datetime64[s].
        words: what an observed frame and a forecast one are called beside their lead time.
        lines: the map's lines as palette entries over a panel, `enlargement` times its grid.
    """

    fields: tuple[ShownField, ...]
    valid_times: np.ndarray
    issue_time: np.datetime64
    words: tuple[str, str] = ("input", "lead time")
    lines: np.ndarray | None = None

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.valid_times)

    @property
    def issue_frame(self) -> int:
        """Number of the first frame that is forecast."""
        return int((self.valid_times <= self.issue_time).sum())

    @property
    def factor(self) -> int:
        """Screen pixels per grid cell, along each axis."""
        return enlargement(*self.fields[0].classes.shape[1:])

    @property
    def panel_size(self) -> tuple[int, int]:
        """Height and width of a panel in screen pixels."""
        height, width = self.fields[0].classes.shape[1:]
        return height * self.factor, width * self.factor

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What the colours of the panels stand for, each scale once."""
        return tuple(dict.fromkeys(field.scale for field in self.fields))

    def lead_time(self, frame: int) -> str:
        """Lead time of a frame as forecasters write it: "+006 min"; "+007.5 min"."""
        leads = (self.valid_times - self.issue_time).astype(np.int64)
        sign = "−" if leads[frame] < 0 else "+" if leads[frame] > 0 else ""
        minutes = abs(leads[frame]) / 60
        if (leads % 60).any():
            return f"{sign}{minutes:05.1f} min"
        return f"{sign}{minutes:03.0f} min"

    def label(self, frame: int) -> str:
        """Valid time and lead time of a frame, as they stand over it."""
        word = self.words[frame >= self.issue_frame]
        return f"valid {utc(self.valid_times[frame])}   {word} {self.lead_time(frame)}"


def utc(time: np.datetime64) -> str:
    """A time as it is written: "2016-09-28 23:50 UTC"."""
    return f"{str(time.astype('datetime64[m]')).replace('T', ' ')} UTC"


def hour(time: np.datetime64) -> str:
    """A time of a known day as it is written: "23:50 UTC"."""
    return utc(time).split(" ", 1)[1]


def forecast_case(
    observed: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
    mask: np.ndarray | None,
    inputs: np.ndarray | None,
    input_mask: np.ndarray | None,
    issue_time: np.datetime64,
    step_minutes: float,
) -> Scene:
    """Check what was observed and what was forecast, and set them beside each other.

    The arguments are those of `write_gif`.

    Raises:
        InputError: a shape or dtype does not fit, or a method is called "observed".
    """
    if observed.ndim != 3 or 0 in observed.shape:
        raise InputError(f"observed: found shape {observed.shape}, expected (time, y, x)")
    if inputs is None:
        inputs = np.zeros((0, *observed.shape[1:]), np.float32)
    if inputs.ndim != 3 or inputs.shape[1:] != observed.shape[1:]:
        grid = ", ".join(map(str, observed.shape[1:]))
        raise InputError(f"inputs: found shape {inputs.shape}, expected (time, {grid})")
    if "observed" in forecasts:
        raise InputError("forecasts: found a method called 'observed', expected another name")
    if not 0 < step_minutes < np.inf:
        raise InputError(f"step_minutes: found {step_minutes}, expected a positive number")
    if np.isnat(np.datetime64(issue_time)):
        raise InputError("issue time: found NaT, expected a time in UTC")
    for name, field, expected in (
        *((name, field, observed) for name, field in forecasts.items()),
        ("mask", mask, observed),
        ("input mask", input_mask, inputs),
    ):
        if field is not None and field.shape != expected.shape:
            raise InputError(f"{name}: found shape {field.shape}, expected {expected.shape}")
    seen = np.concatenate([rain_classes(inputs, input_mask), rain_classes(observed, mask)])
    issued = np.datetime64(issue_time).astype("datetime64[s]")
    steps = np.arange(1 - len(inputs), len(observed) + 1)
    return Scene(
        fields=(
            ShownField("observed", seen),
            *(
                ShownField(name, rain_classes(field, mask), len(inputs))
                for name, field in forecasts.items()
            ),
        ),
        valid_times=issued + np.rint(steps * step_minutes * 60).astype("timedelta64[s]"),
        issue_time=issued,
    )
