"""Clips to train and validate on, read from frame stores, and the clips of each training step.

Which clip a training step sees depends on the seed and the step alone: a resumed run sees what the
unbroken run would have seen, whatever the number of workers, and R processes together see what one
process with an R-fold batch sees. Reading them ahead is `loading`.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several

import numpy as np
import torch
from torch import Tensor

from nowcast.errors import InputError
from nowcast.radar.clips import Times, sequential, step_in_seconds, valid_starts
from nowcast.radar.store import FrameStore, Sequence
from nowcast.training.augmentation import Fields, augment, shape_in_training
from nowcast.training.sampling import UNIFORM, RainyDraw, SamplingSettings, clip_rain
from nowcast.verification.cases import Cases

Clip = tuple[Tensor, Tensor]
"""Frames uint8 (time, 1, y, x) and mask bool of the same shape; or a batch of them."""

CHANGES = 1
"""Tells the random numbers of a clip's changes from those that choose the clip."""


class Clips:
    """Clips of one shape by number, one by one or many at once.

    A batch is read clip by clip into one pair of tensors, so that nothing is left to collate.

    Args:
        length: frames per clip.
        shape: (y, x) of a frame.
    """

    def __init__(self, length: int, shape: tuple[int, int]) -> None:
        self.length, self.shape = length, shape

    def fields(self, index: int) -> Fields:
        """Frames and mask of clip number `index`, (time, y, x) each."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Clip:
        frames, mask = self.batch([index])
        return frames[0], mask[0]

    def batch(self, indices: Several[int]) -> Clip:
        """Clips of these numbers: frames and mask, (batch, time, 1, y, x) each."""
        shape = (len(indices), self.length, 1, *self.shape)
        frames, mask = torch.empty(shape, dtype=torch.uint8), torch.empty(shape, dtype=torch.bool)
        for place, index in enumerate(indices):
            frames.numpy()[place, :, 0], mask.numpy()[place, :, 0] = self.fields(index)
        return frames, mask


class RandomClips(Clips):
    """An endless supply of clips: item `i` is a draw that depends on the seed and `i` alone.

    By default uniform over all frames of the split at which a valid clip starts; the same as the
    benchmark's draw over all frames, repeated until the clip is valid.

    Args:
        stores: frame stores, all with frames of one shape.
        split: split to draw from.
        length: frames per clip.
        seed: seed of the draws.
        sampling: which clips are drawn more often, and how they are changed; the latter does not
            decide which are drawn.

    Raises:
        InputError: if the split has no valid clip, the stores' frames differ in shape, or they
            cannot be changed in the way asked for.
    """

    def __init__(
        self,
        stores: Iterable[FrameStore],
        split: str,
        length: int,
        seed: int,
        sampling: SamplingSettings = UNIFORM,
    ) -> None:
        self.seed, self.sampling = seed, sampling
        self.places = [(store, sequence) for store in stores for sequence in store.split(split)]
        first, *others = (store for store, _ in self.places)
        for other in others:
            if other.shape != first.shape:
                raise InputError(
                    f"{other.path}: found frames of {other.shape}, expected {first.shape} as in "
                    f"{first.path}"
                )
        super().__init__(length, shape_in_training(first, sampling))
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
        self.rainy = self._rainy_draw() if sampling.rain_share else None

    def _rainy_draw(self) -> RainyDraw:
        rain = [
            clip_rain(sequence, starts, self.length, store.step_minutes)
            for (store, sequence), starts in zip(self.places, self.starts, strict=True)
        ]
        return RainyDraw(np.concatenate(rain), self.sampling.rain_share)

    def draw(self, index: int) -> tuple[FrameStore, Sequence, np.datetime64]:
        """Store, sequence and start of clip number `index`."""
        random = np.random.default_rng([self.seed, index])
        drawn = int(random.integers(self.ends[-1]))
        if self.rainy is not None:
            drawn = self.rainy.replace(drawn, random)
        place = int(np.searchsorted(self.ends, drawn, side="right"))
        return *self.places[place], self.starts[place][drawn - self.ends[place]]

    def fields(self, index: int) -> Fields:
        """Frames and mask of clip number `index`, changed as the settings say."""
        store, sequence, start = self.draw(index)
        frames, mask, _ = store.read(sequence, start, self.length)
        if not self.sampling.changes_clips:
            return frames, mask
        random = np.random.default_rng([self.seed, index, CHANGES])
        return augment((frames, mask), self.sampling, random)


class SequentialClips(Clips):
    """The clips of a split in the benchmark's sequential order, sequence after sequence.

    Args:
        store: frame store.
        split: split to go through.
        length: frames per clip.
        stride: frames between the starts of clips.
        at_most: take only so many clips, spread evenly; all where None.

    Attributes:
        clips: sequence and start of each clip.
        new_episode: of each, whether it is the first of an episode; one that `at_most` leaves out
            leaves the others as they are.
        events: name of the event of each: what all places (tiles) of a radar event or archive saw
            in one episode, since clips of one event are not independent. It is the part of the
            sequence's name before the first ":" and the start of the episode in UTC, which is the
            same for all tiles of a radar event.

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
        super().__init__(length, store.shape)
        self.store = store
        self.clips: list[tuple[Sequence, np.datetime64]] = []
        self.new_episode: list[bool] = []
        self.events: list[str] = []
        for sequence in store.split(split):
            name, event = sequence.name.partition(":")[0], ""
            for start, is_first in sequential(sequence.times, length, stride, store.step_minutes):
                if is_first:
                    event = f"{name} {np.datetime_as_string(start, unit='m')}"
                self.clips.append((sequence, start))
                self.new_episode.append(is_first)
                self.events.append(event)
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
            self.new_episode = [self.new_episode[i] for i in chosen]
            self.events = [self.events[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.clips)

    def fields(self, index: int) -> Fields:
        """Frames and mask of clip number `index`."""
        sequence, start = self.clips[index]
        frames, mask, _ = self.store.read(sequence, start, self.length)
        return frames, mask

    def cases(self, clip: Clip, indices: Several[int], input_frames: int) -> Cases:
        """A batch of clips to forecast and score, with what is known of them.

        Args:
            clip: what `batch` gave for `indices`.
            indices: numbers of the clips.
            input_frames: how many of the frames are inputs; the others are targets.
        """
        starts: Times = np.array([self.clips[index][1] for index in indices], "datetime64[s]")
        seen_s = (input_frames - 1) * step_in_seconds(self.store.step_minutes)
        issue_times: Times = starts + np.timedelta64(seen_s, "s")
        return Cases(
            *split_clip(clip, input_frames),
            places=tuple(self.clips[index][0].name for index in indices),
            issue_times=issue_times,
            events=tuple(self.events[index] for index in indices),
            new_episode=tuple(self.new_episode[index] for index in indices),
        )


class StepBatches:
    """Indices of the clips of each training step, from any step on; of one process of several."""

    def __init__(
        self, first_step: int, steps: int, batch_size: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.steps = range(first_step, steps)
        self.batch_size, self.rank, self.processes = batch_size, rank, processes

    def __iter__(self) -> Iterator[range]:
        for step in self.steps:
            batch = range(step * self.batch_size, (step + 1) * self.batch_size)
            yield batch[self.rank :: self.processes]


def split_clip(clip: Clip, input_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Batch of clips to inputs, targets (pixel values, float32) and the targets' mask.

    Args:
        clip: frames uint8 (batch, time, 1, y, x) and mask.
        input_frames: how many of the frames are inputs; the others are targets.
    """
    frames, mask = clip
    pixels = frames.float().div_(255)
    return pixels[:, :input_frames], pixels[:, input_frames:], mask[:, input_frames:]
