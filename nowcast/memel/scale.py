"""The monosemantic scale φ and the running statistics that it rests on."""

import torch
from torch import Tensor

from nowcast.memel.scalars import at_least


def monosemantic_scale(z: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """Monosemantic scale φ of every activation (Definition 3.1 with the compensation of D.2).

    φ = (z − mean)² / (variance + ε · average of the variances over all neurons of the layer).

    Args:
        z: activations.
        mean: mean of each neuron over *earlier* samples, broadcastable to `z`.
        variance: unbiased variance of each neuron over the same samples, likewise.
        epsilon: variance compensation; keeps φ of nearly constant neurons from overflowing.

    Returns:
        φ in the shape of `z`, in the precision of the statistics, always finite: where all
        variances are 0, a neuron at its mean has φ = 0 and any other a very large one.
    """
    squares = (z.to(variance.dtype) - mean).square_()
    return squares.div_(compensated(variance, epsilon)).clamp_max_(torch.finfo(squares.dtype).max)


def compensated(variance: Tensor, epsilon: float) -> Tensor:
    """Denominator of φ: each neuron's variance + ε · their average (D.2), never 0."""
    denominator = torch.add(variance, variance.sum(), alpha=epsilon / variance.numel())
    return denominator.clamp_min_(torch.finfo(variance.dtype).tiny)


def update_statistics(
    mean: Tensor,
    variance: Tensor,
    count: int | Tensor,
    deviations: Tensor,
    squares: Tensor,
    batch: int | Tensor,
) -> None:
    """Take a batch into the running mean and variance, in place (Lemma 3.2, Eqs. 8 and 9).

    With m samples known and b new ones, of which D = Σ (z − mean) and S = Σ (z − mean)² about the
    mean known so far, Lemma 3.2 reads

        mean + D / (m + b)    and    ((m − 1) · variance + S − D² / (m + b)) / (m + b − 1).

    In this form each activation is read once, and no digits are lost where the mean is large.
    Afterwards mean and variance are those of all m + b samples, to rounding.

    Args:
        mean: running mean of each neuron. Before the first samples: any value near theirs.
        variance: running unbiased variance of each neuron; 0 before the first samples.
        count: m, how many samples the running statistics stand for; 0 at first.
        deviations: D of each neuron.
        squares: S of each neuron. Overwritten.
        batch: b, how many samples the batch brings; where 0, nothing changes.
    """
    total = count + batch
    weight: float | Tensor
    if isinstance(total, Tensor):
        total = total.clamp_min(1)
        # A quotient of integer tensors would be rounded to float32.
        weight = batch / (total - 1).clamp_min(1).to(variance.dtype)
    else:
        weight = batch / max(total - 1, 1)
    shift = deviations / total
    squares.addcmul_(deviations, shift, value=-1.0).div_(at_least(1, batch))
    mean.add_(shift)
    # (m − 1) / (m + b − 1) is 1 − b / (m + b − 1), for m = 0 too: its variance is 0.
    variance.lerp_(squares, weight)
