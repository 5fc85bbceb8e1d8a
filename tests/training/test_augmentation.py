"""Flips, quarter turns, crops and reversals against enumerations; rain rates by definition."""

import math
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chisquare, kstest, uniform

from nowcast.errors import InputError
from nowcast.models.encoder_forecaster import NetworkSettings
from nowcast.training.augmentation import augment, check_crop, shape_in_training, with_rain
from nowcast.training.clips import RandomClips
from nowcast.training.sampling import SamplingSettings

SQUARE = np.arange(25, dtype=np.uint8).reshape(5, 5)


def clip_of(frame, length=3):
    """Frames that differ from one to the next, and a mask that follows from them."""
    frames = np.stack([frame + 50 * time for time in range(length)]).astype(np.uint8)
    return frames, frames % 3 == 0


def by_coordinates(frame, swap, down, right):
    """A symmetry of the square, pixel by pixel: mirrored axes, then perhaps exchanged ones."""
    last = len(frame) - 1
    image = np.empty_like(frame)
    for y, x in product(range(len(frame)), repeat=2):
        to_y, to_x = (last - y if down else y), (last - x if right else x)
        image[(to_x, to_y) if swap else (to_y, to_x)] = frame[y, x]
    return image


MIRRORED = [by_coordinates(SQUARE, False, *way) for way in product((False, True), repeat=2)]
TURNED = [
    by_coordinates(SQUARE, *way)
    for way in (
        (False, False, False),
        (True, True, False),
        (False, True, True),
        (True, False, True),
    )
]
ALL_EIGHT = [by_coordinates(SQUARE, *way) for way in product((False, True), repeat=3)]


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"flips": True}, MIRRORED),
        ({"quarter_turns": True}, TURNED),
        ({"flips": True, "quarter_turns": True}, ALL_EIGHT),
        ({}, [SQUARE]),
    ],
)
def test_every_symmetry_asked_for_is_equally_likely(settings, images):
    """A p-value below 0.001 would be chance once in 1000."""
    random = np.random.default_rng(5)
    found = Counter(
        augment(clip_of(SQUARE), SamplingSettings(**settings), random)[0][0].tobytes()
        for _ in range(1600)
    )
    expected = {image.tobytes() for image in images}
    assert len(expected) == len(images)
    assert found.keys() == expected
    if len(images) > 1:
        assert chisquare(list(found.values())).pvalue > 0.001


def test_all_frames_and_masks_of_a_clip_are_changed_alike_and_the_clip_is_left_alone():
    settings = SamplingSettings(flips=True, quarter_turns=True, crop=3)
    clip = clip_of(SQUARE)
    for seed in range(50):
        frames, mask = augment(clip, settings, np.random.default_rng(seed))
        assert frames.shape == mask.shape == (3, 3, 3)
        np.testing.assert_array_equal(frames, clip_of(frames[0])[0])
        np.testing.assert_array_equal(mask, frames % 3 == 0)
    np.testing.assert_array_equal(clip[0], clip_of(SQUARE)[0])


def test_crops_are_uniform_over_all_places_inside_the_frame():
    frame = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)
    random = np.random.default_rng(2)
    found = Counter()
    for _ in range(3000):
        crop = augment(clip_of(frame), SamplingSettings(crop=5), random)[0][0]
        top, left = divmod(int(crop[0, 0]), 9)
        np.testing.assert_array_equal(crop, frame[top : top + 5, left : left + 5])
        found[top, left] += 1
    assert found.keys() == set(product(range(3), range(5)))
    assert chisquare(list(found.values())).pvalue > 0.001


def test_what_is_drawn_for_one_change_does_not_depend_on_the_others():
    for seed in range(20):
        crop, both = (
            augment(clip_of(SQUARE), SamplingSettings(crop=3, flips=flips), random)[0][0]
            for flips, random in (
                (False, np.random.default_rng(seed)),
                (True, np.random.default_rng(seed)),
            )
        )
        whole = augment(clip_of(SQUARE), SamplingSettings(flips=True), np.random.default_rng(seed))[
            0
        ][0]
        down, across = whole[0, 0] > 5, whole[0, 0] % 5 > 0
        np.testing.assert_array_equal(both, crop[:: -1 if down else 1, :: -1 if across else 1])


