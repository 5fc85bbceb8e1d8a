"""The benchmark's training loss."""

from torch import Tensor

from nowcast.verification.weights import balanced_weights


def balanced_loss(prediction: Tensor, truth: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """B-MSE and B-MAE on the benchmark's scale (Shi et al., NeurIPS 2017, section 4.1).

    The weighted, masked *sum* over the pixels of a frame, averaged over lead times and clips. The
    paper's E.2 writes a mean over pixels; its published values are on this scale.

    Args:
        prediction: pixel values (batch, time, 1, y, x), unclipped.
        truth: pixel values in [0, 1], same shape.
        mask: True where a pixel counts, same shape.

    Returns:
        The two losses, scalars in the precision of `truth`.
    """
    weights = balanced_weights(truth) * mask
    error = prediction.to(truth.dtype) - truth
    frames = truth.shape[0] * truth.shape[1]
    weighted = weights * error
    return (weighted * error).sum() / frames, weighted.abs().sum() / frames
