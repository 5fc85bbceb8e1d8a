"""The online protocol: when it learns and from what, on the real timestamps and on made-up ones."""

from itertools import groupby

import numpy as np
import pytest
import torch
from made_up_cases import LastFrame, SquaredErrors, film_cases, make_cases, plain_kinds
from made_up_store import write_places

from nowcast.errors import InputError
from nowcast.radar.clips import sequential
from nowcast.radar.static_mask import exclude_mask_as_text
from nowcast.verification.offline import evaluate
from nowcast.verification.online import evaluate_online
from nowcast.verification.online_rule import OnlineStore, clips_of_a_step, online_steps
from nowcast.verification.results import ScoreKinds
from nowcast.verification.target_masks import NoiseRule, as_scored, target_mask_of

INPUTS, LEAD_TIMES, STEP_S = 5, 20, 360


def of_time(seconds):
    """Frames of one pixel that say their own time, within float32, and masks that are all True."""
    steps = torch.tensor([(second // STEP_S) % 2**20 for second in seconds])
    frames = (0.5 + steps.double() / 2**21).float().view(-1, 1, 1, 1)
    return frames, torch.ones(frames.shape, dtype=torch.bool)


def time_of(frames):
    """Seconds, up to a multiple of 2^20 steps, of frames that `of_time` made; None of missing."""
    steps = ((frames.flatten().double() - 0.5) * 2**21).round().long().tolist()
    return [None if step < 0 else step * STEP_S for step in steps]


def modulo(seconds):
    return [(second // STEP_S) % 2**20 * STEP_S for second in seconds]


class Recorder:
    """Notes what it is given to learn from; forecasts as persistence does, and notes when."""

    def __init__(self):
        self.learned, self.diary = [], []

    def __call__(self, inputs, targets, mask):
        assert inputs.shape == (1, INPUTS, 1, 1, 1)
        assert targets.shape == mask.shape == (1, LEAD_TIMES, 1, 1, 1)
        self.learned.append((time_of(inputs), time_of(targets)))
        self.diary.append(("learned", self.learned[-1]))

    def forecast(self, frames, lead_times):
        self.diary.append(("forecast", time_of(frames)))
        return LastFrame().forecast(frames, lead_times)


def run(starts, times, recorder, inputs=INPUTS, lead_times=LEAD_TIMES, **changes):
    wanted = {
        "adapts": {"learns": recorder},
        "lead_times": lead_times,
        "step_minutes": 6,
        "kinds": ScoreKinds(lambda: {"errors": SquaredErrors(lead_times)}),
        "target_mask": NoiseRule(),
    }
    batches = film_cases(times, inputs, lead_times, starts, of_time)
    return evaluate_online({"learns": recorder, "frozen": LastFrame()}, batches, **wanted | changes)


@pytest.fixture(scope="module")
def rainy_valid(shared):
    with np.load(shared / "hko7/timestamps.npz", allow_pickle=False) as published:
        times = published["rainy_valid"].astype("datetime64[s]")
    starts = [(int(start.astype(np.int64)), is_first) for start, is_first in sequential(times)]
    return times.astype(np.int64).tolist(), starts


@pytest.fixture(scope="module")
def on_rainy_valid(rainy_valid):
    times, starts = rainy_valid
    recorder = Recorder()
    return recorder, run(starts, times, recorder)


def test_rainy_valid_makes_1985_steps(rainy_valid, on_rainy_valid):
    _, starts = rainy_valid
    recorder, found = on_rainy_valid
    assert (len(starts), sum(is_first for _, is_first in starts)) == (2166, 45)
    assert len(recorder.learned) == 1985
    assert found["learns"].clips == found["frozen"].clips == 2166
    assert online_steps(is_first for _, is_first in starts) == 1985
    episodes = [0]
    for _, is_first in starts:
        episodes[-1] += 1
        if is_first:
            episodes.append(1)
            episodes[-2] -= 1
    assert sum(max(0, clips - 4) for clips in episodes) - (episodes[-1] > 4) == 1985


def test_each_step_learns_25_frames_in_a_row_all_of_which_were_given(rainy_valid, on_rainy_valid):
    times, starts = rainy_valid
    existing = set(times)
    recorder, _ = on_rainy_valid
    given, steps = [], iter(recorder.learned)
    for start, is_first in starts:
        # A step that is due comes before the clip, whether or not it begins an episode.
        if len(given) == 5:
            seconds = [given[0] + STEP_S * step for step in range(25)]
            there = [
                second if known in existing else None
                for second, known in zip(modulo(seconds), seconds, strict=True)
            ]
            assert next(steps) == (there[:5], there[5:])
            given = given[1:]
        given = [start] if is_first else [*given, start]
    assert next(steps, None) is None


def test_every_forecast_comes_before_its_own_frames_are_learned_from(on_rainy_valid):
    recorder, _ = on_rainy_valid
    given = set()
    for what, content in recorder.diary:
        if what == "forecast":
            assert given.isdisjoint(second for second in content if second is not None)
            given.update(content)
        else:
            # Learned is what was given in earlier forecasts, and nothing else.
            assert given.issuperset(content[0])
            assert given.issuperset(content[1])


def test_learning_apart_the_scores_are_those_of_the_offline_protocol(rainy_valid, on_rainy_valid):
    times, starts = rainy_valid
    batches = film_cases(times, INPUTS, LEAD_TIMES, starts[:300], of_time)
    kinds = ScoreKinds(lambda: {"errors": SquaredErrors(LEAD_TIMES)})
    offline = evaluate({"m": LastFrame()}, batches, lead_times=LEAD_TIMES, kinds=kinds)
    online = run(starts[:300], times, Recorder())
    for name in ("learns", "frozen"):
        np.testing.assert_array_equal(
            online[name].total("errors").sums["squared_error"],
            offline["m"].total("errors").sums["squared_error"],
        )


@pytest.mark.parametrize(("inputs", "lead_times", "clips"), [(5, 20, 5), (5, 5, 2), (1, 3, 4)])
def test_the_number_of_clips_of_a_step_follows_from_the_lead_times(inputs, lead_times, clips):
    assert clips_of_a_step(inputs, lead_times) == clips
    flags = [True, *[False] * 9, True, *[False] * 6, True]
    assert online_steps(flags, inputs, lead_times) == (10 - clips + 1) + (7 - clips + 1)
    # The last clip of all is never followed by one that would let it be learned from.
    assert online_steps(flags[:-1], inputs, lead_times) == (10 - clips + 1) + (7 - clips)


def test_lead_times_that_no_whole_clips_make_are_refused():
    with pytest.raises(InputError, match="found 18 lead times and 5 input frames"):
        clips_of_a_step(5, 18)


def test_the_store_drops_the_oldest_and_a_new_episode_empties_it():
    store = OnlineStore(2)
    seen = []
    for item, is_first in [("a", True), ("b", False), ("c", False), ("d", True), ("e", True)]:
        seen.append(store.due())
        store.add(item, is_first)
    assert seen == [None, None, ["a", "b"], ["b", "c"], None]
    assert store.items == ["e"]


def test_a_clip_that_does_not_follow_the_last_is_refused():
    start = 1_590_969_600
    times = [start + STEP_S * step for step in range(200)]
    for second, message in [
        (start + 6 * STEP_S, "2020-06-01T01:00:00 after one of film from 2020-06-01T00:24:00, "),
        (start + 10 * STEP_S, "expected the next one 30 minutes later: all clips, with a stride"),
    ]:
        with pytest.raises(InputError, match=message):
            run([(start, True), (second, False)], times, Recorder())
    run([(start, True), (start + 10 * STEP_S, True)], times, Recorder())


def test_several_clips_at_once_and_methods_that_are_not_there_are_refused():
    batch = make_cases(torch.Generator().manual_seed(0), 2, 2, 4, 3)
    settings = {
        "lead_times": 4,
        "step_minutes": 6,
        "kinds": plain_kinds(4),
        "target_mask": as_scored,
    }
    with pytest.raises(InputError, match="found 2 clips at once, expected one"):
        evaluate_online({"m": LastFrame()}, [batch], adapts={}, **settings)
    with pytest.raises(InputError, match="found no method 'other' to adapt"):
        evaluate_online({"m": LastFrame()}, [batch], adapts={"other": Recorder()}, **settings)


def test_all_that_adapts_is_given_the_same():
    start = 1_590_969_600
    times = [start + STEP_S * step for step in range(200)]
    starts = [(start + 5 * STEP_S * number, number == 0) for number in range(8)]
    first, second = Recorder(), Recorder()
    evaluate_online(
        {"a": first, "b": second},
        film_cases(times, INPUTS, LEAD_TIMES, starts, of_time),
        adapts={"a": first, "b": second},
        lead_times=LEAD_TIMES,
        step_minutes=6,
        kinds=plain_kinds(LEAD_TIMES),
        target_mask=NoiseRule(),
    )
    assert first.diary == second.diary
    assert [what for what, _ in first.diary] == ["forecast"] * 5 + ["learned", "forecast"] * 3


def test_the_noise_rule_is_the_authors_for_pixel_values():
    """Restated value by value; missing frames are all zero, so they count as dry."""
    stored = torch.arange(256).view(1, 1, 1, 16, 16)
    targets = stored.float() / 255
    exclude = torch.zeros(16, 16, dtype=torch.bool)
    exclude[3, 4] = exclude[9, 9] = True
    nothing = torch.zeros(targets.shape, dtype=torch.bool)
    for rule in (NoiseRule(), NoiseRule(exclude)):
        found = rule(targets, nothing)[0, 0, 0]
        for row in range(16):
            for column in range(16):
                value = (16 * row + column) / 255
                noise = 0 < value < 0.28
                left_out = rule.exclude is not None and bool(exclude[row, column])
                assert bool(found[row, column]) == (not noise and not left_out)
    assert not NoiseRule()(torch.tensor(71 / 255), nothing)
    assert NoiseRule()(torch.tensor(72 / 255), nothing)


def test_the_mask_of_a_step_is_that_of_its_own_frames():
    """Without a noise rule, what is learned from at a time is what is scored at that time."""
    start = 1_590_969_600
    times = [start + STEP_S * step for step in range(200) if step % 7]
    starts = [(start + 5 * STEP_S * number, number == 0) for number in range(9)]

    def sometimes(seconds):
        frames, mask = of_time(seconds)
        mask[[second // STEP_S % 3 == 0 for second in seconds]] = False
        return frames, mask

    seen = []

    def adapt(inputs, targets, mask):
        seen.append((time_of(targets), mask.flatten().tolist()))

    evaluate_online(
        {"m": LastFrame()},
        film_cases(times, INPUTS, LEAD_TIMES, starts, sometimes),
        adapts={"m": adapt},
        lead_times=LEAD_TIMES,
        step_minutes=6,
        kinds=plain_kinds(LEAD_TIMES),
        target_mask=as_scored,
    )
    assert len(seen) == 4
    for seconds, mask in seen:
        first = next(second - STEP_S * k for k, second in enumerate(seconds) if second is not None)
        for step, counts in enumerate(mask):
            second = start - modulo([start])[0] + first + STEP_S * step
            assert counts == (second in times and second // STEP_S % 3 != 0)
    counts = [counts for _, mask in seen for counts, _ in groupby(mask)]
    assert True in counts
    assert False in counts


def test_the_rule_follows_from_how_a_store_was_made(tmp_path, caplog):
    exclude = np.eye(6, dtype=bool)

    def prepared(name, **preparation):
        place = {"somewhere": ("test", np.arange(10))}
        return write_places(tmp_path / f"{name}.h5", place, **preparation)

    hko7 = "archive in the HKO-7 layout"
    text = exclude_mask_as_text(exclude)
    rule = target_mask_of(prepared("with", source=hko7, exclude_mask=text))
    np.testing.assert_array_equal(rule.exclude, exclude)
    assert target_mask_of(prepared("without", source=hko7, exclude_mask=None)).exclude is None
    assert target_mask_of(prepared("events", source="radar events")) is as_scored
    assert "static masks" not in caplog.text
    assert target_mask_of(prepared("old", source=hko7)).exclude is None
    assert "old.h5: prepared before static masks were kept" in caplog.text