def test_clips_run_backwards_half_of_the_time():
    clip = clip_of(SQUARE)
    random = np.random.default_rng(7)
    backwards = 0
    for _ in range(1600):
        frames, mask = augment(clip, SamplingSettings(reversals=True), random)
        if frames[0, 0, 0] == 0:
            np.testing.assert_array_equal(frames, clip[0])
        else:
            np.testing.assert_array_equal(frames, clip[0][::-1])
            backwards += 1
        np.testing.assert_array_equal(mask, frames % 3 == 0)
    assert chisquare([backwards, 1600 - backwards]).pvalue > 0.001


def test_rain_rates_of_a_clip_are_multiplied_by_one_factor():
    """Rain rates by the definition of pixel values, to the half step that storing rounds by."""
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    mask = stored > 3
    logarithms = []
    random = np.random.default_rng(8)
    for _ in range(400):
        frames, left = augment((stored, mask), SamplingSettings(rain_factor=4.0), random)
        np.testing.assert_array_equal(left, mask)
        assert frames.dtype == np.uint8
        assert frames[0, 0, 0] == 0
        inside = (frames > 0) & (frames < 255) & (stored > 0)
        # dBZ = 70 p − 10 and Z = 58.53 R^1.56: what is added to p is 15.6 log10(factor) / 70.
        added = (frames[inside].astype(float) - stored[inside]) / 255
        logarithm = np.median(added) * 70 / 15.6
        np.testing.assert_allclose(added, logarithm * 15.6 / 70, atol=1.01 / 255)
        lost = stored[(frames == 0) & (stored > 0)]
        assert (lost / 255 + logarithm * 15.6 / 70 < 1.01 / 255).all()
        logarithms.append(logarithm)
    limit = math.log10(4)
    assert kstest(logarithms, uniform(-limit, 2 * limit).cdf).pvalue > 0.001
    np.testing.assert_array_equal(with_rain(stored, 1.0), stored)


def test_changes_leave_which_clips_are_drawn_and_follow_from_seed_and_number(store):
    settings = SamplingSettings(
        flips=True, quarter_turns=True, crop=18, reversals=True, rain_factor=3.0
    )
    plain = RandomClips([store], "train", 25, seed=4)
    changed = RandomClips([store], "train", 25, seed=4, sampling=settings)
    again = RandomClips([store], "train", 25, seed=4, sampling=settings)
    different = 0
    for index in (5, 3, 8, 3):
        assert plain.draw(index) == changed.draw(index)
        expected = augment(plain.fields(index), settings, np.random.default_rng([4, index, 1]))
        for fields, tensor, other in zip(expected, changed[index], again[index], strict=True):
            assert tensor.shape == (25, 1, 18, 18)
            np.testing.assert_array_equal(tensor[:, 0].numpy(), fields)
            np.testing.assert_array_equal(tensor, other)
        different += (changed[index][0] != plain[index][0][..., :18, :18]).any()
    assert different


def a_store(height, width):
    return SimpleNamespace(path=Path("rain.h5"), shape=(height, width))


def test_the_shape_that_training_sees():
    assert shape_in_training(a_store(120, 90), SamplingSettings(flips=True)) == (120, 90)
    assert shape_in_training(a_store(120, 90), SamplingSettings(crop=60)) == (60, 60)
    cropped_and_turned = SamplingSettings(crop=90, quarter_turns=True)
    assert shape_in_training(a_store(120, 90), cropped_and_turned) == (90, 90)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quarter_turns": True}, r"rain\.h5: frames are 120 × 90, expected square ones"),
        ({"crop": 91}, r"rain\.h5: frames are 120 × 90, expected at least the 91 × 91"),
    ],
)
def test_frames_that_cannot_be_changed_so_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        shape_in_training(a_store(120, 90), SamplingSettings(**settings))


def test_crops_need_a_network_for_any_grid():
    anywhere, told = NetworkSettings(coordinates=False), NetworkSettings()
    check_crop(anywhere, SamplingSettings(crop=64))
    check_crop(told, SamplingSettings(flips=True))
    with pytest.raises(InputError, match=r"crop is 60 for a network with coordinate channels"):
        check_crop(told, SamplingSettings(crop=60))
