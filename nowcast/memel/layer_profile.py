"""What a monosemanticity profile says of a layer: the spread of φ in bins, and its neurons."""

import math
from dataclasses import dataclass

DECADES = (-6, 6)
BINS_PER_DECADE = 50
BINS = (DECADES[1] - DECADES[0]) * BINS_PER_DECADE
PHI_EDGES = tuple(10.0 ** (DECADES[0] + k / BINS_PER_DECADE) for k in range(BINS + 1))
"""Edges of the bins of φ, the same for all layers: from 10⁻⁶ to 10⁶, 50 in each decade."""


@dataclass(frozen=True)
class NeuronProfile:
    """One neuron.

    Args:
        index: which it is, in the shape of the neurons: (channel, y, x) of a ConvGRU's state where
            every element is a neuron.
        largest: its largest φ.
        selections: in how many selections it was the most monosemantic neuron.
    """

    index: tuple[int, ...]
    largest: float
    selections: int


@dataclass(frozen=True)
class LayerProfile:
    """How monosemantic the neurons of a layer are.

    A neuron that never varies counts with φ = 0.

    Args:
        neuron_shape: in which the neurons are indexed.
        samples: n, of each neuron, over all calls.
        calls: of the module.
        counts: activations by φ: below the first of `PHI_EDGES`, from each edge to the next, from
            the last on. They sum to neurons × samples.
        largest: largest φ of all.
        mean_square: mean of φ² over all activations. Of one neuron that is its kurtosis, the mean
            of (z − mean)⁴ over the square of its unbiased variance, but for ε; normally distributed
            neurons have 3 (n − 1)³ / (n² (n + 1)), which tends to 3.
        selections: how often the most monosemantic neuron of a sample was sought: once per sample
            and call.
        ever_selected: share of the neurons that were the most monosemantic one at least once.
        most_monosemantic: the neurons with the largest φ, that one first.
    """

    neuron_shape: tuple[int, ...]
    samples: int
    calls: int
    counts: tuple[int, ...]
    largest: float
    mean_square: float
    selections: int
    ever_selected: float
    most_monosemantic: tuple[NeuronProfile, ...]

    @property
    def neurons(self) -> int:
        """How many there are."""
        return math.prod(self.neuron_shape)

    @property
    def bound(self) -> float:
        """What no φ can exceed: (n − 1)² / n."""
        return (self.samples - 1) ** 2 / self.samples

    @property
    def survival(self) -> tuple[float, ...]:
        """Share of the activations whose φ is at least as large as each of `PHI_EDGES`."""
        above, total = 0, sum(self.counts)
        shares = []
        for count in reversed(self.counts[1:]):
            above += count
            shares.append(above / total)
        return tuple(reversed(shares))

    def quantile(self, probability: float) -> float:
        """The φ that this share of the activations does not exceed.

        It is interpolated within a bin, on a logarithmic scale, and so off by less than the width
        of one: 4.8 % (10⁻⁶ below the first edge).

        Args:
            probability: from 0 to 1.
        """
        rank = probability * sum(self.counts)
        lower = 0.0
        for count, upper in zip(self.counts, (*PHI_EDGES, math.inf), strict=True):
            if count and rank <= count:
                upper = min(upper, self.largest)
                part = rank / count
                return lower ** (1 - part) * upper**part if lower else upper * part
            rank -= count
            lower = upper
        return self.largest
