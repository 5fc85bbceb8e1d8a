"""A sequence in parts, for the memory that the activations of all of it would take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

WITHOUT_GRADIENT = 5
"""Frames of a part in evaluation without gradient: so few that little memory is taken, so many that
convolutions of small grids are still of several frames."""


@dataclass(frozen=True)
class Parts:
    """How a network goes through a sequence.

    Args:
        length: frames of a part; None for all at once.
        again: whether activations within a part are computed again for the gradient.
    """

    length: int | None
    again: bool

    @classmethod
    def of(cls, recompute_every: int, training: bool) -> "Parts":
        """What to do now, with gradient or without; see `Network.recompute`.

        In training a step that is repeated without gradient goes through the same parts.
        """
        gradient = torch.is_grad_enabled()
        if not training and not gradient:
            return cls(WITHOUT_GRADIENT, again=False)
        return cls(recompute_every or None, again=gradient and recompute_every > 0)

    def of_sequence(self, x: Tensor) -> Sequence[Tensor]:
        """Parts of (time, …)."""
        return x.split(self.lengths(len(x)))

    def lengths(self, frames: int) -> list[int]:
        """Of the parts of a sequence of so many frames."""
        length = self.length or frames
        return [min(length, frames - start) for start in range(0, frames, length)]

    def run(self, function: Callable[..., Any], *arguments: Any, last: bool = False) -> Any:
        """Call a function for a part.

        What the `last` part keeps takes no more memory than computing it again would: its backward
        pass is the first.
        """
        if last or not self.again:
            return function(*arguments)
        # Nothing in the networks is random.
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
