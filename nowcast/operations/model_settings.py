"""What forecasts: a trained network, several, or a method without training; an ensemble of them."""

from dataclasses import dataclass
from typing import Literal

from nowcast.device import WantedPrecision
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.method import NowcastMethod
from nowcast.models.checkpoint import load
from nowcast.models.ensembles import PerturbedInputs, SeveralMethods
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence

Method = Literal["network", "optical flow", "optical flow with inflow", "persistence"]


@dataclass(frozen=True)
class ModelSettings:
    """What forecasts.

    Args:
        checkpoint: trained network: a file, or the name of one that comes with the package.
        more_checkpoints: further ones, which make an ensemble with it.
        method: "network" is the checkpoint's; the others need none. "optical flow with inflow" lets
            rain at an edge keep coming in over it, where "optical flow" has dry air.
        members: above 1, members of an ensemble of each network or method, which see frames whose
            motion and intensity are perturbed.
        seed: decides these perturbations.
        device: where networks run: "auto", "cpu", "cuda".
        precision: in which they forecast: "fp32", the same on any machine; "bf16", faster where the
            machine has instructions for it; "auto", which is bf16 there.
    """

    checkpoint: str = "convgru-5min"
    more_checkpoints: tuple[str, ...] = ()
    method: Method = "network"
    members: int = 1
    seed: int = 0
    device: str = "auto"
    precision: WantedPrecision = "fp32"

    def open(self) -> NowcastMethod:
        """The method, ready to forecast.

        Raises:
            InputError: a file is no checkpoint, networks do not fit each other, or a setting makes
                no sense.
        """
        if self.members < 1:
            raise InputError(f"members: found {self.members}, expected at least 1")
        single: list[NowcastMethod]
        if self.method == "network":
            keep_freed_memory()
            checkpoints = (self.checkpoint, *self.more_checkpoints)
            single = [load(path, self.device, self.precision) for path in checkpoints]
        elif self.more_checkpoints:
            raise InputError(f"more_checkpoints: found some, and {self.method}, which has none")
        elif self.method == "persistence":
            single = [Persistence()]
        else:
            inflow = self.method == "optical flow with inflow"
            single = [OpticalFlow(inflow="edge" if inflow else "dry")]
        if self.members > 1:
            single = [PerturbedInputs(one, self.members, self.seed) for one in single]
        return single[0] if len(single) == 1 else SeveralMethods(single)
