"""Our nowcast methods as pysteps calls its own: `forecast(precip, velocity, timesteps, …)`.

Arrays go in and out as in `pysteps.nowcasts.interface`; what their values mean is in
`pysteps_values`. The forecasts are those of `nowcast.forecast`. Nothing but NumPy is imported
before one is made: pysteps loads this when it is imported itself.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nowcast.errors import InputError
from nowcast.plugins.pysteps_values import FieldValues

if TYPE_CHECKING:
    from nowcast.method import NowcastMethod

Forecast = NDArray[np.floating[Any]]
Timed = tuple[Forecast, float, float]

FRAMES_SEEN = 5
"""The networks' number of input frames, and four pairs for optical flow."""


class FieldKeywords(TypedDict, total=False):
    """Keywords that all methods take; pysteps' own words and defaults.

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
        timestep: minutes between frames. A network has its own, and refuses another; None takes it,
            and for the other methods means that nobody needs to know.
        kmperpixel: side of a pixel in km, above 0. Motion is in pixels here, so that it makes no
            difference; it is taken because other methods of pysteps need it.
        seed: for callers that give one to every method; these here draw nothing.
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
    kmperpixel: float | None
    seed: int | None
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
        precip: (time, y, x), oldest first, row 0 north, NaN = no data; the last 5 frames are used,
            or as many as the network was trained on.
        velocity: ignored, and may be None: a network sees the motion in the frames.
        timesteps: how many, or ascending times in steps after the last frame, such as [1, 1.5, 6];
            what lies between whole steps is interpolated along the motion (`fractional_steps`).
        checkpoint: name of a network that comes with the package, or any file `nowcast.load` takes.
            It is kept in memory for the next forecast.
        device: where the network runs: "cpu", "cuda" or "auto".
        **keywords: `FieldKeywords`: unit, transform, zr_a, zr_b, timestep and so on.

    Returns:
        (timesteps, y, x) in the unit and the transform of `precip`, and of its type; NaN where none
        of the frames used has data. With `measure_time` also two durations in seconds.

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
    kmperpixel: float | None = None,
    seed: int | None = None,
    measure_time: bool = False,
) -> Forecast | Timed:
    start = time.perf_counter()
    import xarray as xr

    from nowcast.inference import forecast
    from nowcast.models.checkpoint import TrainedNetwork

    frames = _frames(precip)
    times = _times(timesteps)
    _check_above_zero("timestep", timestep)
    _check_above_zero("kmperpixel", kmperpixel)
    method, seen, minutes = model(), FRAMES_SEEN, timestep
    if isinstance(method, TrainedNetwork):
        seen = method.description.input_frames
        minutes = method.description.step_minutes if timestep is None else timestep
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
    rates, units = values.to_frames(frames)
    step = np.timedelta64(round((minutes or 1) * 60_000), "ms")
    known = xr.DataArray(
        rates,
        dims=("time", "y", "x"),
        coords={"time": np.datetime64("2000-01-01", "ns") + step * np.arange(len(rates))},
        attrs={"units": units},
    )
    ready = time.perf_counter()
    whole = forecast(method, known, int(np.ceil(times[-1])), relation=values.relation)
    found = _at(times, whole["rain_rate"].to_numpy(), rates, values)
    result = values.of_rain_rate(found[:, ::-1] if upside_down else found).astype(frames.dtype)
    if measure_time:
        return result, ready - start, time.perf_counter() - ready
    return result


def _frames(precip: ArrayLike) -> Forecast:
    """The observed field, (time, y, x), floating-point."""
    frames = np.asanyarray(precip)
    if frames.dtype.kind in "iu":
        frames = frames.astype(np.float64)
    if frames.dtype.kind != "f":
        raise InputError(f"precip: found values of type {frames.dtype}, expected numbers")
    if isinstance(frames, np.ma.MaskedArray):
        frames = frames.filled(np.nan)
    if frames.ndim == 2:
        raise InputError("precip: found one frame, (y, x), expected several, (time, y, x)")
    if frames.ndim != 3 or 0 in frames.shape:
        raise InputError(f"precip: found shape {frames.shape}, expected (time, y, x)")
    return frames


def _times(timesteps: int | Sequence[float]) -> NDArray[np.float64]:
    """Times to forecast for, in steps after the last frame."""
    if isinstance(timesteps, int | np.integer) and not isinstance(timesteps, bool):
        if timesteps < 1:
            raise InputError(f"timesteps: found {timesteps}, expected at least 1")
        return np.arange(1, int(timesteps) + 1, dtype=np.float64)
    try:
        times = np.asarray(timesteps, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.empty(())
    if times.ndim != 1 or not times.size or not np.isfinite(times).all() or times[0] <= 0:
        raise InputError(f"timesteps: found {timesteps!r}, expected a number of them or times > 0")
    if (np.diff(times) < 0).any():
        raise InputError(f"timesteps: found {timesteps!r}, expected ascending times")
    return times


def _check_above_zero(name: str, value: Any) -> None:
    if value is None:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value < np.inf:
        raise InputError(f"{name}: found {value!r}, expected more than 0")


def _at(
    times: NDArray[np.float64],
    whole: NDArray[np.float32],
    seen: NDArray[np.float64],
    values: FieldValues,
) -> NDArray[np.float32]:
    """The forecast at `times` of one at whole steps, which are taken as they are."""
    if (times % 1 == 0).all():
        return whole[times.astype(int) - 1]
    from nowcast.models.optical_flow import estimate_motion
    from nowcast.plugins.fractional_steps import between
    from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

    rates = seen if values.relation is None else values.relation.dbz_to_rain_rate(seen)
    pixels = rain_rate_to_pixel(rates).clip(0, 1)
    motion = estimate_motion(pixels)
    last = np.nan_to_num(np.where(pixels[-1] > 0, pixel_to_rain_rate(pixels[-1]), 0.0))
    known = np.concatenate([last[None].astype(np.float32), np.nan_to_num(whole)])
    found = np.empty((len(times), *whole.shape[1:]), dtype=np.float32)
    for time_ahead, field in zip(times, found, strict=True):
        before, fraction = int(time_ahead), time_ahead % 1
        field[:] = known[before]
        if fraction:
            field[:] = between(known[before], known[before + 1], motion, float(fraction))
    found[:, np.isnan(whole[0])] = np.nan
    return found
