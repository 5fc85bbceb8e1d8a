"""Which activations are inhibited, and how.

Activations are taken as rows, one for each selection: (sample, activation) to select in every
sample, (1, all activations) to select in the whole batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from nowcast.memel.arrangement import Arrangement

GROUP = 16
"""Activations that are compared at once in long rows, by measurement on CPUs."""

LONG = 2**14
"""From so many columns on, groups are faster."""


def most_monosemantic(phi: Tensor, top: int) -> Tensor:
    """Columns of the `top` largest monosemantic scales of each row, int64 (rows, top).

    Args:
        phi: monosemantic scale (rows, columns).
        top: how many are taken in each row (the paper's n_n, E.3).
    """
    if top == 1 and _numpy_reads(phi):
        # Two to ten times as fast as PyTorch's own, by measurement.
        return torch.from_numpy(phi.numpy().argmax(1, keepdims=True))
    columns = phi.shape[1]
    groups = columns // GROUP
    if columns < LONG or groups < top:
        return phi.argmax(1, keepdim=True) if top == 1 else _largest(phi, top)
    # The `top` largest lie in the `top` groups whose maxima are largest: one fast pass for the
    # maxima leaves few candidates. Group g holds the columns g, g + groups, g + 2 · groups, …
    # What does not fill a whole group is a candidate anyway.
    full = GROUP * groups
    best = _largest(phi[:, :full].unflatten(1, (GROUP, groups)).amax(1), top)
    starts = torch.arange(0, full, groups, device=phi.device)
    candidates = (best[:, None, :] + starts[:, None]).flatten(1)
    if full < columns:
        rest = torch.arange(full, columns, device=phi.device)
        candidates = torch.cat([candidates, rest.expand(len(phi), -1)], 1)
    return candidates.gather(1, _largest(phi.gather(1, candidates), top))


def _numpy_reads(phi: Tensor) -> bool:
    known = phi.dtype in (torch.float32, torch.float64)
    return phi.is_cpu and known and not (phi.requires_grad or is_compiling())


def _largest(values: Tensor, top: int) -> Tensor:
    if top == 1:
        return values.argmax(1, keepdim=True)
    return values.topk(top, dim=1, sorted=False).indices


def deactivate(
    z: Tensor,
    selected: Tensor,
    mean: Tensor,
    delta: float | Tensor,
    arrangement: Arrangement | None = None,
    keep: object = None,
) -> Tensor:
    """Replace selected activations by their means, with a gradient of −Δ (Eqs. 10–12, E.3).

    z' = −Δ·z + (mean + Δ·z)_ng, where ng means without gradient. Δ = 1 is the paper's reverse
    deactivation, 0 its naive way (a), −1 its naive way (b); a larger Δ inhibits more strongly. The
    value is exactly the mean: the formula taken literally would be off by rounding.

    Args:
        z: activations (rows, columns), or of any shape where an `arrangement` makes rows of them.
        selected: columns to replace in each row, as `most_monosemantic` gives them; or True where
            to replace (rows, columns).
        mean: what to put there, in the shape of `selected`.
        delta: Δ, a number or a tensor that broadcasts to `selected`.
        arrangement: how `z` becomes rows.
        keep: lives as long as the gradient can be asked for.

    Returns:
        z' in shape and dtype of `z`.
    """
    if isinstance(delta, Tensor):
        delta = delta.to(z.dtype)
    replaced: Tensor = Deactivate.apply(z, selected, mean.to(z.dtype), delta, arrangement, keep)
    return replaced


class Deactivate(torch.autograd.Function):
    """What `deactivate` does, its arguments of one dtype.

    Written out, because autograd's own way through gather and scatter reads z four times.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        selected: Tensor,
        mean: Tensor,
        delta: Tensor | float,
        arrangement: Arrangement | None,
        keep: object,
    ) -> Tensor:
        """The modified activations."""
        rows = arrangement.in_rows(z) if arrangement else z
        columns: Tensor | None
        if selected.dtype == torch.bool:
            ctx.save_for_backward(selected)
            columns, replaced = None, torch.where(selected, mean, rows)
        else:  # So few that to save them costs more than it could spare.
            columns, replaced = selected, rows.scatter(1, selected, mean)
        ctx.kept = arrangement, delta, keep, columns
        return arrangement.from_rows(replaced) if arrangement else replaced

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the activations from that of the modified ones."""
        arrangement, delta, _, columns = ctx.kept
        rows = arrangement.in_rows(gradients[0]) if arrangement else gradients[0]
        if columns is None:
            (selected,) = ctx.saved_tensors
            rows = torch.where(selected, -delta * rows, rows)
        elif isinstance(delta, Tensor) or torch.is_grad_enabled():
            rows = rows.scatter(1, columns, -delta * rows.gather(1, columns))
        else:  # The same in one call, of which autograd knows no gradient.
            rows = rows.scatter(1, columns, -delta, reduce="multiply")
        return arrangement.from_rows(rows) if arrangement else rows, None, None, None, None, None
