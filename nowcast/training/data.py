"""Clips for training and validation, read from a frame store.

Which clip a training step sees depends on the seed and the step alone: a resumed run sees what the
unbroken run would have seen, whatever the number of worker processes, and R processes together see
what one process with an R-fold batch sees.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nowcast.errors import InputError
from nowcast.radar.clips import sequential, valid_starts
from nowcast.radar.store import FrameStore, Sequence

Clip = tuple[Tensor, Tensor]
"""Frames uint8 (time, 1, y, x) and mask bool of the same shape."""


SECONDS_TO_SAVE = 20.0
"""How long a worker outlives SIGTERM."""


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
        workers: processes that read clips; 0 reads in the training process.
    """

    store: Path
    train_also: tuple[Path, ...] = ()
    step_minutes: float = 6
    subsample: bool = False
    input_frames: int = 5
    lead_times: int = 20
    batch_size: int = 4
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (
            ("input_frames", 1), ("lead_times", 1), ("batch_size", 1), ("workers", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(
                    f"data: {name} is {getattr(self, name)}, expected at least {least}"
                )

    def open(self) -> FrameStore:
        """The frame store, checked."""
        return FrameStore(self.store, step_minutes=self.step_minutes, subsample=self.subsample)

    def open_to_train(self) -> list[FrameStore]:
        """All stores to draw training clips from, checked to have frames of one shape."""
        return [self.open(), *(replace(self, store=path).open() for path in self.train_also)]

    @property
    def length(self) -> int:
        """Frames in a clip."""
        return self.input_frames + self.lead_times


class RandomClips(Dataset[Clip]):
    """An endless supply of clips: item `i` is a draw that depends on the seed and `i` alone.

    Uniform over all frames of the split at which a valid clip starts; the same as the benchmark's
    draw over all frames, repeated until the clip is valid.

    Args:
        stores: frame stores, all with frames of one shape.
        split: split to draw from.
        length: frames per clip.
        seed: seed of the draws.

    Raises:
        InputError: if the split has no valid clip, or the stores' frames differ in shape.
    """

    def __init__(self, stores: Iterable[FrameStore], split: str, length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self.places = [(store, sequence) for store in stores for sequence in store.split(split)]
        first, *others = (store for store, _ in self.places)
        for other in others:
            if other.shape != first.shape:
                raise InputError(
                    f"{other.path}: found frames of {other.shape}, expected {first.shape} as in "
                    f"{first.path}"
                )
        self.starts = [
            valid_starts(sequence.times, length, step_minutes=store.step_minutes)
            for store, sequence in self.places
        ]
        self.ends = np.cumsum([len(starts) for starts in self.starts])
        if not self.ends[-1]:
            raise InputError(
                f"{first.path}: found no clip of {length} frames in split {split!r}, "
                "expected at least one"
            )

    def draw(self, index: int) -> tuple[FrameStore, Sequence, np.datetime64]:
        """Store, sequence and start of clip number `index`."""
        draw = np.random.default_rng([self.seed, index]).integers(self.ends[-1])
        place = int(np.searchsorted(self.ends, draw, side="right"))
        return *self.places[place], self.starts[place][draw - self.ends[place]]

    def __getitem__(self, index: int) -> Clip:
        return _as_tensors(*self.draw(index), self.length)


class SequentialClips(Dataset[Clip]):
    """The clips of a split in the benchmark's sequential order, sequence after sequence.

    Args:
        store: frame store.
        split: split to go through.
        length: frames per clip.
        stride: frames between the starts of clips.
        at_most: take only so many clips, spread evenly; all where None.

    Raises:
        InputError: if the split has no valid clip.
    """

    def __init__(
        self,
        store: FrameStore,
        split: str,
        length: int,
        stride: int = 5,
        at_most: int | None = None,
    ) -> None:
        self.store, self.length = store, length
        self.clips = [
            (sequence, start)
            for sequence in store.split(split)
            for start, _ in sequential(sequence.times, length, stride, store.step_minutes)
        ]
        if not self.clips:
            raise InputError(
                f"{store.path}: found no clip of {length} frames in split {split!r}, "
                "expected at least one"
            )
        if at_most is not None and at_most < 1:
            raise InputError(f"at_most: found {at_most}, expected at least 1 clip")
        if at_most is not None and at_most < len(self.clips):
            chosen = np.linspace(0, len(self.clips) - 1, at_most).round().astype(int)
            self.clips = [self.clips[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        sequence, start = self.clips[index]
        return _as_tensors(self.store, sequence, start, self.length)


class StepBatches(Sampler[list[int]]):
    """Indices of the clips of each training step, from any step on; of one process of several."""

    def __init__(
        self, first_step: int, steps: int, batch_size: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.steps = range(first_step, steps)
        self.batch_size, self.rank, self.processes = batch_size, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            batch = range(step * self.batch_size, (step + 1) * self.batch_size)
            yield list(batch[self.rank :: self.processes])


class ClipData(pl.LightningDataModule):
    """Training clips by seed and step, validation clips in the benchmark's order.

    Args:
        settings: where clips come from.
        seed: seed of the training clips.
        steps: training steps to supply.
        valid_clips: validation clips, spread evenly over the split; 0 for none.
    """

    def __init__(self, settings: DataSettings, seed: int, steps: int, valid_clips: int) -> None:
        super().__init__()
        self.settings, self.steps = settings, steps
        self.training = RandomClips(settings.open_to_train(), "train", settings.length, seed)
        self.validation = (
            SequentialClips(settings.open(), "valid", settings.length, at_most=valid_clips)
            if valid_clips
            else None
        )

    def train_dataloader(self) -> "DataLoader[Clip]":
        """Clips from the step on at which the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        if self.settings.batch_size % trainer.world_size:
            raise InputError(
                f"batch size: found {self.settings.batch_size}, expected a multiple of the "
                f"{trainer.world_size} processes"
            )
        batches = StepBatches(
            trainer.global_step,
            self.steps,
            self.settings.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
        return DataLoader(self.training, batch_sampler=batches, **self._loading())

    def val_dataloader(self) -> "DataLoader[Clip] | list[Clip]":
        """Validation clips, one batch after the other."""
        if self.validation is None:
            return []
        batch_size = self.settings.batch_size
        return DataLoader(self.validation, batch_size=batch_size, **self._loading())

    def _loading(self) -> dict[str, Any]:
        workers = self.settings.workers
        return {
            "num_workers": workers,
            "worker_init_fn": _outlive_a_stop,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": workers > 0,
        }


def split_clip(clip: Clip, input_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Batch of clips to inputs, targets (pixel values, float32) and the targets' mask.

    Args:
        clip: frames uint8 (batch, time, 1, y, x) and mask.
        input_frames: how many of the frames are inputs; the others are targets.
    """
    frames, mask = clip
    pixels = frames.float() / 255
    return pixels[:, :input_frames], pixels[:, input_frames:], mask[:, input_frames:]


class BatchesToScore:
    """Clips in batches of inputs, targets and the targets' mask; its length is known.

    Args:
        clips: in the order to score them.
        settings: where they come from.
    """

    def __init__(self, clips: SequentialClips, settings: DataSettings) -> None:
        self.input_frames = settings.input_frames
        self.loader = DataLoader(
            clips,
            batch_size=settings.batch_size,
            num_workers=settings.workers,
            worker_init_fn=_outlive_a_stop,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for clip in self.loader:
            yield split_clip(clip, self.input_frames)


def _outlive_a_stop(worker: int) -> None:
    """Let a worker live on for a while when the whole process group is told to stop.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach workers too; were they gone at once, the
    trainer could not finish its step and save it.
    """

    def end_later(number: int, frame: Any) -> None:
        timer = threading.Timer(SECONDS_TO_SAVE, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)


def _as_tensors(store: FrameStore, sequence: Sequence, start: np.datetime64, length: int) -> Clip:
    clip = store.read(sequence, start, length)
    return torch.from_numpy(clip.frames[:, None]), torch.from_numpy(clip.mask[:, None])
