"""What a training step's MEmeL layers spend their time on, by PyTorch's profiler."""

import os
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent

from nowcast import memel
from nowcast.benchmarks.training_step import TrainingStep

MARK = "a MEmeL layer"
BACKWARD = "DeactivateBackward"
"""Name of the layers' gradient function in a profile."""

BETWEEN = "between operations"
"""Python, dispatching, and NumPy where the layers use it."""

LARGEST = 8


def layer_operations(step: TrainingStep) -> dict[str, float]:
    """Milliseconds of a CPU step's layers, forward and backward, by what they are spent on.

    What the profiler itself takes is counted too, mostly between operations: shares say more than
    sums.

    Args:
        step: whose network has layers; it is taken once.

    Returns:
        Time between operations and in the operations that take most, then all others together.
    """
    marks: list[Any] = []

    def enter(layer: nn.Module, args: tuple[Any, ...]) -> None:
        marks.append(torch.profiler.record_function(MARK))
        marks[-1].__enter__()

    def leave(*_: Any) -> None:
        marks.pop().__exit__(None, None, None)

    hooks = [
        hook
        for layer in memel.inserted(step.network).values()
        for hook in (layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave))
    ]
    # Lines of its own on standard error, of GPUs that are not there.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            step()
    finally:
        for hook in hooks:
            hook.remove()
    spent: Counter[str] = Counter()
    for event in profile.events() or ():
        if event.name in (MARK, BACKWARD):
            _add(event, spent)
    between = spent.pop(BETWEEN, 0.0)
    largest = dict(spent.most_common(LARGEST))
    others = sum(spent.values()) - sum(largest.values())
    return {BETWEEN: between, **largest, "others": others}


def _add(event: FunctionEvent, spent: Counter[str]) -> None:
    """Add an event's own time and, by their names, that of what it calls."""
    kind, _, operation = event.name.partition("::")
    spent[operation if kind == "aten" else BETWEEN] += event.self_cpu_time_total / 1000
    for called in event.cpu_children:
        _add(called, spent)
