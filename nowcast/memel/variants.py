"""The paper's ways to inhibit, as settings of the layer."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Inhibition:
    """What is inhibited while a network is trained.

    Args:
        top: activations deactivated per sample and layer (n_n).
        delta: 1 is reverse deactivation, 0 naive (a), −1 naive (b) (E.3).
    """

    top: int = 1
    delta: float = 1.0

    def __str__(self) -> str:
        return f"top {self.top}, Δ {self.delta:g}"


FINETUNED_WITH: Mapping[str, Inhibition | None] = {
    "Original": None,
    "Naive (a)": Inhibition(delta=0.0),
    "Naive (b)": Inhibition(delta=-1.0),
    "MEmeL": Inhibition(),
    "MEmeL-T": Inhibition(),
}
"""What each row of Tables 1, 2, 5, 6 and 7 is finetuned with; MEmeL-T is the row MEmeL, tested with
its layers on (F.1)."""
