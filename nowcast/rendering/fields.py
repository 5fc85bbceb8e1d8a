"""What animation and strip share: the checked fields of one forecast case, and their times."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nowcast.errors import InputError
from nowcast.rendering.palette import rain_classes


@dataclass(frozen=True)
class ForecastCase:
    """Observed and forecast fields of one issue time, as palette entries.

    `fields` holds "observed" first, then the methods, each (time, y, x); `inputs` is (time, y, x).
    """

    fields: Mapping[str, np.ndarray]
    inputs: np.ndarray
    issue_time: np.datetime64
    step_minutes: float

    def valid_time(self, step: int) -> str:
        """Valid time `step` steps after the issue time (before it if negative), in UTC."""
        passed = np.timedelta64(round(step * self.step_minutes * 60), "s")
        valid = (self.issue_time.astype("datetime64[s]") + passed).astype("datetime64[m]")
        return f"{str(valid).replace('T', ' ')} UTC"

    def lead_time(self, step: int) -> str:
        """Lead time of a step as forecasters write it: "+006 min"; "+007.5 min"."""
        sign = "−" if step < 0 else "+" if step > 0 else ""
        minutes = abs(step) * self.step_minutes
        if self.step_minutes == int(self.step_minutes):
            return f"{sign}{minutes:03.0f} min"
        return f"{sign}{minutes:05.1f} min"


def forecast_case(
    observed: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
    mask: np.ndarray | None,
    inputs: np.ndarray | None,
    input_mask: np.ndarray | None,
    issue_time: np.datetime64,
    step_minutes: float,
) -> ForecastCase:
    """Check the fields of a case and turn them into palette entries.

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
    fields = {"observed": observed, **forecasts}
    return ForecastCase(
        fields={name: rain_classes(field, mask) for name, field in fields.items()},
        inputs=rain_classes(inputs, input_mask),
        issue_time=np.datetime64(issue_time),
        step_minutes=step_minutes,
    )
