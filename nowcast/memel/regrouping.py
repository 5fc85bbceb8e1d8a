"""Putting the rows of one sample together, where a module is called with several of each.

Windowed attention (Swin) sees (batch · windows, token, feature), the windows of one image after one
another. Put together as (batch, windows · token, feature), what is a sample to the layer is one to
the model. Features are the neurons in both, with the same samples of each, in the same order: the
statistics stay what they are, to the last bit.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nowcast.memel.decision import in_backward
from nowcast.memel.layer import MEmeL


def inhibit_together(
    layer: MEmeL, inhibit: Callable[[Tensor], Tensor], z: Tensor, module: str
) -> Tensor:
    """What the layer makes of activations, the rows of one sample put together.

    Args:
        layer: which has been told how many samples the model's present call brings.
        inhibit: makes z' of z by that layer.
        z: activations (batch · rows, …, feature), the rows of one sample after one another.
        module: what returned them, for messages.

    Returns:
        z' in the shape of `z`.

    Raises:
        ValueError: if the rows are no multiple of the samples, or the module was called outside of
            the model's forward, so that nobody knows how many samples there are.
    """
    if layer.rests() or not z.numel():
        return inhibit(z)
    shape = _together(layer, z, module)
    return inhibit(z) if shape == z.shape else inhibit(z.reshape(shape)).reshape(z.shape)


def _together(layer: MEmeL, z: Tensor, module: str) -> tuple[int, ...]:
    """Shape of activations, the rows of one sample put together."""
    batch, rows = layer.batch, z.shape[0]
    if batch is None:
        # Activation checkpointing repeats a part of the model's forward after its end.
        if not torch.compiler.is_compiling() and in_backward():
            return layer.shape_of_repeated(z)
        raise ValueError(
            f"MEmeL: {module} was called outside of the model's forward, which tells how many "
            "samples the rows belong to; call the model that the layers were inserted into"
        )
    if rows == batch:
        return z.shape
    if not batch or rows % batch:
        raise ValueError(
            f"MEmeL: {module} returns {rows} rows in a call of the model with {batch} samples, "
            "expected a multiple"
        )
    return batch, z.numel() // (batch * z.shape[-1]), z.shape[-1]
