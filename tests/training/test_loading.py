"""Reading ahead: the order, errors, how far ahead; and sending ahead to a device."""

import threading
import time

import numpy as np
import pytest
import torch

from nowcast.errors import InputError
from nowcast.training.clips import Clips
from nowcast.training.loading import BATCHES_AHEAD, ClipLoader, SentAhead, in_order


class Numbered(Clips):
    """Clip number n is full of n; later ones are read faster."""

    def __init__(self, damaged=None):
        super().__init__(2, (3, 4))
        self.damaged, self.read = damaged, []

    def fields(self, index):
        self.read.append(index)
        time.sleep(0.002 / (1 + index))
        if index == self.damaged:
            raise InputError("rain.h5: damaged")
        return np.full((2, 3, 4), index, np.uint8), np.full((2, 3, 4), index % 2 == 0)


def threads_at_work():
    return [t for t in threading.enumerate() if t.name.startswith("clips")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_asked_for_with_any_number_of_workers(workers):
    batches = [[4, 1], [0], [7, 5, 6], *([n] for n in range(20))]
    loader = ClipLoader(Numbered(), batches, workers)
    assert len(loader) == len(batches)
    for _ in range(2):
        for (frames, mask), asked in zip(loader, batches, strict=True):
            assert frames.shape == mask.shape == (len(asked), 2, 1, 3, 4)
            assert (frames.dtype, mask.dtype) == (torch.uint8, torch.bool)
            assert frames[:, 0, 0, 0, 0].tolist() == asked
            assert all((part == part.flatten()[0]).all() for part in frames)
            assert mask[:, -1, 0, -1, -1].tolist() == [n % 2 == 0 for n in asked]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_is_an_error_in_its_turn(workers):
    batches = iter(ClipLoader(Numbered(damaged=5), in_order(20, 2), workers))
    assert [int(next(batches)[0][0, 0, 0, 0, 0]) for _ in range(2)] == [0, 2]
    with pytest.raises(InputError, match=r"^rain\.h5: damaged$"):
        next(batches)


def test_reading_ahead_is_bounded_and_ends_with_the_loop():
    clips = Numbered()
    batches = iter(ClipLoader(clips, iter([n] for n in range(1000)), workers=2))
    next(batches)
    time.sleep(0.1)
    assert sorted(clips.read) == list(range(1 + 2 * BATCHES_AHEAD))
    assert threads_at_work()
    batches.close()
    for thread in threads_at_work():
        thread.join(timeout=5)
    assert not threads_at_work()
    assert len(clips.read) == 1 + 2 * BATCHES_AHEAD


def test_clips_in_order_leave_none_out():
    assert [list(batch) for batch in in_order(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert in_order(0, 3) == []


DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_sent_ahead_are_the_same_bytes_on_the_device(device, workers):
    batches = [[4, 1], [0], *([n] for n in range(20))]
    loader = ClipLoader(Numbered(), batches, workers, pinned=device == "cuda")
    sent = SentAhead(loader, torch.device(device))
    assert len(sent) == len(batches)
    for (frames, mask), asked in zip(sent, batches, strict=True):
        assert (frames.dtype, mask.dtype) == (torch.uint8, torch.bool)
        assert frames.device.type == mask.device.type == device
        assert frames[:, 0, 0, 0, 0].tolist() == asked
        assert mask[:, -1, 0, -1, -1].tolist() == [n % 2 == 0 for n in asked]


@pytest.mark.parametrize("count", [0, 1])
def test_few_batches_are_sent_too(count):
    sent = SentAhead(ClipLoader(Numbered(), in_order(count, 1), 0), torch.device("cpu"))
    assert [int(frames[0, 0, 0, 0, 0]) for frames, _ in sent] == list(range(count))


def test_one_batch_is_copied_ahead_and_each_is_waited_for_before_the_next_is_copied(monkeypatch):
    done = []
    wait, stream = torch.cpu.Stream.wait_stream, torch.cpu.stream

    def noted_wait(computing, copying):
        done.append("wait")
        return wait(computing, copying)

    def noted_stream(copying):
        done.append("copy")
        return stream(copying)

    monkeypatch.setattr(torch.cpu.Stream, "wait_stream", noted_wait)
    monkeypatch.setattr(torch.cpu, "stream", noted_stream)
    for _ in SentAhead(ClipLoader(Numbered(), in_order(3, 1), 0), torch.device("cpu")):
        done.append("compute")
    assert done == ["copy", *["wait", "copy", "compute"] * 2, "wait", "compute"]


def test_a_loop_that_ends_early_leaves_no_threads():
    batches = iter(SentAhead(ClipLoader(Numbered(), in_order(1000, 1), 2), torch.device("cpu")))
    next(batches)
    batches.close()
    for thread in threads_at_work():
        thread.join(timeout=5)
    assert not threads_at_work()
