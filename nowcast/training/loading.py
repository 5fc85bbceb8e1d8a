"""Batches of clips, read and sent ahead of whoever takes them. Which clips these are is `clips`."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from nowcast.training.clips import Clip, Clips

BATCHES_AHEAD = 2
"""Batches for each thread that are read or wait before they are asked for."""


class ClipLoader:
    """Batches of clips in the order asked for, read ahead by threads.

    Reading releases the interpreter's lock where the work is, in decompression and copies, and a
    thread hands its batch over as it is. Between processes it would go through shared memory, which
    takes longer than reading it, and more of the training process's own time.

    Args:
        clips: to read from.
        batches: numbers of the clips of each batch.
        workers: threads; 0 reads a batch when it is asked for.
        pinned: hand over page-locked memory, from which copies to a CUDA device are faster.
    """

    def __init__(
        self, clips: Clips, batches: Iterable[Sequence[int]], workers: int, pinned: bool = False
    ) -> None:
        self.clips, self.batches, self.workers, self.pinned = clips, batches, workers, pinned

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Clip]:
        if not self.workers:
            yield from map(self._read, self.batches)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="clips")
        coming: deque[Future[Clip]] = deque()
        try:
            for batch in self.batches:
                coming.append(pool.submit(self._read, batch))
                if len(coming) > self.workers * BATCHES_AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, batch: Sequence[int]) -> Clip:
        frames, mask = self.clips.batch(batch)
        return (frames.pin_memory(), mask.pin_memory()) if self.pinned else (frames, mask)


class SentAhead:
    """Batches on a device, where the next is being copied while one is computed with.

    Frames and masks stay bytes; what computes makes numbers of them there.

    Args:
        batches: in page-locked memory, from which a GPU copies beside its computations.
        device: where to.
    """

    def __init__(self, batches: ClipLoader, device: torch.device) -> None:
        self.batches, self.device = batches, device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Clip]:
        streams = torch.get_device_module(self.device)
        copying = streams.Stream(self.device)
        coming: Clip | None = None
        for batch in self.batches:
            # Before the next copy is asked for: it is this one that has to be there.
            arrived = coming and self._receive(coming, streams, copying)
            with streams.stream(copying):
                frames, mask = (field.to(self.device, non_blocking=True) for field in batch)
            coming = frames, mask
            if arrived:
                yield arrived
        if coming:
            yield self._receive(coming, streams, copying)

    def _receive(self, batch: Clip, streams: Any, copying: Any) -> Clip:
        """A batch that what computes waits for, and whose memory the next copies leave to it."""
        computing = streams.current_stream(self.device)
        computing.wait_stream(copying)
        for field in batch:
            if field.is_cuda:
                field.record_stream(computing)
        return batch


def in_order(count: int, batch_size: int) -> list[range]:
    """Numbers of `count` clips in batches, the last of which may be smaller."""
    return [range(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]
