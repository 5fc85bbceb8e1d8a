"""The samples that a call brings: without padding, and over all processes."""

import torch
import torch.distributed as dist
from torch import Tensor

from nowcast.memel.arrangement import Arrangement


def deviations_of(z: Tensor, mean: Tensor, arrangement: Arrangement, mask: Tensor | None) -> Tensor:
    """Grid of z − mean in the precision of the statistics, 0 where a mask says so."""
    values, mean = arrangement.in_grid(z), arrangement.beside_grid(mean)
    same = values.dtype == mean.dtype
    deviations = values - mean if same else values.to(mean.dtype).sub_(mean)
    if mask is not None:
        deviations.masked_fill_(~arrangement.in_grid(over_activations(mask, z)), 0.0)
    return deviations


def over_activations(mask: Tensor, z: Tensor) -> Tensor:
    """A mask of samples over all activations."""
    return mask.reshape(*mask.shape, *[1] * (z.ndim - mask.ndim)).expand(z.shape)


def mean_of_samples(
    z: Tensor, near: Tensor, arrangement: Arrangement, mask: Tensor | None, all_processes: bool
) -> Tensor:
    """Mean of each neuron, flat; `near` is any value from which deviations are summed."""
    sums = arrangement.over_samples(deviations_of(z, near, arrangement, mask))
    samples = sums.new_full((1,), arrangement.samples)
    if mask is not None:
        samples = samples * mask.sum() / mask.numel()
    if all_processes:
        together = torch.cat([sums, samples])
        dist.all_reduce(together)
        sums, samples = together[:-1], together[-1:]
    return near + sums / samples.clamp_min(1)


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_processes(
    sums: Tensor, squares: Tensor, batch: int | Tensor, above: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Sums over all processes."""
    counts = [torch.as_tensor(n, device=sums.device) for n in (batch, above) if n is not None]
    # In double precision, which keeps counts exact.
    together = torch.cat([part.double().view(-1) for part in (sums, squares, *counts)])
    dist.all_reduce(together)
    sums, squares, numbers = together.split([len(sums), len(sums), len(counts)])
    dtype = squares.dtype
    return (
        sums.to(dtype),
        squares.to(dtype),
        numbers[0].round().long(),
        numbers[1] if len(counts) > 1 else None,
    )
