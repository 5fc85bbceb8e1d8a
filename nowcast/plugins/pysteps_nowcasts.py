"""Our nowcast methods as pysteps calls its own: `forecast(precip, velocity, timesteps, …)`.

Arrays go in and out as in `pysteps.nowcasts.interface`; what their values mean is in
`pysteps_values`. The forecasts are those of `nowcast.forecast`. Nothing but NumPy is imported
before one is made: pysteps loads this when it is imported itself.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError
from nowcast.plugins.pysteps_arguments import (
    check_above_zero,
    check_whole,
    frames_of,
    times_of,
    timestep_of,
)
from nowcast.plugins.pysteps_values import FieldValues

if TYPE_CHECKING:
    import xarray as xr

    from nowcast.inference.coverage import Coverage
    from nowcast.method import NowcastMethod
    from nowcast.models.checkpoint import Description

Forecast = NDArray[np.floating[Any]]
Timed = tuple[Forecast, float, float]

FRAMES_SEEN = 5
"""By methods without training: four pairs for optical flow."""

LONGEST_TIMESTEP_MINUTES = 15.0
"""Between frames that are farther apart no rain is interpolated for a network."""


class FieldKeywords(TypedDict, total=False):
    """Keywords that all methods take, in pysteps' own words where it has some.

    Attributes:
        unit: of `precip` and of the forecast: "mm/h" (the default), "mm" or "dBZ".
        transform: None, or "dB" for 10 log10 of the unit; dBZ is in decibels either way.
        accutime: minutes over which amounts in "mm" have fallen; None is the time step.
        zr_a: Z–R relation Z = a R^b of "dBZ", which has no default: with another's every rain rate
            is wrong.
        zr_b: its exponent.
        threshold: decibels below it are no rain; None is −10.
        zerovalue: what no rain is in decibels; None is 5 below the threshold.
        metadata: of pysteps' importers and transformations, from which the keywords above are taken
            where they are not given (threshold and zerovalue only while unit and transform are);
            and `yorigin`, "upper" unless it says "lower".
        timestep: minutes between frames, and between times to forecast for. Where it is not a
            network's own, the rain at the network's times is interpolated, up to 15 minutes. None
            takes that of the metadata's `timestamps`, which have to be even, if they are as many as
            the frames, and else a network's own; the other methods need not know it.
        coverage: where the forecast is missing. "moves" (the default): where the air comes from
            that the last frame did not observe, or from beyond the grid, as in pysteps'
            extrapolation; "stays": where the last frame has no data.
        n_ens_members: above 1, members of an ensemble that sees the frames with motion and
            intensity a little otherwise (`nowcast.models.ensembles.PerturbedInputs`); None or 1 is
            the method's one forecast, of what was observed.
        seed: decides the ensemble; None draws another one every time.
        kmperpixel: side of a pixel in km, above 0. Motion is in pixels here, so that it makes no
            difference; it is taken because other methods of pysteps need it.
        measure_time: also return seconds of preparation and of forecasting, as S-PROG does.
    """

    unit: str
    transform: str | None
    accutime: float | None
    zr_a: float | None
    zr_b: float | None
    threshold: float | None
    zerovalue: float | None
    metadata: Mapping[str, Any] | None
    timestep: float | None
    coverage: "Coverage"
    n_ens_members: int | None
    seed: int | None
    kmperpixel: float | None
    measure_time: bool


def convgru(
    precip: ArrayLike,
    velocity: ArrayLike | None,
    timesteps: int | Sequence[float],
    checkpoint: str | os.PathLike[str] = "convgru-5min",
    device: str = "cpu",
    **keywords: Unpack[FieldKeywords],
) -> Forecast | Timed:
    """Forecast with a trained network of this package.

    Args:
        precip: (time, y, x), oldest first, row 0 north, NaN = no data; at the network's time step
            the last 5 frames are used, or as many as it was trained on, and at another as many as
            span the same time.
        velocity: ignored, and may be None: a network sees the motion in the frames.
        timesteps: how many, or ascending times in steps after the last frame, such as [1, 1.5, 6];
            what lies between two steps of the network is interpolated along the motion.
        checkpoint: name of a network that comes with the package, or any file `nowcast.load` takes.
            It is kept in memory for the next forecast.
        device: where the network runs: "cpu", "cuda" or "auto".
        **keywords: `FieldKeywords`: unit, transform, zr_a, zr_b, timestep and so on.

    Returns:
        (timesteps, y, x), or (n_ens_members, timesteps, y, x) of an ensemble, in the unit and the
        transform of `precip`, and of its type; NaN where it is missing (`coverage`). With
        `measure_time` also two durations in seconds.

    Raises:
        InputError: (a ValueError) for frames that cannot be forecast from, in one line.
    """
    from nowcast.models.checkpoint import TrainedNetwork, checkpoint_path

    def model() -> TrainedNetwork:
        path = checkpoint_path(checkpoint)
        status = path.stat()
        return _network(os.path.abspath(path), status.st_mtime_ns, status.st_size, device)

    return _forecast(model, precip, timesteps, **keywords)


def dis_flow(
    precip: ArrayLike,
    velocity: ArrayLike | None,
    timesteps: int | Sequence[float],
    **keywords: Unpack[FieldKeywords],
) -> Forecast | Timed:
    """Forecast by DIS optical flow and semi-Lagrangian extrapolation (`nowcast.models`).

    Dry air comes in over the edges. Arguments, results and errors are those of `convgru`, without
    its network: the last 5 frames are used, 2 are needed. `velocity` is ignored, and may be None:
    this method's motion is its own, and pysteps' "extrapolation" the one along yours.
    """
    from nowcast.models.optical_flow import OpticalFlow

    return _forecast(OpticalFlow, precip, timesteps, **keywords)


def dis_flow_inflow(
    precip: ArrayLike,
    velocity: ArrayLike | None,
    timesteps: int | Sequence[float],
    **keywords: Unpack[FieldKeywords],
) -> Forecast | Timed:
    """Forecast as `dis_flow`, but rain at an edge keeps coming in over it."""
    from nowcast.models.optical_flow import OpticalFlow

    return _forecast(lambda: OpticalFlow(inflow="edge"), precip, timesteps, **keywords)


def rover(
    precip: ArrayLike,
    velocity: ArrayLike | None,
    timesteps: int | Sequence[float],
    **keywords: Unpack[FieldKeywords],
) -> Forecast | Timed:
    """Forecast as the HKO-7 benchmark's ROVER does, with its arctangent transform.

    Echoes below 0.28 of the benchmark's pixel scale, 9.6 dBZ there, are noise to it. Arguments,
    results and errors are those of `convgru`, without its network: the last 2 frames are used.
    `velocity` is ignored, and may be None: the method has a motion of its own.
    """
    from nowcast.models.rover import Rover

    return _forecast(lambda: Rover("arctangent"), precip, timesteps, **keywords)


@lru_cache(maxsize=4)
def _network(path: str, modified_ns: int, size: int, device: str) -> Any:
    """A checkpoint, loaded once for as long as its file stays as it is."""
    from nowcast.models.checkpoint import load

    return load(path, device)


def _forecast(
    model: "Callable[[], NowcastMethod]",
    precip: ArrayLike,
    timesteps: int | Sequence[float],
    *,
    unit: str | None = None,
    transform: str | None = None,
    accutime: float | None = None,
    zr_a: float | None = None,
    zr_b: float | None = None,
    threshold: float | None = None,
    zerovalue: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    timestep: float | None = None,
    coverage: "Coverage" = "moves",
    n_ens_members: int | None = None,
    seed: int | None = None,
    kmperpixel: float | None = None,
    measure_time: bool = False,
) -> Forecast | Timed:
    start = time.perf_counter()
    from nowcast.models.checkpoint import TrainedNetwork
    from nowcast.plugins.pysteps_rain_rates import Members, rain_rates

    frames, times = frames_of(precip), times_of(timesteps)
    check_above_zero("kmperpixel", kmperpixel)
    check_above_zero("timestep", timestep)
    check_whole("n_ens_members", n_ens_members, 1)
    check_whole("seed", seed, 0)
    minutes = timestep_of(metadata or {}, len(frames)) if timestep is None else timestep
    method, seen, spacing = model(), FRAMES_SEEN, 1.0
    if isinstance(method, TrainedNetwork):
        about = method.description
        spacing = minutes = about.step_minutes if minutes is None else minutes
        seen = _frames_needed(about, minutes, len(frames))
        times = _as_whole_as_meant(times * (minutes / about.step_minutes))
    if n_ens_members is not None and n_ens_members > 1:
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        method = Members(method, n_ens_members, drawn)
    given = {
        "unit": unit,
        "transform": transform,
        "accutime": accutime,
        "zr_a": zr_a,
        "zr_b": zr_b,
        "threshold": threshold,
        "zerovalue": zerovalue,
    }
    said: dict[str, Any] = {"accutime": minutes}
    for source in (metadata or {}, given):
        said |= {key: value for key, value in source.items() if value is not None}
    if metadata and any(metadata.get(key) != said.get(key) for key in ("unit", "transform")):
        # They are of the kind that the metadata say.
        said |= {"threshold": threshold, "zerovalue": zerovalue}
    values = FieldValues.described(said)
    upside_down = said.get("yorigin") == "lower"
    frames = frames[-seen:, ::-1] if upside_down else frames[-seen:]
    known = _with_times(*values.to_frames(frames), spacing)
    ready = time.perf_counter()
    found = rain_rates(
        method,
        known,
        times,
        relation=values.relation,
        coverage=coverage,
        longest_gap_minutes=max(LONGEST_TIMESTEP_MINUTES, spacing),
    )
    result = values.of_rain_rate(found[..., ::-1, :] if upside_down else found)
    result = result.astype(frames.dtype)
    if measure_time:
        return result, ready - start, time.perf_counter() - ready
    return result


def _frames_needed(about: "Description", timestep: float, frames: int) -> int:
    """How many of the last frames span what a network sees, `timestep` minutes apart."""
    from nowcast.inference.time_steps import AS_GOOD_AS_AT

    longest = max(LONGEST_TIMESTEP_MINUTES, about.step_minutes)
    if timestep > longest:
        raise InputError(
            f"timestep: found {timestep:g} minutes, expected at most {longest:g}: the network has "
            f"steps of {about.step_minutes:g}, and what lies between frames is interpolated"
        )
    span = (about.input_frames - 1) * about.step_minutes
    least = 1 + ceil((span - AS_GOOD_AS_AT * about.step_minutes) / timestep)
    if frames < least:
        raise InputError(
            f"precip: found {frames} frames every {timestep:g} minutes, expected at least {least}:"
            f" the network sees {span:g} minutes"
        )
    return 1 + ceil(span / timestep)


def _as_whole_as_meant(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times that are whole but for rounding, as whole numbers."""
    whole = times.round()
    return np.where(np.abs(times - whole) < 1e-6, whole, times)


def _with_times(rates: Forecast, units: str, timestep: float) -> "xr.DataArray":
    """What `nowcast.forecast` takes; when it was is of no matter to it."""
    import xarray as xr

    if np.isnan(rates[-1]).all():
        raise InputError("precip: found no data in the last frame, expected some to start from")
    seconds = np.round(np.arange(1 - len(rates), 1) * 60 * timestep)
    return xr.DataArray(
        rates,
        dims=("time", "y", "x"),
        coords={"time": np.datetime64("2000-01-01", "ns") + seconds.astype("timedelta64[s]")},
        attrs={"units": units},
    )
