"""Which clips are drawn: chances and weights against plain restatements."""

import bisect
import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from nowcast.errors import InputError
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_writing import write_store
from nowcast.training.clips import RandomClips
from nowcast.training.sampling import RainyDraw, SamplingSettings, clip_rain

START = np.datetime64("2020-06-01T00:00:00", "s")
RAIN = np.array([0.0, 0.3, 0.0, 0.02, 0.9, 0.001, 0.4, 0.0, 0.05, 0.12])


def every(minutes, numbers):
    return START + np.asarray(numbers) * np.timedelta64(round(60 * minutes), "s")


def write_rain(path, levels, missing=()):
    """A place for each row of levels; a frame's left half has that pixel value, the rest is dry."""
    present = [np.setdiff1d(np.arange(len(row)), missing) for row in levels]

    def frames(references):
        made = np.zeros((len(references), 6, 6), np.uint8)
        for frame, (place, time) in zip(made, references, strict=True):
            frame[:, :3] = levels[place][time]
        return made, np.ones(made.shape, bool)

    write_store(
        path,
        [Sequence(f"place {i}", "train", every(6, times), {}) for i, times in enumerate(present)],
        [(place, int(time)) for place, times in enumerate(present) for time in times],
        frames,
        frame_shape=(6, 6),
        step_minutes=6,
        preparation={"source": "test"},
        fingerprint=path.name,
        workers=1,
    )
    return FrameStore(path)


@pytest.fixture(scope="module")
def rainy(tmp_path_factory):
    levels = np.zeros((2, 30), int)
    levels[0, 4:9] = 140
    levels[1, 20:] = np.arange(100, 200, 10)
    return write_rain(tmp_path_factory.mktemp("rain") / "rain.h5", levels, missing=[6])


def places_and_starts(store, length):
    """Every clip that may be drawn, where no two frames in a row are missing."""
    return [
        (sequence.name, start)
        for sequence in store.sequences
        for start in sequence.times
        if start <= sequence.times[-1] - np.timedelta64(360 * (length - 3), "s")
    ]


def drawn(clips, count):
    return [(sequence.name, start) for _, sequence, start in map(clips.draw, range(count))]


@pytest.mark.parametrize("seed", [0, 7])
def test_uniform_draws_are_those_that_they_always_were(rainy, seed):
    everything = places_and_starts(rainy, 5)
    clips = RandomClips([rainy], "train", 5, seed)
    for index, found in enumerate(drawn(clips, 50)):
        number = np.random.default_rng([seed, index]).integers(len(everything))
        assert found == everything[number]


def test_the_share_that_is_not_rainy_keeps_the_uniform_draws(rainy):
    uniform = drawn(RandomClips([rainy], "train", 5, 3), 4000)
    mixed = drawn(RandomClips([rainy], "train", 5, 3, SamplingSettings(rain_share=0.25)), 4000)
    kept = sum(a == b for a, b in zip(uniform, mixed, strict=True))
    # Three quarters, and a few that were drawn again by chance; four standard deviations are 110.
    assert 2890 < kept < 3400


