"""Part adapters: a training step of BERT and Swin with MEmeL layers over one without."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal, get_args

import torch

from nowcast import memel
from nowcast.benchmarks.finetuning_step import FinetuningStep, LayersAlone, Model, Sizes
from nowcast.benchmarks.peak_memory import hand_back_freed_memory, own_peak_memory
from nowcast.benchmarks.report import Report, Row
from nowcast.benchmarks.rounds import time_rounds
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory

Precision = Literal["fp32", "bf16"]

MEMORY_STEPS = 3
"""Steps after which memory has its peak: the first makes the optimizer's moments, and from the
second on layers inhibit."""


def measure_adapters(
    models: tuple[Model, ...] = get_args(Model),
    sentences: int = 4,
    tokens: int = 128,
    images: int = 4,
    side: int = 224,
    top: int = 1,
    precisions: tuple[Precision, ...] = ("fp32",),
    repeats: int = 7,
    warmup: int = 1,
    device: str = "auto",
) -> Report:
    """Time finetuning steps of BERT and Swin with the paper's MEmeL layers and without.

    The models have their full size and random weights. A step is forward, cross-entropy, backward
    and AdamW. The layers inhibit from the second step on. They are timed by themselves, too,
    forward and backward on the same activations: their share of a step is far below what steps
    scatter by. The first of the models is timed after
    its layers were removed, too: its time ratio shows what the others' are known to.

    Args:
        models: which.
        sentences: in a step of BERT; their lengths are drawn, the rest is padding.
        tokens: of the longest sentence.
        images: in a step of Swin.
        side: pixels along each side of an image, a multiple of 32.
        top: activations deactivated per sentence or image in each layer.
        precisions: "fp32", and "bf16" for autocast to bfloat16; each is timed. Memory is that of
            the first.
        repeats: rounds that are timed.
        warmup: rounds before them that are not.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: for a setting that makes no sense, or where transformers or timm are missing.
    """
    settings = dict(locals())
    sizes = Sizes(sentences, tokens, images, side)
    if not models or not precisions:
        raise InputError("models, precisions: found none, expected at least one of each")
    if not 1 <= top <= 100:
        raise InputError(f"top: found {top}, expected 1 to 100")
    place = choose_device(device)
    keep_freed_memory()
    rows: list[Row] = []
    facts: dict[str, dict[str, Any]] = {}
    for model in models:
        first = model == models[0]
        for precision in precisions:
            timed = _time_steps(model, sizes, place, precision, top, repeats, warmup, first)
            rows += timed.pop("rows")
            if precision == precisions[0]:
                for name, fact in timed.items():
                    facts.setdefault(name, {})[model] = fact
            first = False
        memory = _memory(model, sizes, str(place), precisions[0], top)
        facts.setdefault(f"peak memory of training in {precisions[0]}, MB", {})[model] = memory
    return Report("adapters", settings, tuple(rows), facts)


def _time_steps(
    model: str,
    sizes: Sizes,
    place: torch.device,
    precision: Precision,
    top: int,
    repeats: int,
    warmup: int,
    removing: bool,
) -> dict[str, Any]:
    """Rows and facts of one model; its networks are gone when the next one's are made."""
    start = f"{model}, {precision}, "
    without = FinetuningStep(model, sizes, place, precision, None)
    inhibiting = FinetuningStep(model, sizes, place, precision, top)
    layers = list(memel.inserted(inhibiting.network))
    alone = LayersAlone(FinetuningStep(model, sizes, place, precision, top))
    steps: dict[str, Callable[[], None]] = {
        start + "without": without,
        start + "with MEmeL": inhibiting,
        start + "the layers alone": alone,
    }
    if removing:
        removed = FinetuningStep(model, sizes, place, precision, top)
        removed()
        memel.remove(removed.network)
        steps[start + "after remove"] = removed
    gflop = without.gflop()
    seconds = time_rounds(steps, repeats, warmup, f"steps of {model}, {precision}")
    rows = []
    for name, step in steps.items():
        base = None if step is without else start + "without"
        if step is alone:
            rows.append(Row(name, seconds[name], len(alone.calls), "calls", base))
        else:
            rows.append(Row(name, seconds[name], gflop, "GFLOP", base, ceiling=precision))
    return {
        "rows": rows,
        "parameters": sum(p.numel() for p in without.network.parameters()),
        "GFLOP of a step": gflop,
        "layers": layers,
    }


def _memory(
    model: str, sizes: Sizes, device: str, precision: str, top: int
) -> dict[str, float] | str:
    """Peak memory in MB with MEmeL layers and without, each in a process of its own."""
    peaks = {}
    for name, inhibited in (("without", None), ("with MEmeL", top)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            work = process.submit(train_a_little, model, sizes, device, precision, inhibited)
            peak = work.result()
        if peak is None:
            return "not known here"
        peaks[name] = peak / 1e6
    return {**peaks, "difference": peaks["with MEmeL"] - peaks["without"]}


def train_a_little(
    model: str, sizes: Sizes, device: str, precision: str, top: int | None
) -> int | None:
    """Take a few steps; the peak memory of the process in bytes, on a GPU that of the GPU.

    Args:
        model: see `FinetuningStep`, like the others.
        sizes: of what a step works on.
        device: where it runs.
        precision: "fp32" or "bf16".
        top: activations deactivated; None for no layers.

    Returns:
        None where the system does not tell.
    """
    hand_back_freed_memory()
    place = torch.device(device)
    step = FinetuningStep(model, sizes, place, precision, top)
    for _ in range(MEMORY_STEPS):
        step()
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place)
    return own_peak_memory()
