"""The paper's ways to inhibit, as settings of the layer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nowcast.memel.arrangement import Neurons


@dataclass(frozen=True)
class Inhibition:
    """What is inhibited while a network is trained.

    Args:
        top: activations deactivated per sample and layer (n_n).
        delta: 1 is reverse deactivation, 0 naive (a), −1 naive (b) (E.3).
        late_start: calls of a layer that only collect statistics (l_s); None is as in all layers.
        neurons: what a neuron is; None is as in all layers.
    """

    top: int = 1
    delta: float = 1.0
    late_start: int | None = None
    neurons: Neurons | None = None

    def __str__(self) -> str:
        late = "" if self.late_start is None else f", late start {self.late_start:,}"
        neurons = "" if self.neurons is None else f", a neuron every {self.neurons}"
        return f"top {self.top}, Δ {self.delta:g}{late}{neurons}"

    @property
    def settings(self) -> dict[str, Any]:
        """Those of `MEmeL` that it decides."""
        return {name: value for name, value in asdict(self).items() if value is not None}


FINETUNED_WITH: Mapping[str, Inhibition | None] = {
    "Original": None,
    "Naive (a)": Inhibition(delta=0.0),
    "Naive (b)": Inhibition(delta=-1.0),
    "MEmeL": Inhibition(),
    "MEmeL-T": Inhibition(),
}
"""What each row of Tables 1, 2, 5, 6 and 7 is finetuned with; MEmeL-T is the row MEmeL, tested with
its layers on (F.1)."""
