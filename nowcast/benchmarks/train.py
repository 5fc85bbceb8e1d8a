"""Part train: a training step of the network beside the plain way of writing it."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Literal, get_args

import torch

from nowcast.benchmarks.own_process import own_processes
from nowcast.benchmarks.plain import plain_copy, plain_forward
from nowcast.benchmarks.report import Report, Row, ceiling_rows, with_ceilings
from nowcast.benchmarks.rounds import check_rounds, time_rounds
from nowcast.benchmarks.training_step import StepShape, TrainingStep, own_step
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.models.encoder_forecaster import EncoderForecaster

Variant = Literal[
    "plain fp32",
    "plain fp32, inputs at once",
    "plain fp32, memory kept",
    "ours fp32",
    "ours bf16",
    "ours fp32, recomputed",
    "ours bf16, recomputed",
]
PLAIN: Variant = "plain fp32"


def measure_training(
    hidden: tuple[int, ...] = (64, 192, 192),
    side: int = 120,
    batch: int = 4,
    input_frames: int = 5,
    lead_times: int = 20,
    variants: tuple[Variant, ...] = get_args(Variant),
    repeats: int = 5,
    warmup: int = 1,
    device: str = "auto",
    recompute_every: int = 5,
) -> Report:
    """Time a training step: plain float32, ours in float32, ours under bfloat16 autocast.

    All start from the same weights and see the same made-up frames, each in a process of its own.
    There the plain opponent has the C library as it comes, ours the memory settings of training on
    a CPU; a plain step with these settings shows what they give. Steps that compute activations
    again (activation checkpointing) are compared with the like that keep them.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame.
        batch: clips in a step.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        variants: which steps; those that keep freed memory keep their peak while others run, so
            that memory may not be enough for all at once.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda".
        recompute_every: frames between states that are kept where activations are recomputed.

    Returns:
        Seconds of the steps; as facts the peak memory of each variant's process, or on a GPU what
        it allocated there, how much of it came with the steps, and the losses in the last round,
        which show that all compute the same.

    Raises:
        InputError: for a setting that makes no sense.
        ChildProcessError: a step failed.
    """
    settings = dict(locals())
    shape = StepShape(hidden, side, batch, input_frames, lead_times)
    check_rounds(repeats, warmup)
    if not variants:
        raise InputError("variants: found none, expected at least one")
    if recompute_every < 1:
        raise InputError(f"recompute_every: found {recompute_every}, expected at least 1")
    place = choose_device(device)
    ours = partial(own_step, shape, place)
    gflop = shape.step_gflop()
    builds: dict[Variant, Callable[[], TrainingStep]] = {
        PLAIN: partial(plain_step, shape, place),
        "plain fp32, inputs at once": partial(plain_step, shape, place, inputs_at_once=True),
        "plain fp32, memory kept": partial(plain_step, shape, place, memory_kept=True),
        "ours fp32": partial(ours, bf16=False),
        "ours bf16": partial(ours, bf16=True),
        "ours fp32, recomputed": partial(ours, bf16=False, recompute_every=recompute_every),
        "ours bf16, recomputed": partial(ours, bf16=True, recompute_every=recompute_every),
    }
    with own_processes({name: builds[name] for name in variants}) as steps:
        before = {name: step.ask(TrainingStep.peak_memory) for name, step in steps.items()}
        timed = with_ceilings(steps, map(_precision, steps), place)
        seconds = time_rounds(timed, repeats, warmup, "training steps")
        losses = {name: step.ask(_loss) for name, step in steps.items()}
        peaks = {name: step.ask(TrainingStep.peak_memory) for name, step in steps.items()}
    rows = [
        Row(
            name,
            seconds[name],
            gflop,
            "GFLOP",
            compared_with=_opponent(name, seconds),
            ceiling=_precision(name),
        )
        for name in steps
    ]
    rows += ceiling_rows(timed, seconds)
    facts = {
        "GFLOP of a step": gflop,
        "loss of the last step": losses,
        "peak memory, MB": {name: _in_mb(peak) for name, peak in peaks.items()},
        "of it for the steps, MB": {
            name: _in_mb(peak and peak - (before[name] or 0)) for name, peak in peaks.items()
        },
    }
    return Report("train", settings, tuple(rows), facts)


def plain_step(
    shape: StepShape, device: torch.device, inputs_at_once: bool = False, memory_kept: bool = False
) -> TrainingStep:
    """The opponent's step, from the weights that `own_step` starts from.

    Args:
        shape: of the step.
        device: where it runs.
        inputs_at_once: see `plain_forward`.
        memory_kept: whether to give the process the memory settings that ours has.
    """
    if memory_kept:
        keep_freed_memory()
    torch.manual_seed(0)
    plain = plain_copy(EncoderForecaster(shape.network)).to(device)
    forward = partial(plain_forward, plain, inputs_at_once=inputs_at_once)
    return TrainingStep(plain, forward, shape, bf16=False, optimizer=torch.optim.Adam)


def _precision(variant: str) -> str:
    return "bf16" if "bf16" in variant else "fp32"


def _opponent(variant: str, among: Collection[str]) -> str | None:
    """What a variant is compared with, if that is there."""
    keeping = variant.removesuffix(", recomputed")
    opponent = keeping if keeping != variant else PLAIN
    return opponent if opponent != variant and opponent in among else None


def _loss(step: TrainingStep) -> float:
    return float(step.loss)


def _in_mb(peak: int | None) -> float | str:
    return "not known here" if peak is None else peak / 1e6
