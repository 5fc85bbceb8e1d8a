"""Part train: a training step of the network beside the plain way of writing it."""

from functools import partial

import torch

from nowcast.benchmarks.plain import plain_copy, plain_forward
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.benchmarks.training_step import StepShape, TrainingStep
from nowcast.device import choose_device
from nowcast.memory import keep_freed_memory
from nowcast.models.encoder_forecaster import EncoderForecaster

PLAIN = "plain fp32"


def measure_training(
    hidden: tuple[int, ...] = (64, 192, 192),
    side: int = 120,
    batch: int = 4,
    input_frames: int = 5,
    lead_times: int = 20,
    repeats: int = 5,
    warmup: int = 1,
    device: str = "auto",
) -> Report:
    """Time a training step: plain float32, ours in float32, ours under bfloat16 autocast.

    All start from the same weights and see the same made-up frames. The memory settings of training
    on a CPU are those of the whole process, so the plain opponent has them too.

    Args:
        hidden: channels of the ConvGRU states, finest level first; the convolutions between levels
            have as many, the finest 8.
        side: pixels along each side of a frame.
        batch: clips in a step.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: for a setting that makes no sense.
    """
    settings = dict(locals())
    shape = StepShape(hidden, side, batch, input_frames, lead_times)
    place = choose_device(device)
    gflop = shape.step_gflop()
    keep_freed_memory()
    torch.manual_seed(0)
    network = EncoderForecaster(shape.network).to(place)
    steps = {}
    for name, inputs_at_once in ((PLAIN, False), ("plain fp32, inputs at once", True)):
        plain = plain_copy(network)
        forward = partial(plain_forward, plain, inputs_at_once=inputs_at_once)
        steps[name] = TrainingStep(plain, forward, shape, bf16=False)
    for name, bf16 in (("ours fp32", False), ("ours bf16", True)):
        own = EncoderForecaster(shape.network).to(place)
        own.load_state_dict(network.state_dict())
        steps[name] = TrainingStep(own, own, shape, bf16=bf16)
    seconds = time_rounds(steps, repeats, warmup, "training steps")
    rows = [
        Row(
            name,
            seconds[name],
            gflop,
            "GFLOP",
            compared_with=None if name == PLAIN else PLAIN,
            ceiling="bf16" if step.bf16 else "fp32",
        )
        for name, step in steps.items()
    ]
    return Report("train", settings, tuple(rows), {"GFLOP of a step": gflop})
