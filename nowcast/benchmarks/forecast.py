"""Part forecast: the network's forecast beside the plain way of writing it, and other methods."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from nowcast.benchmarks.forecast_of_event import measure_forecast_of_event
from nowcast.benchmarks.forecast_variants import (
    Task,
    TimedForecast,
    other_method,
    our_network,
    plain_network,
    whole_call,
)
from nowcast.benchmarks.own_process import own_processes
from nowcast.benchmarks.report import Report, Row, ceiling_rows, with_ceilings
from nowcast.benchmarks.rounds import time_rounds
from nowcast.benchmarks.training_step import StepShape
from nowcast.device import choose_device
from nowcast.method import NowcastMethod
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.models.pysteps_methods import pysteps_method
from nowcast.radar.synthetic import SyntheticRain

PLAIN = "plain fp32"
STEP_MINUTES = 6
FIRST_DAY = np.datetime64("2020-06-01")

METHODS: dict[str, Callable[[], NowcastMethod]] = {
    "persistence": Persistence,
    "optical flow": OpticalFlow,
}
OPPONENTS: dict[str, Callable[[], NowcastMethod]] = {
    f"pysteps {name}": partial(
        pysteps_method, name, step_minutes=STEP_MINUTES, grid_spacing_km=None
    )
    for name in ("extrapolation", "S-PROG", "ANVIL")
}


def measure_forecast(
    hidden: tuple[int, ...] = (64, 192, 192),
    side: int = 480,
    batch: int = 1,
    input_frames: int = 5,
    lead_times: int = 20,
    event: Path | None = None,
    checkpoint: str = "convgru-5min",
    opponents: bool = False,
    repeats: int = 5,
    warmup: int = 1,
    device: str = "auto",
) -> Report:
    """Time a forecast: plain float32, ours in float32 and bfloat16, and methods without training.

    All see the same synthetic rain, each in a process of its own, and the networks have the same
    weights. Ours runs with the memory settings of `evaluate` and `render`, the plain opponent with
    the C library as it comes, and once more with these settings. The whole call,
    `nowcast.forecast`, clip by clip from rain rates in xarray to rain rates in xarray, has the
    library as it comes: what a program that calls it waits for.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame.
        batch: clips that are forecast at once.
        input_frames: frames that are seen.
        lead_times: frames that are forecast.
        event: file of a radar event: instead of these comparisons, time `nowcast.forecast` of its
            whole grid from its last frames, by the network of `checkpoint`, by an untrained one
            of `hidden`, and by optical flow, each in a process of its own.
        checkpoint: a file, or the name of a network that comes with the package.
        opponents: also time pysteps' extrapolation, S-PROG and ANVIL.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda"; the other methods run on the CPU.

    Returns:
        Seconds of the forecasts; as facts the peak memory of each variant's process, of which that
        of persistence is little but libraries, or on a GPU what it allocated there; and how far our
        forecasts are from the plain one at most, in pixel values.

    Raises:
        InputError: for a setting that makes no sense, or opponents without pysteps installed.
        ChildProcessError: a forecast failed.
    """
    if event is not None:
        return measure_forecast_of_event(
            event, checkpoint, hidden, input_frames, lead_times, opponents, repeats, warmup, device
        )
    settings = dict(locals())
    shape = StepShape(hidden, side, batch, input_frames, lead_times)
    place = choose_device(device)
    methods = METHODS | (OPPONENTS if opponents else {})
    for build in methods.values():
        build()  # Refused here where it is not installed.
    gflop = forecast_gflop(shape)
    task = Task(rain(shape), lead_times, STEP_MINUTES, shape.network, place)
    ours: dict[str, Callable[[], TimedForecast]] = {
        "ours fp32": partial(our_network, task, "fp32"),
        "ours bf16": partial(our_network, task, "bf16"),
    }
    networks: dict[str, Callable[[], TimedForecast]] = {
        PLAIN: partial(plain_network, task),
        f"{PLAIN}, memory kept": partial(plain_network, task, memory_kept=True),
        **ours,
        "whole call fp32": partial(whole_call, task, "fp32"),
        "whole call bf16": partial(whole_call, task, "bf16"),
    }
    others: dict[str, Callable[[], TimedForecast]] = {
        name: partial(other_method, task, build) for name, build in methods.items()
    }
    with own_processes(networks | others) as variants:
        timed = with_ceilings(variants, ("fp32", "bf16"), place)
        seconds = time_rounds(timed, repeats, warmup, "forecasts")
        plain = variants[PLAIN].ask(TimedForecast.last)
        differences = {
            name: float(abs(variants[name].ask(TimedForecast.last) - plain).max()) for name in ours
        }
        peaks = {name: variant.ask(TimedForecast.peak_memory) for name, variant in variants.items()}
    rows = [
        Row(
            name,
            seconds[name],
            gflop,
            "GFLOP",
            compared_with=None if name == PLAIN else PLAIN,
            ceiling="bf16" if "bf16" in name else "fp32",
        )
        for name in networks
    ]
    rows += [Row(name, seconds[name], batch * lead_times, "frames") for name in others]
    rows += ceiling_rows(timed, seconds)
    facts = {
        "GFLOP of a forecast": gflop,
        f"largest difference from {PLAIN}, pixel values": differences,
        "peak memory, MB": {
            name: "not known here" if peak is None else peak / 1e6 for name, peak in peaks.items()
        },
    }
    return Report("forecast", settings, tuple(rows), facts)


def forecast_gflop(shape: StepShape) -> float:
    """10⁹ floating-point operations of a forecast's convolutions.

    Counted on tensors without content. A multiplication and an addition are two operations.
    """
    with torch.device("meta"):
        network = EncoderForecaster(shape.network)
        past = torch.empty(shape.batch, shape.input_frames, 1, shape.side, shape.side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(past, shape.lead_times)
    return counter.get_total_flops() / 1e9


def rain(shape: StepShape) -> NDArray[np.float32]:
    """Pixel values of synthetic rain (batch, input_frames, y, x), each clip of a day of its own.

    Raises:
        InputError: for frames that are too small, or more than a day has.
    """
    synthetic = SyntheticRain(shape.side, STEP_MINUTES, missing_fraction=0, outages_per_day=0)
    hours = shape.input_frames * STEP_MINUTES / 60
    days = [
        [pixels for _, pixels, _ in synthetic.simulate(FIRST_DAY + number, hours)]
        for number in range(shape.batch)
    ]
    return np.array(days, np.float32) / np.float32(255)
