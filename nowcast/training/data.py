"""Where clips come from, and what feeds them to scoring.

Which clips these are is `clips`, reading them ahead is `loading`, feeding them to a training
`data_module`, which needs Lightning; what is here does not, and is quicker to import.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.store import FrameStore
from nowcast.training.clips import Clip, RandomClips, SequentialClips, split_clip
from nowcast.training.loading import ClipLoader, in_order
from nowcast.verification.cases import Cases

__all__ = [
    "BatchesToScore",
    "Clip",
    "DataSettings",
    "RandomClips",
    "SequentialClips",
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
