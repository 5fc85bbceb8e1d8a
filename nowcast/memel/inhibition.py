"""Which activations are inhibited, and how.

Both functions take activations as rows, one for each selection: (sample, activation) to select in
every sample, (1, all activations) to select in the whole batch.
"""

from typing import Any

import torch
from torch import Tensor


def most_monosemantic(phi: Tensor, top: int) -> Tensor:
    """Columns of the `top` largest monosemantic scales of each row, int64 (rows, top).

    Args:
        phi: monosemantic scale (rows, columns).
        top: how many are taken in each row (the paper's n_n, E.3).
    """
    if top == 1:
        return phi.argmax(1, keepdim=True)
    return phi.topk(top, dim=1, sorted=False).indices


def deactivate(z: Tensor, selected: Tensor, mean: Tensor, delta: float | Tensor) -> Tensor:
    """Replace selected activations by their means, with a gradient of −Δ (Eqs. 10–12, E.3).

    z' = −Δ·z + (mean + Δ·z)_ng, where ng means without gradient. Δ = 1 is the paper's reverse
    deactivation, 0 its naive way (a), −1 its naive way (b); a larger Δ inhibits more strongly. The
    value is exactly the mean: the formula taken literally would be off by rounding.

    Args:
        z: activations (rows, columns).
        selected: columns to replace in each row, as `most_monosemantic` gives them.
        mean: mean of each selected neuron, in the shape of `selected`.
        delta: Δ, a number or a scalar tensor.

    Returns:
        z' in shape and dtype of `z`.
    """
    delta = torch.as_tensor(delta, dtype=z.dtype, device=z.device)
    return _Deactivate.apply(z, selected, mean.to(z.dtype), delta)


class _Deactivate(torch.autograd.Function):
    """Written out, because autograd's own way through gather and scatter reads z four times."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, selected: Tensor, mean: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(selected, delta)
        return z.scatter(1, selected, mean)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        selected, delta = ctx.saved_tensors
        return (
            gradient.scatter(1, selected, -delta * gradient.gather(1, selected)),
            None,
            None,
            None,
        )
