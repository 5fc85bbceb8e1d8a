"""Preparing events: which tiles are stored and what they hold, and what is refused."""

import numpy as np
import pytest
from made_up import write_event

from nowcast.errors import InputError
from nowcast.radar.clips import valid_starts
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import read_event
from nowcast.radar.parts import parts_folder
from nowcast.radar.store import FrameStore

EVENTS = "real-radar/events"


def rainy_event(path, frames=12, side=16, missing=(), seed=0):
    """An event whose western half is wetter than its eastern, its south-east unobserved."""
    random = np.random.default_rng(seed)
    field = random.gamma(0.5, 4.0, (frames, side, side))
    field[:, :, side // 2 :] *= 0.01
    field[:, side // 2 :, side // 2 :] = np.nan
    minutes = [5 * n for n in range(frames) if n not in missing]
    present = [n for n in range(frames) if n not in missing]
    coordinates = np.arange(side) * 1000.0
    return write_event(
        path, field[present], minutes=minutes, name="rain_rate", units="mm h-1",
        x=coordinates, y=coordinates[::-1],
    )  # fmt: skip


SMALL = {"tile_size": 4, "grid_spacing_km": 2.0, "clip_length": 5, "workers": 1}


def test_tiles_are_the_averaged_rain_rate_and_the_dry_and_unobserved_are_left_out(tmp_path):
    path = rainy_event(tmp_path / "a.nc", missing=(3, 4))
    report = prepare_events(
        tmp_path / "s.h5", train=[path], minimum_wet_fraction=0.3, minimum_coverage=0.5, **SMALL
    )
    split = report.splits["train"]
    assert (split.tiles, split.tiles_without_rain, split.tiles_without_coverage) == (2, 1, 1)
    assert (split.frames, split.frames_missing) == (20, 4)
    store = FrameStore(tmp_path / "s.h5", step_minutes=5)
    assert [sequence.name for sequence in store.sequences] == ["a:0,0", "a:4,0"]
    full = np.random.default_rng(0).gamma(0.5, 4.0, (12, 16, 16))
    for sequence, row in zip(store.sequences, (0, 4), strict=True):
        clip = store.read(sequence, sequence.times[0], 12)
        present = clip.mask.all(axis=(1, 2))
        np.testing.assert_array_equal(present, [n not in (3, 4) for n in range(12)])
        rate = full.reshape(12, 8, 2, 8, 2).mean(axis=(2, 4))[:, row : row + 4, :4]
        pixel = (10 * np.log10(58.53) + 15.6 * np.log10(rate) + 10) / 70 * 255
        np.testing.assert_allclose(
            clip.frames[present], np.clip(pixel, 0, 255)[present], rtol=0, atol=0.5 + 1e-6
        )
        assert sequence.metadata["grid_spacing_km"] == 2.0


def test_validation_is_the_end_of_a_training_event_and_shares_no_time_with_it(tmp_path):
    long, short = rainy_event(tmp_path / "a.nc", frames=20), rainy_event(tmp_path / "b.nc", seed=1)
    prepare_events(
        tmp_path / "s.h5", train=[long, short], valid_fraction=0.3,
        minimum_wet_fraction=0.0, **SMALL | {"clip_length": 8},
    )  # fmt: skip
    store = FrameStore(tmp_path / "s.h5")
    of_long = [s for s in store.sequences if s.name.startswith("a:")]
    train = {str(t) for s in of_long if s.split == "train" for t in s.times}
    valid = {str(t) for s in of_long if s.split == "valid" for t in s.times}
    assert (len(train), len(valid)) == (12, 8)
    assert max(train) < min(valid)
    assert {s.split for s in store.sequences if s.name.startswith("b:")} == {"train"}


def test_training_tiles_may_overlap_and_scored_tiles_never_do(tmp_path):
    one, two = rainy_event(tmp_path / "a.nc"), rainy_event(tmp_path / "b.nc", seed=1)
    report = prepare_events(
        tmp_path / "s.h5", train=[one], test=[two], tile_stride=2,
        minimum_coverage=0.0, minimum_wet_fraction=0.0, **SMALL,
    )  # fmt: skip
    assert (report.splits["train"].tiles, report.splits["test"].tiles) == (9, 4)


def test_events_prepared_again_are_recognised_with_any_number_of_workers(tmp_path):
    paths = {"train": [rainy_event(tmp_path / "a.nc")], "test": [rainy_event(tmp_path / "b.nc")]}
    one = prepare_events(tmp_path / "1.h5", **paths, **SMALL)
    prepare_events(tmp_path / "2.h5", **paths, **SMALL | {"workers": 2})
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    again = prepare_events(tmp_path / "1.h5", **paths, **SMALL)
    assert again.already_there
    assert again.splits == one.splits
    assert not parts_folder(tmp_path / "1.h5").exists()


def test_events_that_do_not_fit_are_refused_before_the_store_is_touched(tmp_path):
    path, out = rainy_event(tmp_path / "a.nc"), tmp_path / "s.h5"
    for arguments, found in (
        ({"train": []}, "no event"),
        ({"train": [path], "test": [path]}, "given twice"),
        ({"train": [path], "clip_length": 25}, r"a\.nc: found 12 time steps, expected at least 25"),
        ({"train": [path], "grid_spacing_km": 1.5}, r"a\.nc: found a grid spacing of 1 km"),
        ({"train": [path], "step_minutes": 6}, r"a\.nc: found frames every 5 minutes"),
        ({"train": [path], "tile_stride": 0}, "stride of 0"),
        ({"train": [path], "minimum_wet_fraction": 1.0}, r"a\.nc: found 1 tiles too little"),
        ({"train": [path], "valid_fraction": 2.0}, "valid_fraction: found 2.0"),
    ):
        with pytest.raises(InputError, match=found):
            prepare_events(out, **SMALL | arguments)
        assert not out.exists()


def test_an_event_smaller_than_a_tile_is_named_before_anything_is_made(tmp_path):
    large, small = rainy_event(tmp_path / "a.nc", side=32), rainy_event(tmp_path / "b.nc", side=14)
    for split in ("train", "test"):
        with pytest.raises(InputError, match=r"b\.nc: .*side of 7 pixels, expected at least 8"):
            prepare_events(
                tmp_path / "s.h5", **{"train": [large], split: [small]}, **SMALL | {"tile_size": 8}
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc", "b.nc"]


def test_events_of_one_name_are_refused_before_they_are_read(tmp_path):
    one, other = tmp_path / "2010/rain.nc", tmp_path / "2011/rain.nc"
    with pytest.raises(InputError, match="expected names that differ") as raised:
        prepare_events(tmp_path / "s.h5", train=[one], test=[other], **SMALL)
    assert str(one) in str(raised.value)
    assert str(other) in str(raised.value)


def tree(folder):
    return {path: path.stat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("event", "out"),
    [
        ("e.zarr", "e.zarr/s.h5"),
        ("e.zarr", "e.zarr/deep/s.h5"),
        ("e.zarr", "e.zarr"),
        ("e.zarr", "linked/s.h5"),
        ("images/../e.zarr", "images/../e.zarr/rain_rate/s.h5"),
        ("s.h5.parts", "s.h5"),
        ("a.nc", "a.nc"),
        ("a.nc", "linked.nc"),
        ("s.h5.parts/event-1.h5", "s.h5"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_is_not_written_into_its_events(tmp_path, event, out, overwrite):
    for folder in ("e.zarr", "images", "s.h5.parts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".zgroup").write_text('{"zarr_format": 2}')
    rainy_event(tmp_path / "a.nc")
    rainy_event(tmp_path / "s.h5.parts/event-1.h5")
    (tmp_path / "linked").symlink_to("e.zarr")
    (tmp_path / "linked.nc").symlink_to("a.nc")
    before = tree(tmp_path)
    out, event = tmp_path / out, tmp_path / event
    with pytest.raises(InputError) as raised:
        prepare_events(out, train=[event], overwrite=overwrite, **SMALL)
    assert str(raised.value).startswith(f"{out}: found the event {event}")
    assert tree(tmp_path) == before


def test_a_store_may_lie_beside_its_events_and_share_the_start_of_their_names(tmp_path):
    path = rainy_event(tmp_path / "s.nc")
    settings = SMALL | {"minimum_wet_fraction": 0.0, "minimum_coverage": 0.0}
    prepare_events(tmp_path / "s.nc.h5", train=[path], **settings)
    assert len(FrameStore(tmp_path / "s.nc.h5").sequences) == 4


def test_a_store_keeps_the_settings_that_decide_its_splits(tmp_path):
    prepare_events(
        tmp_path / "s.h5", train=[rainy_event(tmp_path / "a.nc", frames=20)], valid_fraction=0.3,
        step_minutes=10, subsample=True, **SMALL,
    )  # fmt: skip
    kept = FrameStore(tmp_path / "s.h5").preparation
    assert {key: kept[key] for key in ("valid_fraction", "clip_length", "subsample")} == {
        "valid_fraction": 0.3, "clip_length": 5, "subsample": True,
    }  # fmt: skip


def test_real_events_keep_the_wet_and_observed_tiles(shared, tmp_path):
    folder = shared / EVENTS
    report = prepare_events(
        tmp_path / "s.h5",
        train=[folder / "knmi_20100826.nc"],
        valid_fraction=0.25,
        test=[folder / "fmi_20170509.nc"],
        workers=1,
    )
    assert {name: split.tiles for name, split in report.splits.items()} == {
        "train": 1, "valid": 1, "test": 2,
    }  # fmt: skip
    store = FrameStore(tmp_path / "s.h5", step_minutes=5)
    (valid,) = store.split("valid")
    assert valid.times[0] in valid_starts(valid.times, step_minutes=5)
    assert valid.times[0] - store.split("train")[0].times[-1] == np.timedelta64(300, "s")
    sequence = store.split("test")[1]
    row, column = sequence.metadata["row"], sequence.metadata["column"]
    frames, mask, _ = read_event(folder / "fmi_20170509.nc")
    top, left = (1226 % 4) // 2 + 4 * row, 4 * column
    tile = np.s_[:, top : top + 480, left : left + 480]
    cells = mask[tile].reshape(40, 120, 4, 120, 4).mean(axis=(2, 4))
    clip = store.read(sequence, sequence.times[0], 40)
    np.testing.assert_array_equal(clip.mask, cells >= 0.5)
    rate = 10 ** ((frames[tile] / 255 * 70 - 10 - 10 * np.log10(58.53)) / 15.6)
    total = (rate * mask[tile]).reshape(40, 120, 4, 120, 4).sum(axis=(2, 4))
    average = total / np.maximum(cells * 16, 1)
    stored = 10 ** ((clip.frames / 255 * 70 - 10 - 10 * np.log10(58.53)) / 15.6)
    wet = clip.mask & (stored > 0.5)
    # Both sides are rounded to 256 pixel values, ± 2 % in rain rate each, and dry pixels, pixel
    # value 0, are taken for the 0.017 mm/h that it stands for.
    np.testing.assert_allclose(average[wet], stored[wet], rtol=0.042, atol=0.017)