@given(
    present=st.sets(st.integers(0, 40), min_size=1),
    step=st.integers(1, 3),
    length=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_rain_of_a_clip_is_the_mean_over_its_timestamps_missing_ones_dry(
    present, step, length, seed
):
    numbers = sorted(present)
    rain = np.random.default_rng(seed).random(len(numbers), dtype=np.float32)
    sequence = Sequence("place", "train", every(6, numbers), {}, 0, rain)
    by_number = dict(zip(numbers, rain.astype(float), strict=True))
    found = clip_rain(sequence, sequence.times, length, 6 * step)
    for start, value in zip(numbers, found, strict=True):
        frames = [by_number.get(start + k * step, 0.0) for k in range(length)]
        assert value == pytest.approx(math.fsum(frames) / length, rel=1e-12)


def test_chances_are_a_mixture_and_their_weights_make_means_unbiased():
    draw = RainyDraw(RAIN, share=0.6)
    expected = [0.4 / 10 + 0.6 * s / math.fsum(RAIN) for s in RAIN]
    np.testing.assert_allclose(draw.probabilities, expected, rtol=1e-14)
    assert math.fsum(draw.probabilities) == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(draw.weights, [1 / (10 * p) for p in expected], rtol=1e-14)
    assert draw.weights.max() == pytest.approx(1 / (1 - 0.6), rel=1e-14)
    values = np.random.default_rng(0).normal(size=10)
    weighed = math.fsum(draw.probabilities * draw.weights * values)
    assert weighed == pytest.approx(values.mean(), rel=1e-12)


def test_draws_invert_the_cumulative_rain_and_never_meet_a_dry_clip():
    draw = RainyDraw(RAIN, share=0.999999999)
    cumulative = [math.fsum(RAIN[: i + 1]) for i in range(len(RAIN))]
    for seed in range(500):
        random, again = np.random.default_rng(seed), np.random.default_rng(seed)
        found = draw.replace(0, random)
        again.random()
        assert found == bisect.bisect_right(cumulative, again.random() * cumulative[-1])
        assert RAIN[found] > 0


def test_clips_are_drawn_as_often_as_their_chances_say(rainy):
    """Chances from the frames themselves; a p-value below 0.001 would be chance once in 1000."""
    share, length, count = 0.5, 5, 20_000
    clips = RandomClips([rainy], "train", length, 11, SamplingSettings(rain_share=share))
    everything = places_and_starts(rainy, length)
    by_name = {sequence.name: sequence for sequence in rainy.sequences}
    rain = []
    for name, start in everything:
        frames = rainy.read(by_name[name], start, length).frames.astype(np.float64)
        rate = 10 ** ((70 * frames / 255 - 10 - 10 * np.log10(58.53)) / 15.6)
        rain.append(np.where(frames > 0, 1 - np.exp(-rate), 0).mean())
    chances = (1 - share) / len(rain) + share * np.array(rain) / math.fsum(rain)
    np.testing.assert_allclose(clips.rainy.probabilities, chances, rtol=1e-6)
    found = drawn(clips, count)
    times = [sum(f == clip for f in found) for clip in everything]
    assert sum(times) == count
    assert chisquare(times, count * chances).pvalue > 0.001
    # Weighed, the drawn clips' rain has the mean of all; 4 standard deviations of that estimate.
    weights = 1 / (len(rain) * chances)
    numbers = [everything.index(clip) for clip in found[:5000]]
    weighed = (weights * rain)[numbers]
    assert abs(weighed.mean() - np.mean(rain)) < 4 * weighed.std() / math.sqrt(5000)
    assert abs(np.array(rain)[numbers].mean() - np.mean(rain)) > 0.1 * np.mean(rain)


def test_what_the_draw_does_is_said_in_one_line(caplog):
    with caplog.at_level(logging.INFO, "nowcast"):
        RainyDraw(RAIN, share=0.6).describe()
    p = 0.04 + 0.6 * RAIN / RAIN.sum()
    draws = np.random.default_rng(0).choice(10, size=200_000, p=p)
    w = 1 / (10 * p[draws])
    kish = 100 * w.sum() ** 2 / (w**2).sum() / len(w)
    assert caplog.messages == [
        f"sampling: 10 clips, mean rain {RAIN.mean():.3g} drawn uniformly and {p @ RAIN:.3g} with "
        f"rain_share 0.6; largest weight 2.5, effective sample size {kish:.0f} %"
    ]


def test_a_split_without_rain_is_drawn_from_uniformly_with_a_warning(tmp_path, caplog):
    dry = write_rain(tmp_path / "dry.h5", np.zeros((1, 30), int))
    clips = RandomClips([dry], "train", 5, 0, SamplingSettings(rain_share=0.9))
    assert drawn(clips, 100) == drawn(RandomClips([dry], "train", 5, 0), 100)
    np.testing.assert_allclose(clips.rainy.weights, 1, rtol=1e-14)
    caplog.clear()
    clips.rainy.describe()
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "sampling: none of the 28 clips has rain, all are equally likely")
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rain_share": 1.0}, "rain_share is 1.0, expected at least 0 and less than 1"),
        ({"rain_share": -0.1}, "rain_share is -0.1"),
        ({"rain_share": math.nan}, "rain_share is nan"),
        ({"rain_factor": 0.5}, "rain_factor is 0.5, expected 1 to 10"),
        ({"rain_factor": math.nan}, "rain_factor is nan"),
        ({"crop": 0}, "crop is 0, expected at least 1 pixel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(InputError, match=f"sampling: {said}"):
        SamplingSettings(**wrong)
