"""The frame store: what is written is read, whatever happens in between, and nothing else is."""

import math
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import HEIGHT, NUMBERS, PRESENT, SEQUENCES, START, WIDTH, MadeUpFrames
from made_up_stores import set_text, sign, write_compressed

from nowcast.errors import InputError
from nowcast.radar import store_in_memory
from nowcast.radar.codecs import CODECS
from nowcast.radar.saturated_rain import mean_saturated_rain
from nowcast.radar.store import FrameStore


@pytest.fixture(params=CODECS)
def any_store_path(tmp_path, request):
    return write_compressed(tmp_path / "rain.h5", request.param)


@pytest.fixture
def store_path(tmp_path):
    return write_compressed(tmp_path / "rain.h5", "lz4")


def test_what_is_written_is_read(any_store_path):
    store = FrameStore(any_store_path)
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


def test_a_sequence_knows_the_rain_of_its_frames(store_path):
    first, second = FrameStore(store_path).sequences
    assert (len(first.rain), len(second.rain)) == (30, 6)
    expected = mean_saturated_rain(*MadeUpFrames()(NUMBERS))
    assert len(set(expected.tolist())) > 30
    np.testing.assert_array_equal(np.concatenate([first.rain, second.rain]), expected)
    assert not SEQUENCES[0].rain.size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(-10, 45), st.integers(1, 50), st.sampled_from([6, 12, 18, 60]))
def test_a_clip_is_its_frames_with_zeros_and_no_mask_where_one_is_missing(
    any_store_path, start, length, step_minutes
):
    store = FrameStore(any_store_path, step_minutes, subsample=True)
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


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_read_before_is_read_on_after_a_fork(store_path):
    for in_memory in (False, True):
        store = FrameStore(store_path, in_memory=in_memory)
        expected = [_sum_of_clip(store, START + n * 360) for n in range(8)]
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
            found = list(pool.map(_sum_of_clip, [store] * 8, START + np.arange(8) * 360))
        assert found == expected


def test_several_threads_read_one_store_object(any_store_path):
    starts = [START + n * 360 for n in range(-5, 40)] * 8
    expected = [_sum_of_clip(FrameStore(any_store_path), start) for start in starts[:45]] * 8
    store = FrameStore(any_store_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_sum_of_clip, [store] * len(starts), starts)) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(-30, 45), st.integers(1, 50), st.sampled_from([6, 12, 18]), st.integers(0, 1))
def test_clips_from_memory_are_those_from_disk(any_store_path, start, length, step, place):
    disk = FrameStore(any_store_path, step, subsample=True)
    memory = FrameStore(any_store_path, step, subsample=True, in_memory=True)
    clips = [s.read(s.sequences[place], START + start * 360, length) for s in (disk, memory)]
    for on_disk, in_memory in zip(*clips, strict=True):
        assert on_disk.dtype == in_memory.dtype
        np.testing.assert_array_equal(on_disk, in_memory)


def test_frames_in_memory_are_not_read_from_disk_again(store_path):
    store = FrameStore(store_path, in_memory=True)
    expected = store.read(store.sequences[0], START, 25).frames
    with h5py.File(store_path, "r+") as file:
        for number in range(6):
            file["frames"].id.write_direct_chunk((number * 5, 0, 0), b"!")
    clip = store.read(store.sequences[0], START, 25)
    np.testing.assert_array_equal(clip.frames, expected)
    clip.frames[:] = 7
    np.testing.assert_array_equal(store.read(store.sequences[0], START, 25).frames, expected)


def test_an_unpickled_store_reads_anew_and_only_the_same_file(store_path):
    store = FrameStore(store_path, in_memory=True)
    pickled = pickle.dumps(store)
    assert len(pickled) < len(pickle.dumps(FrameStore(store_path))) + 100
    again = pickle.loads(pickled)  # noqa: S301
    assert again.in_memory
    np.testing.assert_array_equal(
        again.read(again.sequences[0], START, 25).mask, store.read(store.sequences[0], START, 25)[1]
    )
    write_compressed(store_path, "gzip")
    with pytest.raises(InputError, match=r"rain\.h5: found a changed file"):
        pickle.loads(pickled)  # noqa: S301
    store_path.unlink()
    with pytest.raises(InputError, match=r"rain\.h5: cannot be read any more \(No such file"):
        pickle.loads(pickled)  # noqa: S301
    assert store.read(store.sequences[0], START, 25).mask.any()


