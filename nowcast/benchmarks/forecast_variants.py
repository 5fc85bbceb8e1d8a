"""What part forecast times: a network's forecast in several ways, and other methods.

Apart from the part itself, so that its processes need not import what trains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nowcast.benchmarks.machine import wait_for
from nowcast.benchmarks.peak_memory import own_peak_memory
from nowcast.benchmarks.plain import plain_copy, plain_forward
from nowcast.device import Precision
from nowcast.inference import forecast
from nowcast.memory import keep_freed_memory
from nowcast.method import NowcastMethod
from nowcast.models.checkpoint import Description, TrainedNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.settings import NetworkSettings
from nowcast.radar.units import pixel_to_rain_rate

START = np.datetime64("2020-06-01T12:00", "ns")


@dataclass(frozen=True)
class Task:
    """What all variants forecast.

    Args:
        pixels: observed pixel values in [0, 1], (batch, time, y, x).
        lead_times: frames to forecast.
        step_minutes: between frames.
        network: shape of the networks.
        device: where networks run.
    """

    pixels: NDArray[np.float32]
    lead_times: int
    step_minutes: int
    network: NetworkSettings
    device: torch.device

    def frames(self, device: torch.device) -> Tensor:
        """The observed frames (batch, time, 1, y, x)."""
        return torch.from_numpy(self.pixels)[:, :, None].to(device)

    def untrained(self) -> EncoderForecaster:
        """A network, of the same weights each time."""
        torch.manual_seed(0)
        network = EncoderForecaster(self.network)
        # Raised, so that little of what an untrained network forecasts is clipped.
        network.get_parameter("forecaster.head.2.bias").data.fill_(0.5)
        return network.to(self.device).eval()


class TimedForecast:
    """A forecast, to be timed: called, it returns when the forecast is made.

    Args:
        make: makes it, on the device.
        device: where.
    """

    def __init__(self, make: Callable[[], Tensor], device: torch.device) -> None:
        self.make, self.device = make, device

    def __call__(self) -> None:
        """Forecast once."""
        self.made = self.make()
        wait_for(self.device)

    def last(self) -> NDArray[np.float32]:
        """The last forecast, as the method gave it."""
        return self.made.cpu().numpy()

    def peak_memory(self) -> int | None:
        """Largest memory so far in bytes: of a GPU what was allocated, else of the process.

        None where the system does not tell.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return own_peak_memory()


def plain_network(task: Task, memory_kept: bool = False) -> TimedForecast:
    """The opponent: float32, contiguous, one time step after the other.

    With `memory_kept` its process has the memory settings of ours.
    """
    if memory_kept:
        keep_freed_memory()
    network, frames = plain_copy(task.untrained()), task.frames(task.device)

    def make() -> Tensor:
        with torch.no_grad():
            made = plain_forward(network, frames, task.lead_times, inputs_at_once=False)
            return made.clamp(0, 1)

    return TimedForecast(make, task.device)


def our_network(task: Task, precision: Precision) -> TimedForecast:
    """`Network.forecast`, in a process that keeps freed memory as our commands make it."""
    keep_freed_memory()
    network = task.untrained()
    network.precision = precision
    make = partial(network.forecast, task.frames(task.device), task.lead_times)
    return TimedForecast(make, task.device)


def whole_call(task: Task, precision: Precision) -> TimedForecast:
    """`nowcast.forecast`, rain rates in xarray in and out, clip by clip, in a process as it is."""
    batch, input_frames, *shape = task.pixels.shape
    network = task.untrained()
    network.precision = precision
    model = TrainedNetwork(
        network,
        Description(
            network=task.network,
            step_minutes=task.step_minutes,
            input_frames=input_frames,
            lead_times=task.lead_times,
            frame_shape=(shape[0], shape[1]),
            inhibition=None,
            run={},
        ),
    )
    times = START + np.timedelta64(task.step_minutes, "m") * np.arange(input_frames)
    rates = np.where(task.pixels > 0, pixel_to_rain_rate(task.pixels), 0)
    clips = [
        xr.DataArray(
            rates[number],
            dims=("time", "y", "x"),
            coords={"time": times},
            attrs={"units": "mm h-1"},
        )
        for number in range(batch)
    ]

    def make() -> Tensor:
        made = [forecast(model, clip, task.lead_times)["rain_rate"].to_numpy() for clip in clips]
        return torch.from_numpy(np.stack(made))

    return TimedForecast(make, task.device)


def other_method(task: Task, build: Callable[[], NowcastMethod]) -> TimedForecast:
    """A method without training, on the CPU."""
    cpu = torch.device("cpu")
    return TimedForecast(partial(build().forecast, task.frames(cpu), task.lead_times), cpu)
