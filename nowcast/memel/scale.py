"""The monosemantic scale φ and the running statistics that it rests on."""

import torch
from torch import Tensor


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
    denominator = variance + epsilon * variance.mean()
    limits = torch.finfo(denominator.dtype)
    phi = (z.to(denominator.dtype) - mean).square_().div_(denominator.clamp_min(limits.tiny))
    return phi.clamp_max_(limits.max)


def update_statistics(
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    batch_mean: Tensor,
    batch_variance: Tensor,
    batch: int,
) -> None:
    """Take a batch into the running mean and variance, in place (Lemma 3.2, Eqs. 8 and 9).

    Afterwards mean and variance are those of all `count + batch` samples, to rounding.

    Args:
        mean: running mean of each neuron.
        variance: running unbiased variance of each neuron.
        count: how many samples the running statistics stand for, a scalar tensor; 0 at first.
        batch_mean: mean of each neuron over the batch.
        batch_variance: its *biased* variance over the batch (divided by `batch`).
        batch: how many samples the batch brings.
    """
    known = count.double()
    total = known + batch
    freedom = (total - 1).clamp_min(1)
    shift = batch_mean - mean
    dtype = mean.dtype
    between = (known * batch / (freedom * total)).to(dtype)
    variance.mul_(((known - 1).clamp_min(0) / freedom).to(dtype))
    variance.add_(batch_variance * (batch / freedom).to(dtype))
    variance.add_(between * shift.square())
    mean.add_(shift * (batch / total).to(dtype))
