"""Clips for Lightning's training and validation."""

from collections.abc import Iterable, Sequence

import lightning.pytorch as pl

from nowcast.errors import InputError
from nowcast.training.clips import Clip, Clips, RandomClips, SequentialClips, StepBatches
from nowcast.training.data import DataSettings
from nowcast.training.loading import ClipLoader, SentAhead, in_order
from nowcast.training.sampling import UNIFORM, SamplingSettings


class ClipData(pl.LightningDataModule):
    """Training clips by seed and step, validation clips in the benchmark's order.

    Args:
        settings: where clips come from.
        seed: seed of the training clips.
        steps: training steps to supply.
        valid_clips: validation clips, spread evenly over the split; 0 for none.
        sampling: which training clips are drawn more often, and how they are changed.
    """

    def __init__(
        self,
        settings: DataSettings,
        seed: int,
        steps: int,
        valid_clips: int,
        sampling: SamplingSettings = UNIFORM,
    ) -> None:
        super().__init__()
        self.settings, self.steps = settings, steps
        stores = settings.open_to_train(settings.in_memory)
        self.training = RandomClips(stores, "train", settings.length, seed, sampling)
        self.validation = (
            SequentialClips(stores[0], "valid", settings.length, at_most=valid_clips)
            if valid_clips
            else None
        )

    def train_dataloader(self) -> ClipLoader | SentAhead:
        """Clips from the step on at which the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        if self.settings.batch_size % trainer.world_size:
            raise InputError(
                f"batch size: found {self.settings.batch_size}, expected a multiple of the "
                f"{trainer.world_size} processes"
            )
        if self.training.rainy is not None and trainer.global_rank == 0:
            self.training.rainy.describe()
        batches = StepBatches(
            trainer.global_step,
            self.steps,
            self.settings.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(self.training, batches)

    def val_dataloader(self) -> ClipLoader | SentAhead | list[Clip]:
        """Validation clips, one batch after the other."""
        if self.validation is None:
            return []
        batches = in_order(len(self.validation), self.settings.batch_size)
        return self._loader(self.validation, batches)

    def _loader(self, clips: Clips, batches: Iterable[Sequence[int]]) -> ClipLoader | SentAhead:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if device.type != "cuda":
            return ClipLoader(clips, batches, self.settings.workers)
        return SentAhead(ClipLoader(clips, batches, self.settings.workers, pinned=True), device)
