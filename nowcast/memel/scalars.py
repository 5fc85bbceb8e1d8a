"""Counts that are Python numbers on the CPU and tensors elsewhere.

On the CPU reading a tensor's value costs nothing, and numbers are far cheaper to compute with; on a
GPU it would wait for the device, and under torch.compile break the graph.
"""

from typing import Any

import torch
from torch import Tensor


def number(scalar: Tensor, eager: bool = True) -> int | Tensor:
    """The value of an integer tensor where reading it costs nothing; else the tensor.

    Args:
        scalar: a count.
        eager: whether the code runs as it stands; False where it is traced.
    """
    return int(scalar) if eager and scalar.is_cpu else scalar


def choose(condition: bool | Tensor, if_true: Any, if_false: Any) -> Any:
    """One of two, by a condition that may be a tensor."""
    if isinstance(condition, Tensor):
        return torch.where(condition, if_true, if_false)
    return if_true if condition else if_false


def at_least(least: int, number: float | Tensor) -> float | Tensor:
    """The number, or `least` if it is less."""
    return number.clamp_min(least) if isinstance(number, Tensor) else max(number, least)


def add_multiple(target: Tensor, values: Tensor, factor: float | Tensor) -> Tensor:
    """Add factor · values to a tensor, in place."""
    if isinstance(factor, Tensor):
        return target.addcmul_(values, factor)
    return target.add_(values, alpha=factor)
