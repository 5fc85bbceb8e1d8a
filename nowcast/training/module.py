"""The Lightning module: loss, optimizer, schedule, clipping and validation scores of a network."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.checkpoint import KEY, Description
from nowcast.models.network import Network
from nowcast.training.adam import adam
from nowcast.training.data import Clip, split_clip
from nowcast.training.loss import balanced_loss
from nowcast.training.run_settings import Compile
from nowcast.verification.scores import Scores


@dataclass(frozen=True)
class OptimizationSettings:
    """How the weights are trained; the defaults are the benchmark's, with the paper's steps.

    Args:
        steps: optimizer steps.
        learning_rate: of Adam, before decay.
        betas: of Adam.
        decay: "step" multiplies the learning rate by `decay_factor` every `decay_every` steps;
            "cosine" lets it fall towards 0 at the end.
        decay_factor: see `decay`.
        decay_every: see `decay`.
        warmup_steps: steps in which the learning rate rises linearly from 0.
        clip_norm: largest global gradient norm of the encoder, and of the forecaster.
        loss_scale: factor of B-MSE + B-MAE in the loss.
    """

    steps: int = 20_000
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    decay: Literal["step", "cosine"] = "step"
    decay_factor: float = 0.7
    decay_every: int = 20_000
    warmup_steps: int = 0
    clip_norm: float = 50.0
    loss_scale: float = 1e-5

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "learning_rate",
            "decay_factor",
            "decay_every",
            "clip_norm",
            "loss_scale",
        ):
            if getattr(self, name) <= 0:
                raise InputError(
                    f"optimization: {name} is {getattr(self, name)}, expected a value above 0"
                )
        if self.warmup_steps < 0:
            raise InputError(
                f"optimization: warmup_steps is {self.warmup_steps}, expected at least 0"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimization: betas are {self.betas}, expected values in [0, 1)")

    def rate_at(self, step: int) -> float:
        """Factor of the learning rate at a step, counted from 0."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "step":
            return warm * self.decay_factor ** (step // self.decay_every)
        after = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, after)))


def forecast_losses(
    network: Network, clip: Clip, input_frames: int, lead_times: int
) -> tuple[Tensor, Tensor]:
    """B-MSE and B-MAE of the forecasts of a batch of clips."""
    inputs, targets, mask = split_clip(clip, input_frames)
    return balanced_loss(network(inputs, lead_times), targets, mask)


class NowcastModule(pl.LightningModule):
    """Trains a network on clips with the benchmark's balanced loss.

    Args:
        network: what is trained, with MEmeL layers inserted or not.
        optimization: how.
        description: what its checkpoints say of themselves.
        compilation: of the training steps; validation and probes are never compiled.
    """

    def __init__(
        self,
        network: Network,
        optimization: OptimizationSettings,
        description: Description,
        compilation: Compile = "none",
    ) -> None:
        super().__init__()
        self.network = network
        self.optimization = optimization
        self.description = description
        self.gradient_norms: dict[str, Tensor] = {}
        """Global norms of the last step's gradients before clipping, by part of the network."""
        self._layers = list(memel.inserted(network).values())
        self._compiled = (
            None
            if compilation == "none"
            else torch.compile(forecast_losses, mode=compilation, dynamic=False)
        )

    def training_step(self, clip: Clip, batch_index: int) -> Tensor:
        """Loss of a batch of clips."""
        losses = forecast_losses
        if self._compiled is not None and self._as_in_most_steps():
            torch.compiler.cudagraph_mark_step_begin()
            losses = self._compiled
        squared, absolute = losses(
            self.network, clip, self.description.input_frames, self.description.lead_times
        )
        # None of them in Lightning's progress bar, which reads its values in every step.
        self.log("train_balanced_mse", squared.detach(), batch_size=len(clip[0]))
        self.log("train_balanced_mae", absolute.detach(), batch_size=len(clip[0]))
        loss = (squared + absolute) * self.optimization.loss_scale
        self.log("train_loss", loss.detach(), batch_size=len(clip[0]))
        return loss

    def _as_in_most_steps(self) -> bool:
        """Not where MEmeL layers begin their statistics or are watched; to be compiled once."""
        return all(layer.mean.numel() and layer.observer is None for layer in self._layers)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.scores = Scores(self.description.lead_times)

    def validation_step(self, clip: Clip, batch_index: int) -> None:
        """Score the forecasts of a batch of clips."""
        inputs, targets, mask = split_clip(clip, self.description.input_frames)
        prediction = self.network(inputs, self.description.lead_times)
        self.scores.update(prediction.float(), targets, mask)

    def on_validation_epoch_end(self) -> None:
        """Log mean scores over lead times."""
        scores = self.scores.summary()
        squared, absolute = float(scores["balanced_mse"]), float(scores["balanced_mae"])
        named = {
            "valid_balanced_mse": squared,
            "valid_balanced_mae": absolute,
            "valid_loss": (squared + absolute) * self.optimization.loss_scale,
        }
        for threshold, csi in zip(self.scores.thresholds_mm_h, scores["csi"], strict=True):
            named[f"valid_csi_{threshold:g}"] = float(csi)
        self.log_dict(named)

    def configure_optimizers(self) -> Any:
        """Adam with the settings' schedule, stepped every training step."""
        settings = self.optimization
        optimizer = adam(self.network.parameters(), settings.learning_rate, settings.betas)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate_at)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of encoder and forecaster, each by its own global norm."""
        for name in ("encoder", "forecaster"):
            weights = self.network.get_submodule(name).parameters()
            norm = torch.nn.utils.clip_grad_norm_(weights, self.optimization.clip_norm)
            self.gradient_norms[name] = norm

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description, so that the file says what network it holds."""
        checkpoint[KEY] = self.description.as_entry()