def test_frames_that_do_not_fit_into_memory_are_refused_with_their_size(store_path, monkeypatch):
    needed = 36 * HEIGHT * (WIDTH + 2)
    monkeypatch.setattr(store_in_memory, "available_bytes", lambda: needed)
    FrameStore(store_path, in_memory=True)
    monkeypatch.setattr(store_in_memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(InputError, match=rf"memory available, expected {needed:,} for all frames"):
        FrameStore(store_path, in_memory=True)
    monkeypatch.setattr(store_in_memory, "available_bytes", lambda: None)
    FrameStore(store_path, in_memory=True)


def test_the_memory_available_is_what_the_kernel_says():
    with open("/proc/meminfo") as lines:
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
    assert 0 < store_in_memory.available_bytes() <= kilobytes["MemTotal:"] * 1024


def _link(store):
    del store["frames"]
    store["frames"] = h5py.ExternalLink("/etc/elsewhere.h5", "/frames")


def _virtual(store):
    layout = h5py.VirtualLayout(shape=store["times"].shape, dtype=np.int64)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "times", shape=store["times"].shape)
    del store["times"]
    store.create_virtual_dataset("times", layout)


def _linked_group(store):
    del store["sequences"]
    store["sequences"] = h5py.ExternalLink("elsewhere.h5", "/sequences")


def _external(store):
    del store["times"]
    store.create_dataset("times", (36,), np.int64, external=[("/etc/hostname", 0, 36 * 8)])


def _change(name, change):
    def damage(store):
        values = store[name][()]
        change(values)
        store[name][...] = values

    return damage


def _replace(name, **settings):
    def damage(store):
        values = None if "data" in settings else store[name][()]
        del store[name]
        store.create_dataset(name, **{"data": values, **settings})

    return damage


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda store: set_text(store, "format", "another"), "another kind"),
        (lambda store: store.attrs.update(version=1), "version 1, expected 2: prepare it again"),
        (lambda store: store.attrs.update(fingerprint="abc"), "attribute fingerprint as object"),
        (lambda store: store.attrs.update(zr_a=np.float32(200)), "attribute zr_a as float32"),
        (lambda store: store.attrs.__delitem__("format"), "another kind"),
        (lambda store: store.attrs.__delitem__("step_minutes"), "no attribute step_minutes"),
        (lambda store: store.attrs.__delitem__("checksum"), "no attribute checksum"),
        (lambda store: set_text(store, "preparation", "{"), "damaged"),
        (lambda store: store.attrs.update(step_minutes=-6.0), "step_minutes: found -6"),
        (lambda store: store.attrs.update(step_minutes=math.nan), "step_minutes: found nan"),
        (lambda store: store.attrs.update(step_minutes=1e17), "1e\\+17 minutes, expected at most"),
        (lambda store: set_text(store, "compression", "zip"), "found 'zip', expected one of lz4"),
        (lambda store: set_text(store, "compression", "gzip"), r"filters \(32004,\), expected"),
        (lambda store: store.attrs.update(frames_per_chunk=10), "checksums/frames, expected 4"),
        (lambda store: store.attrs.update(frames_per_chunk=0), "found chunks of 0 frames"),
        (lambda store: store.attrs.update(frames_per_chunk=2**30), "expected from 1 to 1073741824"),
        (lambda store: store.attrs.update(frame_shape=(6, 14)), "expected uint8"),
        (lambda store: store.attrs.update(frame_shape=(6, 13, 1)), r"frame_shape as int64 \(3,\)"),
        (lambda store: store.__delitem__("masks"), "no dataset masks"),
        (lambda store: store.__delitem__("rain"), "no dataset rain"),
        (lambda store: store.__delitem__("sequences"), "no dataset sequences/first"),
        (lambda store: store.__delitem__("sequences/count"), "no dataset sequences/count"),
        (_replace("times", dtype=">i8"), "times as >i8 .*, expected int64"),
        (_replace("times", dtype=np.int32), "times as int32"),
        (_replace("times", chunks=(36,)), "not in the file in one piece"),
        (_replace("times", data=np.zeros((36, 1), np.int64)), "found times as"),
        (_replace("rain", data=np.zeros(35, np.float32)), "found 35 values of rain, expected 36"),
        (_replace("checksums/masks", data=np.zeros(7, np.uint32)), "expected 8"),
        (
            _replace("sequences/split", data=np.array([b"train"])),
            "found 1 values of sequences/split",
        ),
        (_replace("sequences/name", data=["a", "b"], dtype=h5py.string_dtype()), "expected text"),
        (
            _replace("frames", data=np.zeros((36, 6, 13), np.uint8), chunks=(5, 6, 13)),
            r"with filters \(\), expected",
        ),
        (
            _replace("frames", data=np.zeros((36, 6, 13), np.uint8), chunks=(6, 6, 13)),
            r"in chunks of \(6, 6, 13\)",
        ),
        (_replace("frames", data=np.zeros((35, 6, 13), np.uint8)), r"uint8 \(35, 6, 13\)"),
        (_change("sequences/first", lambda first: first.put(1, 29)), "one after the other"),
        (_change("sequences/count", lambda count: count.put(1, 5)), "not those of the 36 frames"),
        (_change("sequences/count", lambda count: count.put([0, 1], [37, -1])), "not those of"),
        (_change("rain", lambda rain: rain.put(3, math.nan)), "rain outside of 0 to 1"),
        (_change("rain", lambda rain: rain.put(3, 1.5)), "rain outside of 0 to 1"),
        (_change("sequences/metadata", lambda texts: texts.put(0, b"{")), "damaged"),
        (_change("sequences/metadata", lambda texts: texts.put(0, b"[1]")), "that is no object"),
        (lambda store: set_text(store, "preparation", "[" * 99_999), "damaged"),
        (_link, "found frames as a link"),
        (_linked_group, "found sequences as a link"),
        (_virtual, "found times as a group or link"),
        (_external, "found times as a group or link"),
        (_change("times", lambda times: times.put([0, 1], times[[1, 0]])), "strictly increasing"),
    ],
)
def test_a_file_that_is_no_whole_store_is_refused_by_name(store_path, damage, found):
    with h5py.File(store_path, "r+") as store:
        damage(store)
        if "checksum" in store.attrs:
            with suppress(KeyError):  # What is not there cannot be signed.
                sign(store)
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


