"""The samples that a call brings: without padding, and over all processes."""

import torch
import torch.distributed as dist
from torch import Tensor

from nowcast.memel.arrangement import Arrangement

DISTRIBUTED = dist.is_available()
"""Whether this build of PyTorch knows several processes."""


def mean_of_samples(
    z: Tensor, dtype: torch.dtype, arrangement: Arrangement, mask: Tensor | None, together: bool
) -> Tensor:
    """Mean of each neuron, flat, in a precision; over all processes if `together`."""
    values = arrangement.in_grid(z).to(dtype)
    samples = values.new_full((1,), arrangement.samples)
    if mask is not None:
        values = torch.where(arrangement.mask_beside_grid(mask), values, 0.0)
        samples = samples * mask.sum() / mask.numel()
    sums = values.sum(arrangement.sample_dimensions)
    if together:
        parts = torch.cat([sums, samples])
        dist.all_reduce(parts)
        sums, samples = parts[:-1], parts[-1:]
    return sums / samples.clamp_min(1)


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    return DISTRIBUTED and dist.is_initialized() and dist.get_world_size() > 1


def over_processes(
    sums: Tensor, squares: Tensor, batch: int | Tensor, above: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Sums over all processes, in the precision they are given in."""
    dtype = squares.dtype
    counts = [torch.as_tensor(n, device=sums.device) for n in (batch, above) if n is not None]
    # In double precision, which keeps counts exact.
    together = torch.cat([part.double().view(-1) for part in (sums, squares, *counts)])
    dist.all_reduce(together)
    sums, squares, numbers = together.split([len(sums), len(sums), len(counts)])
    return (
        sums.to(dtype),
        squares.to(dtype),
        numbers[0].round().long(),
        numbers[1] if len(counts) > 1 else None,
    )
