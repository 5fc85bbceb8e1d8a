"""Which clip each training step sees."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from moving_square import moving_square, write_moving_square

from nowcast.errors import InputError
from nowcast.training.clips import StepBatches
from nowcast.training.data import DataSettings, RandomClips, SequentialClips, split_clip
from nowcast.training.data_module import ClipData
from nowcast.training.loading import ClipLoader, SentAhead
from nowcast.training.sampling import UNIFORM


def settings(store, **changes):
    wanted = {
        "store": store.path,
        "input_frames": 3,
        "lead_times": 5,
        "batch_size": 4,
        "workers": 0,
    }
    return DataSettings(**(wanted | changes))


def trainer_at(step, rank=0, processes=1):
    """What of a trainer the loaders look at."""
    return SimpleNamespace(
        global_step=step,
        global_rank=rank,
        world_size=processes,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def train_batches(store, first_step, steps=6, rank=0, processes=1, sampling=UNIFORM, **changes):
    data = ClipData(settings(store, **changes), 7, steps, valid_clips=2, sampling=sampling)
    data.trainer = trainer_at(first_step, rank, processes)
    return [frames for frames, _ in data.train_dataloader()]


def test_a_clip_is_what_was_stored_with_missing_frames_empty(store):
    clips = RandomClips([store], "train", length=25, seed=0)
    seen_missing = 0
    for index in range(40):
        frames, mask = clips[index]
        frames, mask = frames[:, 0].numpy(), mask[:, 0].numpy()
        place = 1 if frames[0, 15].any() else 0
        start = next(t for t in range(40) if (moving_square([(place, t)])[0][0] == frames[0]).all())
        expected, counts = moving_square([(place, start + k) for k in range(25)])
        gone = [k for k in range(25) if start + k >= 40 or (place == 0 and start + k == 20)]
        expected[gone], counts[gone] = 0, False
        seen_missing += len(gone)
        np.testing.assert_array_equal(frames, expected)
        np.testing.assert_array_equal(mask, counts)
    assert seen_missing


def test_draws_depend_on_seed_and_index_alone_and_are_uniform_over_valid_starts(store):
    clips = RandomClips([store], "train", length=25, seed=1)
    again = RandomClips([store], "train", length=25, seed=1)
    other = RandomClips([store], "train", length=25, seed=2)
    assert torch.equal(clips[5][0], again[5][0])
    assert any(not torch.equal(clips[i][0], other[i][0]) for i in range(5))
    # Starts 0..17 are valid in both sequences: a clip may lack two frames at its end.
    drawn = Counter((place.name, start) for _, place, start in map(clips.draw, range(3600)))
    assert len(drawn) == 36
    assert all(abs(count - 100) < 45 for count in drawn.values())


def test_clips_are_drawn_from_all_stores_uniformly_and_their_shapes_must_agree(store, tmp_path):
    other = write_moving_square(tmp_path / "other.h5")
    clips = RandomClips([store, other], "train", length=25, seed=1)
    drawn = Counter(clips.draw(index)[0].path.name for index in range(2000))
    assert set(drawn) == {"square.h5", "other.h5"}
    assert abs(drawn["other.h5"] - 1000) < 120
    small = write_moving_square(tmp_path / "small.h5", side=24)
    with pytest.raises(InputError, match=r"small\.h5: found frames of \(24, 24\), expected \(30,"):
        RandomClips([store, small], "train", length=25, seed=1)


def test_a_resumed_run_sees_what_the_unbroken_run_would_have_seen(store):
    unbroken = train_batches(store, 0)
    assert len(unbroken) == 6
    for first in (1, 4):
        for batch, expected in zip(train_batches(store, first), unbroken[first:], strict=True):
            assert torch.equal(batch, expected)


@pytest.mark.parametrize("changes", [{"workers": 2}, {"in_memory": True}])
def test_neither_workers_nor_memory_change_anything(store, changes):
    for batch, expected in zip(
        train_batches(store, 0, **changes), train_batches(store, 0), strict=True
    ):
        assert torch.equal(batch, expected)


def test_processes_together_see_what_one_sees_with_the_whole_batch(store):
    ranks = [train_batches(store, 0, rank=rank, processes=2) for rank in (0, 1)]
    for first, second, whole in zip(*ranks, train_batches(store, 0), strict=True):
        assert torch.equal(torch.stack([first, second], 1).flatten(0, 1), whole)
    with pytest.raises(InputError, match="found 4, expected a multiple of the 3 processes"):
        train_batches(store, 0, processes=3)


def test_step_batches_cover_every_index_once():
    batches = list(StepBatches(2, 5, batch_size=3))
    assert [list(batch) for batch in batches] == [[6, 7, 8], [9, 10, 11], [12, 13, 14]]


def test_sequential_clips_follow_the_benchmark_and_may_be_thinned(store):
    every = SequentialClips(store, "valid", length=8, stride=5)
    expected = [moving_square([(2, t) for t in range(s, s + 8)])[0] for s in range(0, 40, 5)]
    # The last clip lacks more than two frames at its end.
    assert len(every) == 7
    for index in range(len(every)):
        np.testing.assert_array_equal(every[index][0][:, 0], expected[index])
    few = SequentialClips(store, "valid", length=8, stride=5, at_most=3)
    assert [few.clips[i][1] for i in range(3)] == [every.clips[i][1] for i in (0, 3, 6)]


def test_split_clip_gives_pixel_values_and_the_mask_of_the_targets(store):
    data = ClipData(settings(store), 0, 1, 2)
    data.trainer = trainer_at(0)
    clip = next(iter(data.val_dataloader()))
    inputs, targets, mask = split_clip(clip, 3)
    assert inputs.shape == (2, 3, 1, 30, 30)
    assert targets.shape == mask.shape == (2, 5, 1, 30, 30)
    assert float(inputs.max()) == pytest.approx(170 / 255)
    assert mask.dtype == torch.bool
    assert not mask[..., 0].any()
    assert mask[..., 1:].all()


def test_a_gpu_is_sent_batches_from_page_locked_memory(store):
    data = ClipData(settings(store), 0, 1, 2)
    data.trainer = trainer_at(0)
    loaders = [data.train_dataloader(), data.val_dataloader()]
    assert [(type(loader), loader.pinned) for loader in loaders] == [(ClipLoader, False)] * 2
    data.trainer.strategy.root_device = torch.device("cuda", 1)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert (type(loader), loader.device) == (SentAhead, torch.device("cuda", 1))
        assert loader.batches.pinned


def test_a_time_step_that_is_not_the_stores_is_refused_and_no_clip_is_said(store):
    with pytest.raises(InputError, match="6"):
        ClipData(settings(store, step_minutes=5), 0, 1, 0)
    with pytest.raises(InputError, match=r"found no clip of 80 frames in split 'train'"):
        ClipData(settings(store, lead_times=77), 0, 1, 0)
    coarse = ClipData(settings(store, step_minutes=12, subsample=True), 0, 1, 0)
    frames, _ = coarse.training[0]
    assert frames.shape == (8, 1, 30, 30)
