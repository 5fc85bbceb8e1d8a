"""Which dimensions of activations are neurons, and how the activations lie in memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Neurons = Literal["element", "channel", "last"]
Per = Literal["sample", "batch"]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Activations as (outer, neuron, inner), flat as they lie in memory, whatever their strides.

    Elementwise work and sums are several times faster on such views than over dimensions that
    memory has in another order (channels-last).

    Args:
        shape: of the activations, the sample first.
        order: all dimensions but the first, those that lie furthest apart in memory first.
        contiguous: whether that is their own order.
        rows: selections that are made.
        neuron_shape: the shape of a statistic of the neurons.
        outer: flat positions before the neurons, the samples among them.
        neurons: how many there are.
        inner: flat positions after the neurons, samples too.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    contiguous: bool
    rows: int
    neuron_shape: tuple[int, ...]
    outer: int
    neurons: int
    inner: int

    @property
    def samples(self) -> int:
        """Samples of each neuron."""
        return self.outer * self.inner

    def in_rows(self, z: Tensor) -> Tensor:
        """Activations as (row, column), a row for each selection; a view where memory allows."""
        return self._in_order(z).reshape(self.rows, -1)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo `in_rows`."""
        if self.contiguous:
            return rows.view(self.shape)
        in_order = rows.view(self.shape[0], *(self.shape[d] for d in self.order))
        return in_order.permute(0, *(self.order.index(d) + 1 for d in range(1, len(self.shape))))

    def in_grid(self, z: Tensor) -> Tensor:
        """Activations as (outer, neuron), or (outer, neuron, inner) where inner is above 1."""
        grid = (self.outer, self.neurons, *((self.inner,) if self.inner > 1 else ()))
        return self._in_order(z).reshape(grid)

    def beside_grid(self, flat: Tensor) -> Tensor:
        """A flat statistic in a shape that broadcasts to the grid."""
        return flat[:, None] if self.inner > 1 else flat

    def over_samples(self, grid: Tensor) -> Tensor:
        """Sum of a grid over the samples of each neuron, flat."""
        return grid.sum((0, 2)) if self.inner > 1 else grid.sum(0)

    def flat(self, statistic: Tensor) -> Tensor:
        """A statistic of the neurons, flat, as a view; it must lie as the activations do."""
        return self._statistic_in_order(statistic).view(-1)

    def fits(self, statistic: Tensor) -> bool:
        """Whether a statistic lies in memory as the activations do."""
        return self._statistic_in_order(statistic).is_contiguous()

    def statistic(self, values: Tensor) -> Tensor:
        """A copy of a statistic that lies in memory as the activations do."""
        in_order = self._statistic_in_order(values).clone(memory_format=torch.contiguous_format)
        if values.ndim == 1:
            return in_order
        return in_order.permute([self.order.index(d) for d in range(1, len(self.shape))])

    def neuron_at(self, columns: Tensor) -> Tensor:
        """Which neurons, counted flat as in `flat`, stand at columns of the rows."""
        if self.inner > 1:
            columns = columns // self.inner
        return columns if self.rows == self.outer else columns % self.neurons

    def _in_order(self, z: Tensor) -> Tensor:
        return z if self.contiguous else z.permute(0, *self.order)

    def _statistic_in_order(self, statistic: Tensor) -> Tensor:
        if statistic.ndim == 1 or self.contiguous:
            return statistic
        return statistic.permute([d - 1 for d in self.order])


def arrange(z: Tensor, neurons: Neurons, per: Per | None) -> Arrangement:
    """Arrangement of activations.

    Args:
        z: activations, the sample first.
        neurons: which dimensions are neurons.
        per: what a row is; None makes rows of the grid, whatever the samples.
    """
    if torch.compiler.is_compiling():
        return _arrange(tuple(z.shape), z.stride(), neurons, per)
    return _arrange_once(tuple(z.shape), z.stride(), neurons, per)


def _arrange(
    shape: tuple[int, ...], strides: tuple[int, ...], neurons: Neurons, per: Per | None
) -> Arrangement:
    order = tuple(sorted(range(1, len(shape)), key=lambda d: -strides[d]))
    if neurons == "element":
        neuron_shape, outer, inner = shape[1:], shape[0], 1
    else:
        dimension = 1 if neurons == "channel" else len(shape) - 1
        place = order.index(dimension)
        outer = shape[0] * _product(shape[d] for d in order[:place])
        neuron_shape = (shape[dimension],)
        inner = _product(shape[d] for d in order[place + 1 :])
    rows = {"sample": shape[0], "batch": 1, None: outer}[per]
    return Arrangement(
        shape,
        order,
        order == tuple(range(1, len(shape))),
        rows,
        neuron_shape,
        outer,
        _product(neuron_shape),
        inner,
    )


def _product(numbers: Iterable[int]) -> int:
    product = 1  # Not math.prod, which torch.compile does not trace.
    for number in numbers:
        product = product * number
    return product


_arrange_once = lru_cache(maxsize=1024)(_arrange)


def check_mask(mask: Tensor, z: Tensor, neurons: Neurons) -> None:
    """Refuse a padding mask that is not one of samples.

    Raises:
        ValueError: for a mask that is not bool, or whose shape is not that of leading dimensions of
            `z` that are samples.
    """
    most = z.ndim - 1 if neurons == "last" else 1
    if mask.dtype != torch.bool:
        raise ValueError(f"MEmeL: the mask is of {mask.dtype}, expected torch.bool, True = counts")
    if not 1 <= mask.ndim <= most or mask.shape != z.shape[: mask.ndim]:
        raise ValueError(
            f"MEmeL: the mask is of shape {tuple(mask.shape)}, expected the first 1 to {most} "
            f"dimensions of the activations {tuple(z.shape)}"
        )
