"""Where clips come from, and what feeds them to training, validation and scoring.

Which clips these are is `clips`, reading them ahead is `loading`.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from nowcast.errors import InputError
from nowcast.radar.store import FrameStore
from nowcast.training.clips import (
    Clip,
    Clips,
    RandomClips,
    SequentialClips,
    StepBatches,
    split_clip,
)
from nowcast.training.loading import ClipLoader, in_order
from nowcast.training.sampling import UNIFORM, SamplingSettings
from nowcast.verification.cases import Cases

__all__ = [
    "BatchesToScore",
    "Clip",
    "ClipData",
    "DataSettings",
    "RandomClips",
    "SequentialClips",
    "StepBatches",
    "split_clip",
]


@dataclass(frozen=True)
class DataSettings:
    """Where clips come from and what they look like.

    Args:
        store: frame store that `prepare_data.py` made.
        train_also: further stores; training clips are drawn from their train splits too.
        step_minutes: minutes between frames; refused if the store's are others.
        subsample: allow a store with shorter steps, of which `step_minutes` is a multiple.
        input_frames: frames that the network sees.
        lead_times: frames that it forecasts.
        batch_size: clips per training step, over all processes.
        workers: threads that read clips ahead; 0 reads them when they are needed.
        in_memory: read all frames into memory once, before training starts, and take clips from
            there; what only evaluates takes them from the file. The clips are the same.
    """

    store: Path
    train_also: tuple[Path, ...] = ()
    step_minutes: float = 6
    subsample: bool = False
    input_frames: int = 5
    lead_times: int = 20
    batch_size: int = 4
    workers: int = 2
    in_memory: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("input_frames", 1), ("lead_times", 1), ("batch_size", 1), ("workers", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(
                    f"data: {name} is {getattr(self, name)}, expected at least {least}"
                )

    def open(self) -> FrameStore:
        """The frame store, checked; its frames stay in the file."""
        return FrameStore(self.store, step_minutes=self.step_minutes, subsample=self.subsample)

    def open_to_train(self, in_memory: bool = False) -> list[FrameStore]:
        """All stores to draw training clips from, the first of which is `store`.

        Args:
            in_memory: read their frames into memory.
        """
        return [
            FrameStore(path, self.step_minutes, self.subsample, in_memory)
            for path in (self.store, *self.train_also)
        ]

    @property
    def length(self) -> int:
        """Frames in a clip."""
        return self.input_frames + self.lead_times


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

    def train_dataloader(self) -> ClipLoader:
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

    def val_dataloader(self) -> ClipLoader | list[Clip]:
        """Validation clips, one batch after the other."""
        if self.validation is None:
            return []
        batches = in_order(len(self.validation), self.settings.batch_size)
        return self._loader(self.validation, batches)

    def _loader(self, clips: Clips, batches: Iterable[Sequence[int]]) -> ClipLoader:
        assert self.trainer is not None
        to_cuda = self.trainer.strategy.root_device.type == "cuda"
        return ClipLoader(clips, batches, self.settings.workers, pinned=to_cuda)


class BatchesToScore:
    """Clips in batches to forecast and score, in their order; the number of batches is known.

    Args:
        clips: in the order to score them.
        settings: where they come from.
        one_by_one: one clip in each batch, as the online protocol takes them, in place of the
            settings' batch size.
    """

    def __init__(
        self, clips: SequentialClips, settings: DataSettings, one_by_one: bool = False
    ) -> None:
        self.clips, self.settings = clips, settings
        self.batches = in_order(len(clips), 1 if one_by_one else settings.batch_size)

    def from_batch(self, number: int) -> "BatchesToScore":
        """The batches from that one on, counted from 0; those before are not read."""
        later = copy.copy(self)
        later.batches = self.batches[number:]
        return later

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Cases]:
        loader = ClipLoader(self.clips, self.batches, self.settings.workers)
        for indices, clip in zip(self.batches, loader, strict=True):
            yield self.clips.cases(clip, indices, self.settings.input_frames)
