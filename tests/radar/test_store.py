"""The frame store: what is written is read, whatever happens in between, and nothing else is."""

import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import HEIGHT, NUMBERS, PRESENT, SEQUENCES, START, WIDTH, MadeUpFrames, write

from nowcast.errors import InputError
from nowcast.radar.store import FrameStore


@pytest.fixture
def store_path(tmp_path):
    path = tmp_path / "rain.h5"
    write(path)
    return path


def test_what_is_written_is_read(store_path):
    store = FrameStore(store_path)
    assert (store.shape, store.step_minutes) == ((HEIGHT, WIDTH), 6)
    assert store.preparation == {"source": "made up"}
    assert [(s.name, s.split, s.metadata, s.first) for s in store.sequences] == [
        ("first place", "train", {"licence": "CC BY 4.0"}, 0),
        ("second place", "valid", {"grid": [4.0, None]}, 30),
    ]
    frames, masks = MadeUpFrames()(NUMBERS)
    for sequence, expected in zip(store.sequences, SEQUENCES, strict=True):
        np.testing.assert_array_equal(sequence.times, expected.times)
        for number, when in enumerate(sequence.times):
            clip = store.read(sequence, when, 1)
            np.testing.assert_array_equal(clip.frames[0], frames[sequence.first + number])
            np.testing.assert_array_equal(clip.mask[0], masks[sequence.first + number])


def test_h5py_alone_reads_a_store_as_the_documentation_says(store_path):
    with h5py.File(store_path) as store:
        assert store["sequences/name"].asstr()[:].tolist() == ["first place", "second place"]
        first, count = store["sequences/first"][1], store["sequences/count"][1]
        frames = store["frames"][first : first + count]
        packed, width = store["masks"][first : first + count], store.attrs["frame_shape"][1]
        masks = np.unpackbits(packed, axis=-1, count=width).astype(bool)
        times = store["times"][first : first + count].astype("datetime64[s]")
        assert json.loads(store["sequences/metadata"].asstr()[0]) == {"licence": "CC BY 4.0"}
        constants = {name: store.attrs[name] for name in ("dbz_per_pixel", "dbz_at_zero", "zr_a")}
    np.testing.assert_array_equal(frames, MadeUpFrames()(NUMBERS[30:])[0])
    np.testing.assert_array_equal(masks, MadeUpFrames()(NUMBERS[30:])[1])
    np.testing.assert_array_equal(times, SEQUENCES[1].times)
    assert constants == {"dbz_per_pixel": 70.0, "dbz_at_zero": -10.0, "zr_a": 58.53}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(-10, 45), st.integers(1, 50), st.sampled_from([6, 12, 18, 60]))
def test_a_clip_is_its_frames_with_zeros_and_no_mask_where_one_is_missing(
    store_path, start, length, step_minutes
):
    store = FrameStore(store_path, step_minutes, subsample=True)
    clip = store.read(store.sequences[0], START + start * 360, length)
    every = step_minutes // 6
    wanted = [start + every * position for position in range(length)]
    np.testing.assert_array_equal(clip.times, START + np.array(wanted) * 360)
    frames, masks = MadeUpFrames()([n + 1 for n in range(40)])
    for position, number in enumerate(wanted):
        if number in PRESENT[:30]:
            np.testing.assert_array_equal(clip.frames[position], frames[number])
            np.testing.assert_array_equal(clip.mask[position], masks[number])
        else:
            assert not clip.frames[position].any()
            assert not clip.mask[position].any()


def test_another_time_step_is_refused_unless_subsampling_is_asked_for(store_path):
    with pytest.raises(InputError, match="every 6 minutes, expected 5"):
        FrameStore(store_path, step_minutes=5, subsample=True)
    with pytest.raises(InputError, match="one of every 2 frames has to be asked for"):
        FrameStore(store_path, step_minutes=12)
    assert FrameStore(store_path, step_minutes=6.0).step_minutes == 6


def test_an_unknown_split_is_refused_with_those_there_are(store_path):
    store = FrameStore(store_path)
    assert [sequence.name for sequence in store.split("valid")] == ["second place"]
    with pytest.raises(InputError, match="no split 'test', found: train, valid"):
        store.split("test")


def _sum_of_clip(store, start):
    return int(store.read(store.sequences[0], start, 25).frames.sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_several_processes_read_one_store_object(store_path, method):
    store = FrameStore(store_path)
    expected = [_sum_of_clip(store, START + n * 360) for n in range(4)]
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        found = list(pool.map(_sum_of_clip, [store] * 4, START + np.arange(4) * 360))
    assert found == expected
    assert _sum_of_clip(pickle.loads(pickle.dumps(store)), START) == expected[0]  # noqa: S301


def _link(store):
    del store["frames"]
    store["frames"] = h5py.ExternalLink("/etc/elsewhere.h5", "/frames")


def _virtual(store):
    layout = h5py.VirtualLayout(shape=store["times"].shape, dtype=np.int64)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "times", shape=store["times"].shape)
    del store["times"]
    store.create_virtual_dataset("times", layout)


def _swap_times(store):
    store["times"][:2] = store["times"][:2][::-1]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda store: store.attrs.update(format="another"), "another kind"),
        (lambda store: store.attrs.update(version=2), "version 2, expected 1"),
        (lambda store: store.attrs.__delitem__("step_minutes"), "damaged"),
        (lambda store: store.attrs.update(preparation="{"), "damaged"),
        (lambda store: store.__delitem__("masks"), "no dataset masks"),
        (lambda store: store.__delitem__("sequences"), "no group sequences"),
        (lambda store: store.__delitem__("sequences/count"), "no dataset sequences/count"),
        (lambda store: store["frames"].resize(35, axis=0), r"found frames as uint8 \(35, 6, 13\)"),
        (lambda store: store["sequences/first"].write_direct(np.array([0, 34])), "outside"),
        (_link, "link"),
        (_virtual, "link"),
        (_swap_times, "strictly increasing"),
    ],
)
def test_a_file_that_is_no_whole_store_is_refused_by_name(store_path, damage, found):
    with h5py.File(store_path, "r+") as store:
        damage(store)
    with pytest.raises(InputError, match=found) as raised:
        FrameStore(store_path)
    assert str(raised.value).startswith(f"{store_path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_store_cut_short_is_refused_by_name(store_path, share):
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"rain\.h5: damaged or no frame store") as raised:
        FrameStore(store_path)
    assert "\n" not in str(raised.value)


def test_a_path_without_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.h5"):
        with pytest.raises(InputError, match="no such file"):
            FrameStore(path)


def test_frames_that_cannot_be_decoded_are_refused_by_name(store_path):
    with h5py.File(store_path, "r+") as store:
        store["frames"].id.write_direct_chunk((5, 0, 0), b"not a deflate stream")
    store = FrameStore(store_path)
    assert store.read(store.sequences[0], START, 3).mask.any()
    with pytest.raises(InputError, match=r"rain\.h5: damaged, frames from 2015-05-23T00:00:00"):
        store.read(store.sequences[0], START, 25)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_store_with_changed_bytes_raises_nothing_but_input_errors(store_path, changes):
    damaged = store_path.with_name("damaged.h5")
    content = bytearray(store_path.read_bytes())
    for share, value in changes:
        content[int(share * (len(content) - 1))] = value
    damaged.write_bytes(bytes(content))
    try:
        store = FrameStore(damaged)
        for sequence in store.sequences:
            store.read(sequence, START, 25)
    except InputError as error:
        assert str(error).startswith(str(damaged))  # noqa: PT017 - harmless changes are read
    finally:
        os.unlink(damaged)
