"""A training of timm's models on images, as Lightning carries it out: its steps.

What is around them is `swin_run`.
"""

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from nowcast.adapters.augmentation import Augmentation, View
from nowcast.adapters.imagenet import Images, train_loader, val_loader
from nowcast.adapters.swin_recipe import SCALED_TO, Recipe


class Finetuning(pl.LightningModule):
    """A training on images and its validation.

    What happens in an epoch depends on seed, epoch and number of processes alone.

    Args:
        model: with its layers.
        images: of both splits.
        view: of the model.
        recipe: of the training.
        augmentation: of the training images.
        learning_rate: peak, for 512 images a step.
        seed: of the order of the images, augmentation and drop path.
        workers: processes that read images, for each device.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        view: View,
        recipe: Recipe,
        augmentation: Augmentation,
        learning_rate: float,
        seed: int,
        workers: int = 8,
    ) -> None:
        from timm.data import Mixup

        super().__init__()
        self.model, self.images, self.view = model, images, view
        self.recipe, self.augmentation = recipe, augmentation
        self.learning_rate, self.seed, self.workers = learning_rate, seed, workers
        self.losses: list[float] = []
        """Mean training loss of each epoch."""
        self.predicted = torch.empty(0, dtype=torch.int64)
        """Best five classes of each validation image (image, 5), best first."""
        self.scores: dict[str, float] = {}
        """Top-1 and top-5 of the last validation, fractions of 1."""
        count = len(images.classes)
        self.mixup = (
            Mixup(
                mixup_alpha=augmentation.mixup,
                cutmix_alpha=augmentation.cutmix,
                switch_prob=augmentation.mixup_switch,
                label_smoothing=recipe.label_smoothing,
                num_classes=count,
            )
            if augmentation.mixup or augmentation.cutmix
            else None
        )
        self.best = min(5, count)
        self.loss = MeanMetric(nan_strategy="disable")
        self.top1 = MulticlassAccuracy(count, top_k=1, average="micro")
        self.top5 = MulticlassAccuracy(count, top_k=self.best, average="micro")

    def train_dataloader(self) -> DataLoader:
        """The training images of this epoch."""
        return train_loader(
            *(self.images, self.view, self.recipe.batch_size, self.seed),
            *(self.trainer.current_epoch, self.augmentation, self.workers),
            *(self.trainer.global_rank, self.trainer.world_size),
        )

    def val_dataloader(self) -> DataLoader:
        """The validation images."""
        return val_loader(
            *(self.images, self.view, self.recipe.batch_size, self.workers),
            *(self.trainer.global_rank, self.trainer.world_size),
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a learning rate that rises and follows a half cosine, step by step."""
        from timm.scheduler import create_scheduler_v2

        recipe = self.recipe
        steps = int(self.trainer.estimated_stepping_batches) // recipe.epochs
        scale = recipe.batch_size * self.trainer.world_size / SCALED_TO
        optimizer = recipe.adamw(self.model, self.learning_rate * scale)
        schedule, _ = create_scheduler_v2(
            optimizer,
            "cosine",
            num_epochs=recipe.epochs - recipe.warmup_epochs,
            min_lr=recipe.min_learning_rate * scale,
            warmup_lr=recipe.warmup_learning_rate * scale,
            warmup_epochs=recipe.warmup_epochs,
            warmup_prefix=True,
            step_on_epochs=False,
            updates_per_epoch=steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Learning rate of the coming step; as in the authors' main.py, that of one step before."""
        scheduler.step_update(self.global_step - 1)

    def on_train_epoch_start(self) -> None:
        """Seed what drop path, mixup and cutmix draw from."""
        entropy = (self.seed, self.current_epoch, self.global_rank)
        a, b, c = np.random.SeedSequence(entropy).generate_state(3).tolist()
        random.seed(a)
        np.random.seed(b)  # noqa: NPY002
        torch.manual_seed(c)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Loss of a batch."""
        images, labels, _ = batch
        smoothing = self.recipe.label_smoothing
        if self.mixup is not None:  # Which smooths the labels itself.
            images, labels = self.mixup(images, labels)
            smoothing = 0.0
        outputs = self.model(images).float()
        loss = functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
        self.loss.update(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Keep the mean loss, over all processes."""
        self.losses.append(float(self.loss.compute()))
        self.loss.reset()

    def on_validation_epoch_start(self) -> None:
        """Forget what was predicted before."""
        size = len(self.images.val), self.best
        self.predicted = torch.zeros(size, dtype=torch.int64, device=self.device)
        self.top1.reset()
        self.top5.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor]) -> None:
        """Predict a batch."""
        images, labels, places = batch
        outputs = self.model(images).float()
        self.predicted[places] = outputs.topk(self.best).indices
        self.top1.update(outputs, labels)
        self.top5.update(outputs, labels)

    def on_validation_epoch_end(self) -> None:
        """Put the processes' predictions together: each image is one process's."""
        self.predicted = self.trainer.strategy.reduce(self.predicted, reduce_op="sum").cpu()
        self.scores = {"top-1": float(self.top1.compute()), "top-5": float(self.top5.compute())}
