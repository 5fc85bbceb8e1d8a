"""Part scaling: how the cost of a training step grows with frames, clips and pixels."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch

from nowcast.benchmarks.own_process import own_processes
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import Spread, check_rounds, time_rounds
from nowcast.benchmarks.training_step import StepShape, TrainingStep, own_step
from nowcast.device import WantedPrecision, choose_device, choose_precision
from nowcast.errors import InputError
from nowcast.files import check_place
from nowcast.progress import progress
from nowcast.rendering.scaling import write_scaling

MEMORY_STEPS = 2
"""Steps after which memory has its peak: the first makes the optimizer's moments."""

UNITS = {"frames": ("ms per frame", 1e3), "clips": ("ms per clip", 1e3),
         "pixels": ("µs per pixel", 1e6)}  # fmt: skip
"""What grows, and in which unit its cost is told: name and how many make a second."""


def measure_scaling(
    hidden: tuple[int, ...] = (64, 192, 192),
    side: int = 120,
    batch: int = 4,
    input_frames: int = 5,
    lead_times: int = 20,
    factors: tuple[int, ...] = (1, 2, 4),
    precision: WantedPrecision = "auto",
    repeats: int = 5,
    warmup: int = 1,
    device: str = "auto",
    plot: Path | None = None,
) -> Report:
    """Time training steps of growing size: frames, clips in a batch, pixels, each by itself.

    All sizes take turns in the same rounds. Seconds are fitted by a · sizeᵖ, in each round by
    itself; where cost grows linearly, p is 1, and it is less where costs of any step count.
    Memory is measured beforehand, in a process for each quantity, from the smallest size to the
    largest.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame, in the smallest step.
        batch: clips in it.
        input_frames: frames that the network sees in it.
        lead_times: frames that it forecasts in it.
        factors: of the smallest step's frames, seen and forecast ones alike, of its clips and of
            its pixels; the side is rounded to what the network takes.
        precision: "fp32", "bf16" for autocast to bfloat16, or "auto" for the latter where the
            device is faster with it.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda".
        plot: PNG file to draw into.

    Returns:
        Seconds of the steps; as facts, for each quantity, the exponent p as median, smallest and
        largest over the rounds, and the cost of one frame, clip or pixel at each size; and the peak
        memory of a process that takes each step, or on a GPU what it allocated there.

    Raises:
        InputError: for a setting that makes no sense.
        ChildProcessError: a step failed while its memory was measured.
    """
    settings = dict(locals())
    smallest = StepShape(hidden, side, batch, input_frames, lead_times)
    grown = growing_shapes(smallest, factors)
    check_rounds(repeats, warmup)
    if plot is not None:
        check_place(plot)
    place = choose_device(device)
    chosen = choose_precision(precision, place)
    bf16 = chosen == "bf16"
    memory = _peak_memory(grown, place, bf16)
    shapes = {_name(shape): shape for sizes in grown.values() for shape in sizes.values()}
    steps = {name: own_step(shape, place, bf16) for name, shape in shapes.items()}
    seconds = time_rounds(steps, repeats, warmup, "training steps")
    base = _name(smallest)
    rows = [
        Row(
            name,
            seconds[name],
            shape.step_gflop(),
            "GFLOP",
            compared_with=None if name == base else base,
            ceiling=chosen,
        )
        for name, shape in shapes.items()
    ]
    by_size = {
        quantity: {size: seconds[_name(shape)] for size, shape in sizes.items()}
        for quantity, sizes in grown.items()
    }
    found = {quantity: exponent(times) for quantity, times in by_size.items()}
    if plot is not None:
        write_scaling(
            plot,
            by_size,
            {name: (p.median, p.smallest, p.largest) for name, p in found.items()},
            title=f"A training step from {base} up, {chosen}",
        )
    facts: dict[str, Any] = {"precision": chosen}
    for quantity, times in by_size.items():
        unit, in_a_second = UNITS[quantity]
        facts[f"exponent of {quantity}"] = vars(found[quantity])
        facts[unit] = {
            f"{size:,}": in_a_second * Spread.of(values).median / size
            for size, values in times.items()
        }
    facts["peak memory, MB"] = memory
    return Report("scaling", settings, tuple(rows), facts)


def growing_shapes(smallest: StepShape, factors: Sequence[int]) -> dict[str, dict[int, StepShape]]:
    """Steps by size, for each quantity that grows while the others stay.

    Args:
        smallest: what grows.
        factors: by how much; sides are rounded to a multiple of the network's stride.

    Raises:
        InputError: fewer than two sizes, or factors below 1.
    """
    if not factors or min(factors) < 1:
        raise InputError(f"factors: found {list(factors)}, expected numbers of at least 1")
    stride = smallest.network.stride
    grown: dict[str, dict[int, StepShape]] = {"frames": {}, "clips": {}, "pixels": {}}
    for factor in sorted({1, *factors}):
        past, future = factor * smallest.input_frames, factor * smallest.lead_times
        side = stride * round(smallest.side * math.sqrt(factor) / stride)
        frames = replace(smallest, input_frames=past, lead_times=future)
        grown["frames"][past + future] = frames
        grown["clips"][factor * smallest.batch] = replace(smallest, batch=factor * smallest.batch)
        grown["pixels"][side**2] = replace(smallest, side=side)
    for quantity, sizes in grown.items():
        if len(sizes) < 2:
            raise InputError(
                f"factors: found {list(factors)}, which give one number of {quantity}; expected "
                "at least two"
            )
    return grown


def exponent(seconds: Mapping[int, Sequence[float]]) -> Spread:
    """Exponent p of seconds = a · sizeᵖ by least squares of the logarithms, round by round.

    Args:
        seconds: of each round, by size; values at the same place are of the same round.
    """
    sizes = [math.log(size) for size in seconds]
    rounds = zip(*seconds.values(), strict=True)
    return Spread.of(
        tuple(linear_regression(sizes, [math.log(s) for s in times]).slope for times in rounds)
    )


def _name(shape: StepShape) -> str:
    frames = shape.input_frames + shape.lead_times
    return f"{frames} frames, batch {shape.batch}, {shape.side} × {shape.side}"


def _peak_memory(
    grown: Mapping[str, Mapping[int, StepShape]], device: torch.device, bf16: bool
) -> dict[str, float | str]:
    """Of each step in MB; those of a quantity from small to large in one process."""
    peaks: dict[str, float | str] = {}
    # In each child, what makes steps of any shape.
    build = partial(partial, own_step, device=device, bf16=bf16)
    with own_processes(dict.fromkeys(grown, build)) as processes:
        for quantity, sizes in progress(grown.items(), "memory", unit="quantities"):
            for shape in sizes.values():
                peak = processes[quantity].ask(partial(_peak_of, shape))
                peaks[_name(shape)] = "not known here" if peak is None else peak / 1e6
    return peaks


def _peak_of(shape: StepShape, make_step: Callable[[StepShape], TrainingStep]) -> int | None:
    """Peak memory of this process after a step's first runs; what it made is let go."""
    step = make_step(shape)
    for _ in range(MEMORY_STEPS):
        step()
    return step.peak_memory()
