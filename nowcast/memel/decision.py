"""What a call of the layer decided, kept for as long as that call may have to be repeated."""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

from nowcast.memel.arrangement import Arrangement
from nowcast.memel.inhibition import Deactivate

_backward_number = torch._C._current_graph_task_id
_saved_tensors_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)

FINGERPRINT = 64
"""Activations of each row by which a repeated call is recognised."""


@dataclass(slots=True, eq=False)  # Not frozen, which takes five times as long to make.
class Decision:
    """Which activations a call replaces, and by what.

    Args:
        arrangement: of the activations.
        selected: columns in each row, int64 (rows, top), or bool (rows, columns).
        mean: what is put there, in the dtype of the activations; broadcasts to `selected`.
        delta: Δ.
        started: whether anything is replaced; a tensor where that is known on the device alone, or
            differs among the selected columns.
        counts: which of the selected columns are no padding; all where None.
    """

    arrangement: Arrangement
    selected: Tensor
    mean: Tensor
    delta: float
    started: bool | Tensor = True
    counts: Tensor | None = None

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
            delta = torch.where(started, z.new_full((), self.delta), -1.0)
        out: Tensor = Deactivate.apply(z, self.selected, mean, delta, self.arrangement, keep)
        return out

    def values(self, z: Tensor) -> Tensor:
        """The selected activations of `z`, flat."""
        rows = self.arrangement.in_rows(z)
        if self.selected.dtype == torch.bool:
            return rows[self.selected]
        return self._counting(rows.gather(1, self.selected))

    def neurons(self) -> Tensor:
        """Neurons of the selected activations, counted as the statistics lie in memory."""
        columns = self.selected
        if columns.dtype == torch.bool:
            columns = columns.nonzero()[:, 1]
            return self.arrangement.neuron_at(columns)
        return self._counting(self.arrangement.neuron_at(columns))

    def _counting(self, values: Tensor) -> Tensor:
        return values.flatten() if self.counts is None else values[self.counts]


@dataclass(frozen=True, eq=False)
class Kept:
    """A decision, and what to recognise its call by.

    Args:
        decision: what was decided.
        fingerprint: some of the call's activations.
        first: number of the first call in the same checkpoint.
    """

    decision: Decision
    fingerprint: Tensor
    first: int


class Decisions:
    """Decisions of calls that may be repeated, to be found again.

    Activation checkpointing calls a module a second time during the backward pass, on the same
    activations. That call must replace what the first replaced, though the statistics have moved
    on, and must not be counted. A decision lives as long as the gradient function of its call; that
    of activations without gradient as long as the checkpoint that may repeat it.
    """

    def __init__(self) -> None:
        self._kept: weakref.WeakValueDictionary[int, Kept] = weakref.WeakValueDictionary()
        self._firsts: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._of_checkpoints: weakref.WeakKeyDictionary[Any, list[Kept]] = (
            weakref.WeakKeyDictionary()
        )
        self._next = 0
        self._backward = -1
        self._repeated: set[int] = set()

    def keep(self, decision: Decision, z: Tensor, watcher: Any) -> Kept:
        """Remember what was decided for activations `z`, until what is returned is dropped.

        Args:
            decision: what was decided.
            z: activations.
            watcher: what `watcher` gives.
        """
        first = self._firsts.setdefault(watcher, self._next)
        kept = Kept(decision, _fingerprint(z.detach(), decision.arrangement), first)
        self._kept[self._next] = kept
        self._next += 1
        has_gradient = z.requires_grad and torch.is_grad_enabled()
        if not has_gradient and watcher.__module__ == torch.utils.checkpoint.__name__:
            self._of_checkpoints.setdefault(watcher, []).append(kept)
        return kept

    def of(self, z: Tensor) -> Kept:
        """The decision of the earlier call that had the activations `z`.

        Where several had, each is repeated once in a backward pass: checkpoints from the last to
        the first, the calls in each in their order.

        Raises:
            RuntimeError: if there was none.
        """
        number, kept = self._earlier(z, lambda shape: shape == tuple(z.shape))
        self._repeated.add(number)
        return kept

    def shape_of(self, z: Tensor) -> tuple[int, ...]:
        """Shape in which `of` knows activations whose rows may have been put together.

        Args:
            z: the same activations, each row for itself.

        Raises:
            RuntimeError: if no earlier call had them.
        """

        def fits(shape: tuple[int, ...]) -> bool:
            same = shape[-1] == z.shape[-1] and z.shape[0] % shape[0] == 0
            return same and math.prod(shape) == z.numel()

        return self._earlier(z, fits)[1].decision.arrangement.shape

    def _earlier(self, z: Tensor, fits: Callable[[tuple[int, ...]], bool]) -> tuple[int, Kept]:
        """Number and decision of the earlier call, with a shape that fits, whose z this is."""
        backward = _backward_number()
        if backward != self._backward:
            self._backward, self._repeated = backward, set()
        order = sorted(
            self._kept.items(),
            key=lambda item: (item[0] in self._repeated, -item[1].first, item[0]),
        )
        for same in (torch.equal, _nearly_equal):
            for number, kept in order:
                arrangement = kept.decision.arrangement
                if not fits(arrangement.shape):
                    continue
                rows = z.detach().reshape(arrangement.shape)
                if same(_fingerprint(rows, arrangement), kept.fingerprint):
                    return number, kept
        raise RuntimeError(
            "MEmeL: called during backward with activations that no earlier call had; activation "
            "checkpointing works with use_reentrant=False"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Decisions":
        return Decisions()

    def __reduce__(self) -> tuple[Any, ...]:
        return Decisions, ()


def watcher() -> Any:
    """What watches the tensors saved for backward, as activation checkpointing does, or None.

    Where there is one, the present call may be repeated. Each checkpoint has its own.
    """
    if _saved_tensors_hooks is None:
        return watcher
    hooks = _saved_tensors_hooks(True)
    return hooks and hooks[1]


def in_backward() -> bool:
    """Whether the present call happens inside a backward pass."""
    return _backward_number() != -1


def _fingerprint(z: Tensor, arrangement: Arrangement) -> Tensor:
    rows = arrangement.in_rows(z)
    return rows[:, :: max(1, rows.shape[1] // FINGERPRINT)].clone()


def _nearly_equal(a: Tensor, b: Tensor) -> bool:
    # Some GPU kernels give other last digits each time; padding may be no number.
    return torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-6, equal_nan=True)
