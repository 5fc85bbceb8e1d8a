"""Part forecast on a radar event: what a nowcast of a whole grid takes, in time and memory."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import xarray as xr
from torch.utils.flop_counter import FlopCounterMode

from nowcast.benchmarks.own_process import own_processes
from nowcast.benchmarks.peak_memory import own_peak_memory
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.benchmarks.training_step import network_settings
from nowcast.device import Precision, choose_device
from nowcast.errors import InputError
from nowcast.inference import forecast, load
from nowcast.memory import keep_freed_memory
from nowcast.method import NowcastMethod
from nowcast.models.checkpoint import Description, TrainedNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.network import Network
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.pysteps_methods import pysteps_method
from nowcast.models.settings import NetworkSettings
from nowcast.radar.event_arrays import read_frames

OPPONENTS = ("extrapolation", "S-PROG", "ANVIL")


class TimedNowcast:
    """`nowcast.forecast` of an event's last frames, rain rates in xarray in and out.

    Args:
        event: file of the event.
        input_frames: that are seen.
        lead_times: frames that are forecast.
        build: makes the method, given the minutes between frames.
    """

    def __init__(
        self,
        event: Path,
        input_frames: int,
        lead_times: int,
        build: Callable[[float], NowcastMethod],
    ) -> None:
        self.frames, step_minutes = _last_frames(event, input_frames)
        self.lead_times, self.method = lead_times, build(step_minutes)

    def __call__(self) -> None:
        """Forecast once."""
        forecast(self.method, self.frames, self.lead_times)["rain_rate"].to_numpy()

    def peak_memory(self) -> int | None:
        """Largest memory of the process so far, in bytes; None where the system does not tell."""
        return own_peak_memory()


def measure_forecast_of_event(
    event: Path,
    checkpoint: str,
    hidden: tuple[int, ...],
    input_frames: int,
    lead_times: int,
    opponents: bool,
    repeats: int,
    warmup: int,
    device: str,
) -> Report:
    """Time nowcasts of an event's whole grid; the arguments are those of `measure_forecast`.

    Raises:
        InputError: the event has too few frames, or is refused as `nowcast.read_frames` does.
    """
    settings = {**locals(), "event": str(event)}
    frames, _ = _last_frames(event, input_frames)
    shape = replace(network_settings(hidden), coordinates=False)  # For any grid.
    large = "/".join(map(str, hidden))
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    builds: dict[str, Callable[[float], NowcastMethod]] = {
        **{
            f"{checkpoint} {precision}": partial(_loaded, checkpoint, device, precision)
            for precision in precisions
        },
        **{
            f"{large} {precision}": partial(
                _untrained, shape, input_frames, lead_times, device, precision
            )
            for precision in precisions
        },
        "optical flow": _optical_flow,
    }
    if opponents:
        builds |= {f"pysteps {name}": partial(_of_pysteps, name) for name in OPPONENTS}
    made = {
        name: partial(TimedNowcast, event, input_frames, lead_times, build)
        for name, build in builds.items()
    }
    with own_processes(made) as variants:
        seconds = time_rounds(variants, repeats, warmup, "nowcasts")
        peaks = {name: variant.ask(TimedNowcast.peak_memory) for name, variant in variants.items()}
    grid = f"{frames.shape[1]} × {frames.shape[2]}"
    facts = {
        "grid": grid,
        f"GFLOP of {large}": _gflop(shape, frames, lead_times),
        "peak memory, MB": {
            name: "not known here" if peak is None else peak / 1e6 for name, peak in peaks.items()
        },
    }
    rows = tuple(Row(name, seconds[name], lead_times, "frames") for name in builds)
    return Report("forecast", settings, rows, facts)


def _last_frames(event: Path, count: int) -> tuple[xr.DataArray, float]:
    """The last frames of an event, and the minutes between them."""
    if count < 2:
        raise InputError(f"input_frames: found {count}, expected at least 2")
    frames = read_frames(event, count)
    seconds = frames["time"].to_numpy()[-2:].astype("datetime64[s]").astype(int)
    return frames, float(seconds[1] - seconds[0]) / 60


def _loaded(checkpoint: str, device: str, precision: Precision, _: float) -> NowcastMethod:
    keep_freed_memory()
    return load(checkpoint, device, precision)


def _untrained(
    shape: NetworkSettings,
    input_frames: int,
    lead_times: int,
    device: str,
    precision: Precision,
    step_minutes: float,
) -> NowcastMethod:
    keep_freed_memory()
    torch.manual_seed(0)
    network: Network = EncoderForecaster(shape).eval()
    network.precision = precision
    about = Description(
        network=shape,
        step_minutes=step_minutes,
        input_frames=input_frames,
        lead_times=lead_times,
        frame_shape=(480, 480),
        inhibition=None,
        run={},
    )
    return TrainedNetwork(network.to(choose_device(device)), about)


def _optical_flow(_: float) -> NowcastMethod:
    return OpticalFlow()


def _of_pysteps(name: str, step_minutes: float) -> NowcastMethod:
    return pysteps_method(name, step_minutes=step_minutes, grid_spacing_km=None)


def _gflop(shape: NetworkSettings, frames: xr.DataArray, lead_times: int) -> float:
    with torch.device("meta"):
        network = EncoderForecaster(shape)
        past = torch.empty(1, len(frames), 1, *frames.shape[1:])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(past, lead_times)
    return counter.get_total_flops() / 1e9
