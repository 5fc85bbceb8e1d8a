"""What is known of the clips of a split, beside their pixels."""

import numpy as np
import pytest
from made_up_store import write_places
from moving_square import write_moving_square

from nowcast.models.persistence import Persistence
from nowcast.training.data import BatchesToScore, DataSettings, SequentialClips, split_clip
from nowcast.verification.offline import evaluate
from nowcast.verification.online_rule import online_steps
from nowcast.verification.results import ScoreKinds
from nowcast.verification.scores import Scores

INPUTS, LEAD_TIMES = 3, 6
LENGTH = INPUTS + LEAD_TIMES


def settings(store, **changes):
    wanted = {"store": store.path, "input_frames": INPUTS, "lead_times": LEAD_TIMES,
              "batch_size": 4, "workers": 0}  # fmt: skip
    return DataSettings(**wanted | changes)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Two tiles of one event, with the same gap, and one of another."""
    gap = np.r_[0:20, 30:50]
    return write_places(
        tmp_path_factory.mktemp("tiles") / "tiles.h5",
        {
            "flood:0,0": ("test", gap),
            "flood:0,120": ("test", gap),
            "hail:120,0": ("test", np.arange(14)),
            "flood:240,0": ("train", gap),
        },
    )


def test_tiles_of_one_event_share_its_episodes(tiles):
    clips = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    # Of 20 frames in a row, clips of 9 may lack two at their end: starts 0, 3, … 12.
    first, later, hail = (f"{name} 2020-06-01T{time}" for name, time in (
        ("flood", "00:00"), ("flood", "03:00"), ("hail", "00:00"),
    ))  # fmt: skip
    assert clips.events == [first] * 5 + [later] * 5 + [first] * 5 + [later] * 5 + [hail] * 3
    flags = [True, False, False, False, False]
    assert clips.new_episode == 4 * flags + flags[:3]
    places = [sequence.name for sequence, _ in clips.clips]
    assert places == ["flood:0,0"] * 10 + ["flood:0,120"] * 10 + ["hail:120,0"] * 3


def test_batches_say_of_each_clip_where_and_when_it_is(tiles):
    clips = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    batches = list(BatchesToScore(clips, settings(tiles)))
    assert [len(cases) for cases in batches] == [4, 4, 4, 4, 4, 3]
    number = 0
    for cases in batches:
        for clip in range(len(cases)):
            sequence, start = clips.clips[number]
            frames, mask = clips[number]
            inputs, targets, counts = split_clip((frames[None], mask[None]), INPUTS)
            assert (cases.inputs[clip] == inputs[0]).all()
            assert (cases.targets[clip] == targets[0]).all()
            assert (cases.mask[clip] == counts[0]).all()
            # The last input is the frame of the time of issue.
            last, _, times = tiles.read(sequence, cases.issue_times[clip], 1)
            assert times[0] == start + np.timedelta64((INPUTS - 1) * 360, "s")
            assert (cases.inputs[clip, -1, 0].numpy() * 255).round().tolist() == last[0].tolist()
            assert cases.places[clip] == sequence.name
            assert cases.events[clip] == clips.events[number]
            assert cases.new_episode[clip] == clips.new_episode[number]
            number += 1
    assert number == len(clips)
    assert cases.issue_times.dtype == "datetime64[s]"


def test_an_archives_split_has_the_episodes_of_the_benchmark(store):
    clips = SequentialClips(store, "valid", LENGTH, stride=INPUTS)
    assert set(clips.events) == {"place 2 2020-06-01T00:00"}
    assert sum(clips.new_episode) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_begin_at_any_and_those_before_are_not_read(tiles, workers):
    clips = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    batches = BatchesToScore(clips, settings(tiles, workers=workers))
    every = list(batches)
    read, from_file = [], clips.fields
    clips.fields = lambda index: (read.append(index), from_file(index))[1]
    for first in range(len(every) + 1):
        read.clear()
        later = batches.from_batch(first)
        assert len(later) == len(every) - first
        for found, expected in zip(later, every[first:], strict=True):
            assert (found.inputs == expected.inputs).all()
            assert found.places == expected.places
        assert sorted(read) == list(range(4 * first, len(clips)))
    assert [cases.places for cases in batches.from_batch(2).from_batch(1)] == [
        cases.places for cases in every[3:]
    ]
    assert len(batches) == len(every)


def test_one_by_one_they_come_in_order_and_the_online_protocol_finds_its_episodes(tiles):
    clips = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    singles = list(BatchesToScore(clips, settings(tiles), one_by_one=True))
    assert {len(cases) for cases in singles} == {1}
    assert [cases.events[0] for cases in singles] == clips.events
    # Steps of 3 clips each: 3 of each episode of 5 clips, 1 of one of 3, less that of the last.
    flags = [cases.new_episode[0] for cases in singles]
    assert online_steps(flags, INPUTS, LEAD_TIMES) == 4 * 3 + 1 - 1


def test_thinned_clips_keep_what_is_known_of_them(tiles):
    every = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    few = SequentialClips(tiles, "test", LENGTH, stride=INPUTS, at_most=5)
    chosen = [every.clips.index(clip) for clip in few.clips]
    assert len(chosen) == 5
    assert few.events == [every.events[number] for number in chosen]
    assert few.new_episode == [every.new_episode[number] for number in chosen]


def test_a_store_of_longer_steps_counts_in_its_own(tmp_path):
    store = write_moving_square(tmp_path / "slow.h5", step_minutes=12)
    clips = SequentialClips(store, "valid", LENGTH, stride=INPUTS)
    cases = next(iter(BatchesToScore(clips, settings(store, step_minutes=12))))
    starts = np.array([start for _, start in clips.clips[:4]])
    assert (cases.issue_times - starts == np.timedelta64(24, "m")).all()


def test_evaluated_by_event_the_clips_of_all_tiles_are_counted(tiles):
    clips = SequentialClips(tiles, "test", LENGTH, stride=INPUTS)
    found = evaluate(
        {"m": Persistence()},
        BatchesToScore(clips, settings(tiles)),
        lead_times=LEAD_TIMES,
        kinds=ScoreKinds(lambda: {"benchmark": Scores(LEAD_TIMES)}),
    )["m"]
    counts = {event: kinds["benchmark"].clips for event, kinds in found.events.items()}
    assert counts == {"flood 2020-06-01T00:00": 10, "flood 2020-06-01T03:00": 10,
                      "hail 2020-06-01T00:00": 3}  # fmt: skip
