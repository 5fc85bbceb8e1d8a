"""The authors' settings for finetuning Swin from ImageNet-22k on ImageNet-1k."""

from dataclasses import dataclass

import torch
from torch import nn

from nowcast.adapters.augmentation import Augmentation
from nowcast.adapters.setting_checks import count, not_negative, refuse_misfits, share

SCALED_TO = 512
"""Images of a step for which learning rates are given; they grow with the batch (main.py)."""

DROP_PATH = {
    "swin_tiny_patch4_window7_224": 0.1,
    "swin_small_patch4_window7_224": 0.2,
    "swin_base_patch4_window7_224": 0.2,
}
"""Of configs/swin/<model>_22kto1k_finetune.yaml."""


@dataclass(frozen=True)
class Recipe:
    """How a network is finetuned.

    The defaults are those of github.com/microsoft/Swin-Transformer, as the paper takes them (E.1):
    configs/swin/swin_…_22kto1k_finetune.yaml, and config.py for what these leave as it is.

    Args:
        epochs: over the training images (yaml).
        warmup_epochs: in which the learning rate rises from `warmup_learning_rate` (yaml); it then
            follows a half cosine down to `min_learning_rate` (config.py, WARMUP_PREFIX).
        batch_size: images of a step on one device (config.py).
        warmup_learning_rate: for 512 images a step, as all learning rates (yaml).
        min_learning_rate: for 512 images a step (yaml).
        weight_decay: of matrices; biases, norms and relative positions have none (yaml,
            optimizer.py).
        clip: norm of the gradient (config.py).
        drop_path: share of dropped residual branches in the last block; None for the authors' 0.1
            (Swin-T) and 0.2 (S, B), or timm's default of another model (yaml).
        label_smoothing: share of the target that goes to all classes (config.py).
    """

    epochs: int = 30
    warmup_epochs: int = 5
    batch_size: int = 128
    warmup_learning_rate: float = 2e-8
    min_learning_rate: float = 2e-7
    weight_decay: float = 1e-8
    clip: float = 5.0
    drop_path: float | None = None
    label_smoothing: float = 0.1

    def check(self, augmentation: Augmentation) -> None:
        """Refuse what cannot be carried out, with this augmentation.

        Raises:
            InputError: with what was found and expected.
        """
        augmentation.check()
        pairs = not (augmentation.mixup or augmentation.cutmix) or self.batch_size % 2 == 0
        refuse_misfits(
            "recipe",
            (
                count("epochs", self.epochs),
                ("warmup_epochs", f"{self.warmup_epochs} of {self.epochs} epochs",
                 0 <= self.warmup_epochs < self.epochs, "fewer, from 0"),
                count("batch_size", self.batch_size),
                ("batch_size", self.batch_size, pairs,
                 "an even number, of which mixup and cutmix make pairs"),
                not_negative("warmup_learning_rate", self.warmup_learning_rate),
                not_negative("min_learning_rate", self.min_learning_rate),
                not_negative("weight_decay", self.weight_decay),
                ("clip", self.clip, self.clip > 0, "more than 0"),
                share("drop_path", self.drop_path or 0.0),
                share("label_smoothing", self.label_smoothing),
            ),
        )  # fmt: skip

    def adamw(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The authors' AdamW (config.py, optimizer.py).

        Args:
            model: of timm.
            learning_rate: of a step, whatever the batch.
        """
        from timm.optim import create_optimizer_v2

        return create_optimizer_v2(
            model,
            "adamw",
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            betas=(0.9, 0.999),
        )
