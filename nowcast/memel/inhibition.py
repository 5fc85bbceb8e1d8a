"""Which activations are inhibited, and how."""

from typing import Literal

from torch import Tensor

Per = Literal["sample", "batch"]


def most_monosemantic(phi: Tensor, top: int, per: Per) -> Tensor:
    """Positions of the activations with the largest monosemantic scale.

    Args:
        phi: monosemantic scale, first dimension the sample.
        top: how many are taken per selection (the paper's n_n).
        per: "sample" takes `top` in every sample (E.3); "batch" takes `top` in all (4.1.2).

    Returns:
        int64 (rows, top): positions in `phi` flattened from its second dimension on, a row for
        each sample; with "batch" one row, positions in the wholly flattened `phi`.
    """
    rows = phi.flatten(1) if per == "sample" else phi.reshape(1, -1)
    if top == 1:
        return rows.argmax(1, keepdim=True)
    return rows.topk(top, dim=1, sorted=False).indices


def deactivate(z: Tensor, selected: Tensor, mean: Tensor, delta: float | Tensor) -> Tensor:
    """Replace selected activations by their means, with a gradient of −Δ (Eqs. 10–12, E.3).

    z' = −Δ·z + (mean + Δ·z)_ng, where ng means without gradient. Δ = 1 is the paper's reverse
    deactivation, 0 its naive way (a), −1 its naive way (b); a larger Δ inhibits more strongly. The
    value is exactly the mean: the formula taken literally would be off by rounding.

    Args:
        z: activations, first dimension the sample.
        selected: positions as `most_monosemantic` returns them.
        mean: mean of each selected neuron, in the shape of `selected`.
        delta: Δ.

    Returns:
        z' in shape and dtype of `z`.
    """
    rows = z.reshape(selected.shape[0], -1)
    chosen = rows.gather(1, selected)
    # chosen − chosen.detach() is 0 in value and carries the gradient.
    replaced = mean.detach().to(z.dtype) - delta * (chosen - chosen.detach())
    return rows.scatter(1, selected, replaced).reshape(z.shape)
