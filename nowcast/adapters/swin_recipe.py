"""The authors' settings for finetuning Swin from ImageNet-22k on ImageNet-1k."""

from dataclasses import dataclass

from nowcast.adapters.augmentation import Augmentation
from nowcast.errors import InputError

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
        """Refuse what cannot be carried out.

        Raises:
            InputError: with what was found and expected.
        """
        if not 0 <= self.warmup_epochs < self.epochs:
            raise InputError(
                f"recipe: found warmup_epochs={self.warmup_epochs} of {self.epochs} epochs, "
                "expected fewer"
            )
        if self.batch_size < 1:
            raise InputError(f"recipe: found batch_size={self.batch_size}, expected at least 1")
        if (augmentation.mixup or augmentation.cutmix) and self.batch_size % 2:
            raise InputError(
                f"recipe: found batch_size={self.batch_size}, expected an even number, of which "
                "mixup and cutmix make pairs"
            )
