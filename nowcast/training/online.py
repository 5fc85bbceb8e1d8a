"""Learning while forecasting: the step that the benchmark's online protocol makes between clips.

When a step is made, and from which frames, is `verification.online`'s business.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nowcast.models.network import Network
from nowcast.training.loss import balanced_loss

EPSILON = 1e-8
"""Added to AdaGrad's sums of squared gradients, under the root. MXNet's AdaGrad, which the
benchmark's authors use, moves a weight by −lr g / √(Σ g² + ε), with 1e-7 for ε by default; their
code hands it the ε of their training, 1e-8 (that of their online settings is read by nothing).
`torch.optim.Adagrad` adds its ε beside the root instead; sums that begin at ε, and nothing beside
the root, are exactly MXNet's rule. It is not for division by zero alone: gradients smaller than
√ε = 1e-4 hardly move a weight."""


class OnlineFinetuning:
    """One AdaGrad step on the balanced loss at each call; a `NowcastMethod` that learns.

    As in the benchmark's online setting (Shi et al., NeurIPS 2017, and the code that its authors
    publish): the loss and the clipping of training, one clip at a time. Neither the weights nor the
    optimizer's sums are ever reset.

    Args:
        network: forecasts, and learns in place: hand over a copy (`copy.deepcopy`) where it is also
            wanted as it was.
        learning_rate: of AdaGrad; the authors' is 1e-4.
        clip_norm: largest global gradient norm of the encoder, and of the forecaster.
        loss_scale: factor of B-MSE + B-MAE in the loss.

    Attributes:
        network: as given.
    """

    def __init__(
        self,
        network: Network,
        *,
        learning_rate: float = 1e-4,
        clip_norm: float = 50.0,
        loss_scale: float = 1e-5,
    ) -> None:
        self.network, self.clip_norm, self.loss_scale = network, clip_norm, loss_scale
        self.optimizer = torch.optim.Adagrad(
            network.parameters(), lr=learning_rate, initial_accumulator_value=EPSILON, eps=0.0
        )

    def __call__(self, inputs: Tensor, targets: Tensor, mask: Tensor) -> float:
        """Make a step.

        Args:
            inputs: pixel values (batch, time, 1, y, x).
            targets: pixel values of the frames that follow, (batch, lead_times, 1, y, x).
            mask: True where a target counts, same shape.

        Returns:
            The loss before the step, scaled.
        """
        home = next(self.network.parameters()).device
        # The network stays in the mode it is in, so that MEmeL layers whose statistics are frozen
        # stay frozen. An evaluation forecasts in inference mode, in which nothing is learned.
        with torch.inference_mode(False), torch.enable_grad():
            inputs, targets, mask = (
                (field.clone() if field.is_inference() else field).to(home)
                for field in (inputs, targets, mask)
            )
            self.optimizer.zero_grad(set_to_none=True)
            prediction = self.network(inputs, targets.shape[1])
            squared, absolute = balanced_loss(prediction, targets, mask)
            loss = (squared + absolute) * self.loss_scale
            loss.backward()
            for part in (self.network.encoder, self.network.forecaster):
                nn.utils.clip_grad_norm_(part.parameters(), self.clip_norm)
            self.optimizer.step()
        return float(loss.detach())

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """The network's own forecast: see `NowcastMethod`."""
        return self.network.forecast(frames, lead_times)

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
