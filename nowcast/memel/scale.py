"""The monosemantic scale φ and the running statistics that it rests on."""

import torch
from torch import Tensor

from nowcast.memel.scalars import add_multiple, at_least


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
    mean known so far, and t = m + b, Lemma 3.2 reads

        mean + D / t    and    variance + (S − D² / t − b · variance) / (t − 1).

    In this form each activation is read once, and no digits are lost where the mean is large or
    where b is few of very many. Afterwards mean and variance are those of all t samples, to
    rounding.

    Args:
        mean: running mean of each neuron. Before the first samples: any value near theirs.
        variance: running unbiased variance of each neuron; 0 before the first samples.
        count: m, how many samples the running statistics stand for; 0 at first.
        deviations: D of each neuron. Overwritten.
        squares: S of each neuron. Overwritten.
        batch: b, how many samples the batch brings; where 0, nothing changes.
    """
    total = at_least(1, count + batch)
    if isinstance(total, Tensor):
        total = total.to(variance.dtype)  # Quotients of integers would be rounded to float32.
    # Additions and products, which everything around uses too: whatever is used here alone has to
    # be fetched into the processor's cache each time.
    add_multiple(mean, deviations, 1 / total)
    add_multiple(squares, deviations.mul_(deviations), -1 / total)
    add_multiple(squares, variance, -batch)
    add_multiple(variance, squares, 1 / at_least(1, total - 1))