@pytest.mark.parametrize(
    "change",
    [
        _change("times", lambda times: times.put(35, times[35] + 360)),
        _change("rain", lambda rain: rain.put(3, 0.5)),
        _change("checksums/frames", lambda sums: sums.put(0, 1)),
        _change("checksums/masks", lambda sums: sums.put(0, 1)),
        _change("sequences/name", lambda names: names.put(1, b"third place")),
        _change("sequences/split", lambda splits: splits.put(1, b"test")),
        _change("sequences/metadata", lambda texts: texts.put(1, b"{}")),
        lambda store: store.attrs.update(step_minutes=5.0),
        lambda store: store.attrs.update(zr_a=200.0),
        lambda store: store.attrs.update(dbz_at_zero=-9.0),
        lambda store: set_text(store, "preparation", "{}"),
        lambda store: set_text(store, "fingerprint", "abd"),
    ],
)
def test_a_store_of_which_anything_but_frames_has_changed_is_refused(store_path, change):
    with h5py.File(store_path, "r+") as store:
        change(store)
    with pytest.raises(InputError, match=r"rain\.h5: damaged, found times, rain.* with CRC-32"):
        FrameStore(store_path)


def test_the_checksum_of_the_contents_is_that_of_the_documentation(store_path):
    with h5py.File(store_path, "r+") as store:
        before = store.attrs["checksum"]
        sign(store)
        assert store.attrs["checksum"] == before


def test_frames_that_cannot_be_decoded_are_refused_by_name(store_path):
    with h5py.File(store_path, "r+") as store:
        store["frames"].id.write_direct_chunk((5, 0, 0), b"not an LZ4 chunk")
    for start in (0, 5):
        store = FrameStore(store_path)
        assert store.read(store.sequences[0], START, 3).mask.any()
        with pytest.raises(InputError, match=r"rain\.h5: damaged, frames from 2015-05-23T00:42:00"):
            store.read(store.sequences[0], START + start * 360, 25)
    with pytest.raises(InputError, match=r"rain\.h5: damaged, frames or masks cannot be read"):
        FrameStore(store_path, in_memory=True)


def test_a_chunk_that_was_never_written_or_is_too_large_is_refused(tmp_path, store_path):
    with h5py.File(store_path, "r+") as store:
        store["frames"].id.write_direct_chunk((0, 0, 0), bytes(2000))
        del store["masks"]
        store.create_dataset(
            "masks", (36, 6, 2), np.uint8, chunks=(5, 6, 2), **CODECS["lz4"].dataset_settings
        )
    store = FrameStore(store_path)
    with pytest.raises(InputError, match="found a chunk of 2000 bytes, expected at most 390"):
        store.read(store.sequences[0], START, 1)
    with pytest.raises(InputError, match="found no such chunk in the file"):
        store.read(store.sequences[1], START, 1)


def test_chunks_without_their_filter_are_refused(store_path):
    with h5py.File(store_path, "r+") as store:
        store["frames"].id.write_direct_chunk((0, 0, 0), bytes(390), filter_mask=1)
    with pytest.raises(InputError, match="found chunks of /frames without its filter"):
        FrameStore(store_path)
