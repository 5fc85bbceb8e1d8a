"""Which clips exist: the benchmark's published counts, and the rule for any list of timestamps."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.clips import sequential, step_in_seconds, valid_starts

MINUTE = np.timedelta64(60, "s")


def plain_is_valid(existing, start, length, step, max_missing):
    run = found = 0
    for position in range(length):
        if start + position * step in existing:
            run, found = 0, found + 1
        else:
            run += 1
        if run > max_missing:
            return False
    return found > 0


def plain_sequential(minutes, length, stride, step, max_missing):
    """The rule as its authors describe it, one timestamp after the other."""
    existing, clips = set(minutes), []
    if not minutes:
        return clips
    start, new_episode = minutes[0], True
    while start <= minutes[-1]:
        if plain_is_valid(existing, start, length, step, max_missing):
            clips.append((start, new_episode))
            start, new_episode = start + stride * step, False
        else:
            later = [minute for minute in minutes if minute > start]
            if not later:
                break
            start, new_episode = later[0], True
    return clips


def as_times(minutes):
    return np.datetime64("2009-12-31T22:00", "s") + np.array(minutes, dtype=np.int64) * MINUTE


@st.composite
def timestamps(draw):
    """Mostly regular times with gaps of any length, some of them off the grid."""
    step = draw(st.sampled_from([1, 5, 6]))
    frames = draw(st.lists(st.booleans() | st.just(True), max_size=90))
    minutes = {step * position for position, present in enumerate(frames) if present}
    minutes |= set(draw(st.lists(st.integers(0, 600), max_size=12)))
    return sorted(minutes), step


@given(
    timestamps(),
    st.integers(1, 12),
    st.integers(1, 7),
    st.integers(0, 4),
)
@example(([], 6), 5, 5, 2)
@example(([0], 6), 25, 5, 30)
@example(([0, 6, 12], 6), 3, 1, 0)
def test_sequential_and_random_starts_follow_the_rule_for_any_timestamps(
    minutes_and_step, length, stride, max_missing
):
    minutes, step = minutes_and_step
    times = as_times(minutes)
    clips = list(sequential(times, length, stride, step, max_missing))
    expected = plain_sequential(minutes, length, stride, step, max_missing)
    assert [(start, new) for start, new in clips] == [
        (as_times([minute])[0], new) for minute, new in expected
    ]
    starts = valid_starts(times, length, step, max_missing)
    plain = [m for m in minutes if plain_is_valid(set(minutes), m, length, step, max_missing)]
    np.testing.assert_array_equal(starts, as_times(plain))


def test_rainy_valid_has_2166_clips_in_45_episodes(shared):
    times = np.load(shared / "hko7/timestamps.npz", allow_pickle=False)["rainy_valid"]
    clips = list(sequential(times))
    episodes = [str(start) for start, new_episode in clips if new_episode]
    assert (len(clips), len(episodes)) == (2166, 45)
    assert episodes[:4] == [
        "2009-03-01T00:00:00",
        "2009-05-19T00:00:00",
        "2009-06-15T00:00:00",
        "2009-07-25T00:00:00",
    ]
    # Online steps of the benchmark: clips - 4 in each episode, less one for the last.
    first_clips = [number for number, (_, new) in enumerate(clips) if new] + [len(clips)]
    assert sum(max(0, b - a - 4) for a, b in pairwise(first_clips)) - 1 == 1985


def test_valid_starts_of_192168_timestamps_follow_the_rule(shared):
    times = np.load(shared / "hko7/timestamps.npz", allow_pickle=False)["rainy_train"]
    assert len(times) == 192_168
    starts = valid_starts(times)
    chosen = np.random.default_rng(0).choice(len(times), 500, replace=False)
    existing = set(times.astype("datetime64[s]").astype(np.int64).tolist())
    found = np.isin(times[chosen].astype("datetime64[s]"), starts)
    plain = [
        plain_is_valid(existing, int(t), 25, 360, 2)
        for t in times[chosen].astype("datetime64[s]").astype(np.int64)
    ]
    np.testing.assert_array_equal(found, plain)


def test_a_start_may_fall_on_a_missing_frame_and_a_clip_may_lack_its_last_two():
    minutes = [6 * position for position in range(28) if position != 5]
    clips = list(sequential(as_times(minutes)))
    assert clips == [(as_times([0])[0], True), (as_times([30])[0], False)]
    assert len(valid_starts(as_times(minutes))) == 5


def test_no_valid_clip_gives_nothing():
    times = as_times([0, 100, 200])
    assert list(sequential(times)) == []
    assert valid_starts(times).dtype == "datetime64[s]"
    assert valid_starts(times).size == 0
    assert valid_starts(np.array([], dtype="datetime64[m]")).size == 0


@pytest.mark.parametrize("minutes", [[0, 0], [6, 0], [0, 12, 6]])
def test_times_that_do_not_increase_are_refused(minutes):
    with pytest.raises(InputError, match="strictly increasing"):
        valid_starts(as_times(minutes))
    with pytest.raises(InputError, match="strictly increasing"):
        list(sequential(as_times(minutes)))


def test_numbers_that_make_no_sense_are_refused():
    times = as_times([0, 6])
    for wrong in ({"length": 0}, {"max_missing": -1}, {"step_minutes": 0}, {"stride": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            list(sequential(times, **wrong))
    with pytest.raises(InputError, match="whole seconds"):
        step_in_seconds(0.001)
    assert step_in_seconds(2.5) == 150
