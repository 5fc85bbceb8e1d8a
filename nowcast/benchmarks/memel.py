"""Part memel: a training step with MEmeL layers over one without, and forecasts after removal."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from nowcast import memel
from nowcast.benchmarks.layer_clock import LayerClock
from nowcast.benchmarks.layer_operations import layer_operations
from nowcast.benchmarks.machine import wait_for
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.benchmarks.training_step import StepShape, TrainingStep
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.training.inhibition import HIDDEN_STATES


def measure_memel(
    hidden: tuple[int, ...] = (64, 192, 192),
    side: int = 120,
    batch: int = 4,
    input_frames: int = 5,
    lead_times: int = 20,
    tops: tuple[int, ...] = (1, 100),
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16"),
    repeats: int = 7,
    warmup: int = 1,
    device: str = "auto",
) -> Report:
    """Time training steps with a MEmeL layer behind every ConvGRU and without.

    The layers inhibit from the first step on. They are timed by themselves, too: a further step in
    each round tells what it spends in them, forward and backward, far less than what whole steps
    scatter by; one more on a CPU is profiled, and says what it is spent on. Forecasts of a network
    whose layers were removed are timed beside those of one that never had any.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame.
        batch: clips in a step.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        tops: activations deactivated per sample; each is timed.
        precisions: "fp32", and "bf16" for autocast to bfloat16; each is timed.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: for a setting that makes no sense.
    """
    settings = dict(locals())
    shape = StepShape(hidden, side, batch, input_frames, lead_times)
    if not tops or min(tops) < 1 or max(tops) > shape.smallest_state:
        raise InputError(
            f"tops: found {list(tops)}, expected numbers from 1 to the {shape.smallest_state} "
            "activations of the smallest layer"
        )
    if not precisions:
        raise InputError("precisions: found none, expected fp32 or bf16")
    place = choose_device(device)
    gflop = shape.step_gflop()
    keep_freed_memory()
    rows: list[Row] = []
    calls: dict[str, list[float]] = {}
    layers: dict[str, memel.MEmeL] = {}
    operations: dict[str, dict[str, float]] = {}
    for precision in precisions:
        without = f"{precision}, without"
        steps = {without: _step(shape, place, precision, top=None)}
        clocks: dict[str, LayerClock] = {}
        for top in tops:
            name = f"{precision}, top {top}"
            steps[name] = _step(shape, place, precision, top)
            clocks[f"{name}, in the layers"] = LayerClock(_step(shape, place, precision, top))
        variants: dict[str, Callable[[], None]] = {**steps, **clocks}
        seconds = time_rounds(variants, repeats, warmup, f"training steps, {precision}")
        for name, step in steps.items():
            base = None if name == without else without
            rows.append(Row(name, seconds[name], gflop, "GFLOP", base, ceiling=precision))
            if base:
                layers = memel.inserted(step.network)
                steps_done = warmup + repeats
                calls[name] = [int(layer.calls) / steps_done for layer in layers.values()]
                if place.type == "cpu":
                    operations[name] = layer_operations(step)
        for name, clock in clocks.items():
            rows.append(Row(name, tuple(clock.seconds[warmup:]), clock.calls, "calls", without))
    rows += _forecasts_after_removal(shape, place, tops[0], repeats, warmup)
    facts: dict[str, Any] = {
        "GFLOP of a step": gflop,
        "layers": list(layers),
        "calls per step": calls,
    }
    if operations:
        facts["ms in the layers by operation, of a profiled step"] = operations
    return Report("memel", settings, tuple(rows), facts)


def _step(shape: StepShape, place: torch.device, precision: str, top: int | None) -> TrainingStep:
    network = _network(shape, place, top)
    return TrainingStep(network, network, shape, bf16=precision == "bf16")


def _network(shape: StepShape, place: torch.device, top: int | None) -> EncoderForecaster:
    """A network of the same weights each time, with layers that deactivate `top`, or without."""
    torch.manual_seed(0)
    network = EncoderForecaster(shape.network).to(place)
    if top is not None:
        memel.insert(network, HIDDEN_STATES, top=top, late_start=0)
    return network


def _forecasts_after_removal(
    shape: StepShape, place: torch.device, top: int, repeats: int, warmup: int
) -> list[Row]:
    never, removed = _network(shape, place, None), _network(shape, place, top)
    TrainingStep(removed, removed, shape, bf16=False)()
    memel.remove(removed)
    past, _, _ = shape.frames(place)

    def forecast(network: EncoderForecaster) -> None:
        network.forecast(past, shape.lead_times)
        wait_for(place)

    base, name = "forecast, never inserted", "forecast, after remove"
    variants = {base: partial(forecast, never), name: partial(forecast, removed)}
    seconds = time_rounds(variants, repeats, warmup, "forecasts")
    return [
        Row(base, seconds[base], shape.batch, "clips"),
        Row(name, seconds[name], shape.batch, "clips", compared_with=base),
    ]
