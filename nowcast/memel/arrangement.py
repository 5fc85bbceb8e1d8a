"""Which dimensions of activations are neurons, and how the activations lie in memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Neurons = Literal["element", "channel", "last"]
Per = Literal["sample", "batch"]
Layout = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Activations as (outer, neuron, inner), flat as they lie in memory, whatever their strides.

    Elementwise work and sums are several times faster on such views than over dimensions that
    memory has in another order (channels-last).

    Args:
        shape: of the activations, the sample first.
        strides: of the activations, or of a copy without gaps where they have some.
        rows: selections that are made.
        neuron_shape: the shape of a statistic of the neurons.
        neuron_strides: of a statistic that lies in memory as the activations do.
        outer: flat positions before the neurons, the samples among them.
        neurons: how many there are.
        inner: flat positions after the neurons, samples too.
        row_layout: shape and strides as (row, column).
        grid_layout: shape and strides as (outer, neuron), or (outer, neuron, inner) where inner is
            above 1.
        flat_layout: shape and strides of a statistic that broadcasts to the grid.
        sample_dimensions: of the grid.
        order: dimensions of the activations as they lie in memory, the sample first.
        samples_shape: of the activations, 1 in place of the neurons.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rows: int
    neuron_shape: tuple[int, ...]
    neuron_strides: tuple[int, ...]
    outer: int
    neurons: int
    inner: int
    row_layout: Layout
    grid_layout: Layout
    flat_layout: Layout
    sample_dimensions: tuple[int, ...]
    order: tuple[int, ...]
    samples_shape: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Samples of each neuron."""
        return self.outer * self.inner

    def in_rows(self, z: Tensor) -> Tensor:
        """Activations as (row, column), a row for each selection; a view where memory allows."""
        return self._without_gaps(z).as_strided(*self.row_layout)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo `in_rows`."""
        return rows.as_strided(self.shape, self.strides)

    def in_grid(self, z: Tensor) -> Tensor:
        """Activations as a grid; a view where memory allows."""
        return self._without_gaps(z).as_strided(*self.grid_layout)

    def beside_grid(self, flat: Tensor) -> Tensor:
        """A flat statistic in a shape that broadcasts to the grid."""
        return flat.view(self.flat_layout[0])

    def mask_beside_grid(self, mask: Tensor) -> Tensor:
        """A mask of samples (`check_mask`) in a shape that broadcasts to the grid."""
        missing = (1,) * (len(self.shape) - mask.ndim)
        samples = mask.reshape(*mask.shape, *missing).expand(self.samples_shape)
        sizes = (self.outer, 1, self.inner) if self.inner > 1 else (self.outer, 1)
        return samples.permute(self.order).reshape(sizes)

    def over_samples(self, grid: Tensor) -> Tensor:
        """Sum of a grid over the samples of each neuron, flat."""
        return grid.sum(self.sample_dimensions)

    def flat(self, statistic: Tensor) -> Tensor:
        """A statistic of the neurons, flat, as a view; it must lie as the activations do."""
        return statistic.as_strided((self.neurons,), (1,))

    def statistic(self, values: Tensor) -> Tensor:
        """A copy of a statistic that lies in memory as the activations do."""
        return torch.empty_strided(
            self.neuron_shape, self.neuron_strides, dtype=values.dtype, device=values.device
        ).copy_(values)

    def neuron_at(self, columns: Tensor) -> Tensor:
        """Which neurons, counted flat as in `flat`, stand at columns of the rows."""
        if self.inner > 1:
            columns = columns // self.inner
        return columns if self.rows == self.outer else columns % self.neurons

    def _without_gaps(self, z: Tensor) -> Tensor:
        if z.stride() == self.strides:
            return z
        dense = torch.empty_strided(self.shape, self.strides, dtype=z.dtype, device=z.device)
        return dense.copy_(z)


def arrange(z: Tensor, neurons: Neurons, per: Per | None, eager: bool = True) -> Arrangement:
    """Arrangement of activations.

    Args:
        z: activations, the sample first.
        neurons: which dimensions are neurons.
        per: what a row is; None makes rows of the grid, whatever the samples.
        eager: look an earlier result up; not where the code is traced.
    """
    make = _arrange_once if eager else _arrange
    return make(tuple(z.shape), z.stride(), neurons, per)


def _arrange(
    shape: tuple[int, ...], strides: tuple[int, ...], neurons: Neurons, per: Per | None
) -> Arrangement:
    if len(shape) < 2:
        raise ValueError(
            f"MEmeL: activations are of shape {shape}, expected samples and at least one dimension "
            "of neurons"
        )
    # The sample first; the other dimensions that lie furthest apart in memory first.
    order = [0, *sorted(range(1, len(shape)), key=lambda d: -strides[d])]
    dense = _dense(shape, order)
    if neurons == "element":
        neuron_shape, outer, inner = shape[1:], shape[0], 1
        neuron_strides = dense[1:]
        samples_shape = (shape[0], *[1] * len(neuron_shape))
    else:
        dimension = 1 if neurons == "channel" else len(shape) - 1
        place = order.index(dimension)
        neuron_shape, neuron_strides = (shape[dimension],), (1,)
        outer = _product([shape[d] for d in order[:place]])
        inner = _product([shape[d] for d in order[place + 1 :]])
        samples_shape = (*shape[:dimension], 1, *shape[dimension + 1 :])
    count = _product(neuron_shape)
    rows = {"sample": shape[0], "batch": 1, None: outer}[per]
    columns = outer * count * inner // rows if rows else 0
    grid = (outer, count, inner) if inner > 1 else (outer, count)
    return Arrangement(
        shape,
        dense,
        rows,
        neuron_shape,
        neuron_strides,
        outer,
        count,
        inner,
        ((rows, columns), (columns, 1)),
        (grid, _dense(grid, list(range(len(grid))))),
        ((count, 1), (1, 1)) if inner > 1 else ((count,), (1,)),
        (0, 2) if inner > 1 else (0,),
        tuple(order),
        samples_shape,
    )


def _dense(shape: tuple[int, ...], order: list[int]) -> tuple[int, ...]:
    """Strides without gaps, dimensions in this order."""
    strides = [1] * len(shape)
    step = 1
    for dimension in reversed(order):
        strides[dimension] = step
        step = step * shape[dimension]
    return tuple(strides)


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
