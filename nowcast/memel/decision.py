"""What a call of the layer decided, kept for as long as that call may have to be repeated."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nowcast.memel.arrangement import Arrangement
from nowcast.memel.inhibition import deactivate

FINGERPRINT = 64
"""Activations of each row by which a repeated call is recognised."""


@dataclass(frozen=True, eq=False)
class Decision:
    """Which activations a call replaces, and by what.

    Args:
        arrangement: of the activations.
        selected: columns in each row, int64 (rows, top), or bool (rows, columns).
        mean: what is put there, in a shape that broadcasts to `selected`.
        delta: Δ.
        started: whether anything is replaced; a tensor where that is known on the device alone, or
            differs among the selected columns.
    """

    arrangement: Arrangement
    selected: Tensor
    mean: Tensor
    delta: float
    started: bool | Tensor = True

    def apply(self, z: Tensor, keep: object = None) -> Tensor:
        """Activations with the selected ones replaced; `keep` lives as long as their gradient."""
        if self.started is False and keep is None:
            return z
        mean: Tensor = self.mean
        delta: float | Tensor = self.delta
        if self.started is not True:
            # Without a branch on a tensor's value: z itself with Δ = −1 leaves all as it is.
            started = torch.as_tensor(self.started, device=z.device)
            unchanged = self.arrangement.in_rows(z.detach()).gather(1, self.selected)
            mean = torch.where(started, mean, unchanged)
            delta = torch.where(started, self.delta, -1.0)
        return deactivate(z, self.selected, mean, delta, self.arrangement, keep)

    def values(self, z: Tensor) -> Tensor:
        """The selected activations of `z`, flat."""
        rows = self.arrangement.in_rows(z)
        if self.selected.dtype == torch.bool:
            return rows[self.selected]
        return rows.gather(1, self.selected).flatten()

    def neurons(self) -> Tensor:
        """Neurons of the selected activations, counted as the statistics lie in memory."""
        columns = self.selected
        if columns.dtype == torch.bool:
            columns = columns.nonzero()[:, 1]
        return self.arrangement.neuron_at(columns).flatten()


@dataclass(frozen=True, eq=False)
class Kept:
    """A decision, and what to recognise its call by."""

    decision: Decision
    fingerprint: Tensor


class Decisions:
    """Decisions of calls that may be repeated, to be found again.

    Activation checkpointing calls a module a second time during the backward pass, on the same
    activations. That call must replace what the first replaced, though the statistics have moved
    on, and must not be counted. A decision lives as long as the gradient function of its call.
    """

    def __init__(self) -> None:
        self._kept: weakref.WeakValueDictionary[int, Kept] = weakref.WeakValueDictionary()
        self._next = 0
        self._repeated = -1

    def keep(self, decision: Decision, z: Tensor) -> Kept:
        """Remember what was decided for activations `z`, until what is returned is dropped."""
        kept = Kept(decision, _fingerprint(z.detach(), decision.arrangement))
        self._kept[self._next] = kept
        self._next += 1
        return kept

    def of(self, z: Tensor) -> Kept:
        """The decision of the earlier call that had the activations `z`.

        Raises:
            RuntimeError: if there was none.
        """
        # The call after the one repeated last is the likeliest; then the newest.
        order = [self._repeated + 1, *sorted(self._kept, reverse=True)]
        for same in (torch.equal, _nearly_equal):
            for number in order:
                kept = self._kept.get(number)
                if kept is None or kept.decision.arrangement.shape != tuple(z.shape):
                    continue
                if same(_fingerprint(z.detach(), kept.decision.arrangement), kept.fingerprint):
                    self._repeated = number
                    return kept
        raise RuntimeError(
            "MEmeL: called during backward with activations that no earlier call had; activation "
            "checkpointing works with use_reentrant=False"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Decisions":
        return Decisions()

    def __reduce__(self) -> tuple[Any, ...]:
        return Decisions, ()


def may_be_repeated(z: Tensor) -> bool:
    """Whether activation checkpointing may repeat the present call: what is saved is watched."""
    if torch.compiler.is_compiling() or not z.requires_grad or not torch.is_grad_enabled():
        return False
    watching = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return watching is None or watching(True) is not None


def in_backward() -> bool:
    """Whether the present call happens inside a backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _fingerprint(z: Tensor, arrangement: Arrangement) -> Tensor:
    rows = arrangement.in_rows(z)
    return rows[:, :: max(1, rows.shape[1] // FINGERPRINT)].clone()


def _nearly_equal(a: Tensor, b: Tensor) -> bool:
    # Some GPU kernels give other last digits each time.
    return torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-6)
