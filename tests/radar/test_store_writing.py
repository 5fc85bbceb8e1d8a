"""Writing a frame store: the same whatever interrupts it, and nothing half-written."""

import hashlib
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from made_up import (
    HEIGHT,
    NUMBERS,
    START,
    WIDTH,
    Counting,
    Interrupted,
    Killed,
    MadeUpFrames,
    write,
)
from made_up_stores import write_compressed

from nowcast.errors import InputError
from nowcast.radar import store_writing
from nowcast.radar.codecs import CODECS
from nowcast.radar.parts import parts_folder
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_verification import verify_store
from nowcast.radar.store_writing import already_prepared, write_store


@pytest.fixture
def store_path(tmp_path):
    path = tmp_path / "rain.h5"
    write(path)
    return path


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_store_is_the_same_whatever_the_number_of_workers(store_path, tmp_path):
    write(tmp_path / "other.h5", workers=2)
    assert digest(tmp_path / "other.h5") == digest(store_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.h5", "rain.h5"]


@pytest.mark.parametrize("compression", CODECS)
def test_hdf5_reads_frames_and_masks_of_every_compression(tmp_path, compression):
    path = write_compressed(tmp_path / "rain.h5", compression)
    frames, masks = MadeUpFrames()(NUMBERS)
    assert FrameStore(path).compression == compression
    assert hdf5plugin.LZ4_ID == 32004
    with h5py.File(path) as store:
        np.testing.assert_array_equal(store["frames"][:], frames)
        np.testing.assert_array_equal(store["masks"][:], np.packbits(masks, axis=-1))


@pytest.mark.parametrize("frames_per_chunk", [1, 2, 10])
def test_a_store_with_other_chunks_is_read_by_what_it_says(tmp_path, monkeypatch, frames_per_chunk):
    monkeypatch.setattr(store_writing, "FRAMES_PER_CHUNK", frames_per_chunk)
    path = write_compressed(tmp_path / "rain.h5", "lz4")
    monkeypatch.undo()
    frames, masks = MadeUpFrames()(NUMBERS[:3])
    store = FrameStore(path)
    clip = store.read(store.sequences[0], START, 4)
    np.testing.assert_array_equal(clip.frames[:3], frames)
    np.testing.assert_array_equal(clip.mask[:3], masks)
    found = verify_store(path)
    assert (found.damaged, found.blocks) == ((), 2 * -(-36 // frames_per_chunk))


@pytest.mark.parametrize("number", [*range(1, 7), 50, 51, 54, 55, 104])
@pytest.mark.parametrize("compression", CODECS)
def test_any_number_of_frames_is_kept(tmp_path, number, compression):
    write_store(
        tmp_path / "rain.h5",
        [Sequence("a", "train", START + np.arange(number) * 360, {})],
        list(range(number)),
        MadeUpFrames(),
        frame_shape=(HEIGHT, WIDTH),
        step_minutes=6,
        preparation={},
        fingerprint="abc",
        workers=1,
        compression=compression,
    )
    store = FrameStore(tmp_path / "rain.h5")
    clip = store.read(store.sequences[0], START, number)
    frames, masks = MadeUpFrames()(range(number))
    np.testing.assert_array_equal(clip.frames, frames)
    np.testing.assert_array_equal(clip.mask, masks)
    assert verify_store(tmp_path / "rain.h5").damaged == ()
    with h5py.File(tmp_path / "rain.h5") as file:
        np.testing.assert_array_equal(file["frames"][:], frames)


def test_rain_takes_less_space_compressed_and_noise_hardly_more(tmp_path):
    class Rain(MadeUpFrames):
        def __call__(self, numbers):
            x = np.linspace(0, 6, 240)
            frames = np.stack([np.outer(np.sin(x + n), np.cos(x)) for n in numbers])
            frames = np.maximum(0, 150 * frames).astype(np.uint8)
            return frames, frames > 10

    class Noise(MadeUpFrames):
        def __call__(self, numbers):
            frames = np.random.default_rng(numbers).integers(0, 256, (len(numbers), 240, 240))
            return frames.astype(np.uint8), frames > 100

    sizes = {}
    for read in (Rain(), Noise()):
        for compression in CODECS:
            path = write_compressed(tmp_path / "rain.h5", compression, read, (240, 240))
            sizes[type(read), compression] = path.stat().st_size
            path.unlink()
    assert max(sizes[Rain, "lz4"], sizes[Rain, "gzip"]) < 0.2 * sizes[Rain, "none"]
    assert sizes[Noise, "lz4"] < 1.001 * sizes[Noise, "none"]
    assert sizes[Noise, "gzip"] < 1.001 * sizes[Noise, "none"]


def test_names_and_metadata_are_kept_whatever_letters_they_have(tmp_path):
    names = ["Ветер", "台風", "a", "x" * 500, "not UTF-8: \udcff"]
    metadata = [{"source": name, "µ": [1.5, None]} for name in names]
    write_store(
        tmp_path / "rain.h5",
        [Sequence(n, n, START + np.arange(1), m) for n, m in zip(names, metadata, strict=True)],
        list(range(5)),
        MadeUpFrames(),
        frame_shape=(HEIGHT, WIDTH),
        step_minutes=6,
        preparation={"source": "台風"},
        fingerprint="",
        workers=1,
    )
    store = FrameStore(tmp_path / "rain.h5")
    assert [sequence.name for sequence in store.sequences] == names
    assert [sequence.split for sequence in store.sequences] == names
    assert [sequence.metadata for sequence in store.sequences] == metadata
    assert store.preparation == {"source": "台風"}


def test_an_interrupted_preparation_continues_where_it_stopped(store_path, tmp_path):
    out = tmp_path / "again.h5"
    with pytest.raises(KeyboardInterrupt):
        write(out, Interrupted())
    assert not out.exists()
    assert len(list(parts_folder(out).glob("block-*.h5"))) == 1
    Counting.asked = ()
    write(out, Counting())
    assert list(Counting.asked) == NUMBERS[10:]
    assert digest(out) == digest(store_path)
    assert not parts_folder(out).exists()


def test_parts_of_another_preparation_are_discarded(store_path, tmp_path, caplog):
    out = tmp_path / "again.h5"
    with pytest.raises(KeyboardInterrupt):
        write(out, Interrupted(), numbers=[*range(200, 219), 20, *range(220, 236)])
    caplog.set_level("INFO", "nowcast")
    Counting.asked = ()
    write(out, Counting())
    assert list(Counting.asked) == NUMBERS
    assert "discarded 1 parts" in caplog.text
    assert digest(out) == digest(store_path)


def test_parts_of_another_compression_are_discarded(tmp_path, caplog):
    out = tmp_path / "again.h5"
    with pytest.raises(KeyboardInterrupt):
        write_compressed(out, "gzip", Interrupted())
    caplog.set_level("INFO", "nowcast")
    write_compressed(out, "none")
    assert "discarded 1 parts" in caplog.text
    write_compressed(tmp_path / "other.h5", "none")
    assert digest(out) == digest(tmp_path / "other.h5")


def test_a_failed_preparation_leaves_the_older_store_alone(store_path):
    before = digest(store_path)
    with pytest.raises(KeyboardInterrupt):
        write(store_path, Interrupted())
    assert digest(store_path) == before


def test_a_killed_preparation_continues_where_it_stopped(store_path, tmp_path):
    out = tmp_path / "killed.h5"
    code = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import made_up

        class Slow(made_up.MadeUpFrames):
            def __call__(self, numbers):
                if {NUMBERS[10]} not in numbers:
                    time.sleep(0.0 if {NUMBERS[0]} in numbers else 60.0)
                return super().__call__(numbers)
            def __repr__(self):
                return repr(made_up.MadeUpFrames())

        made_up.write(Path({str(out)!r}), Slow())
    """)
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(parts_folder(out).glob("block-*.h5"))) < 2:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rain.h5"]
    Counting.asked = ()
    write(out, Counting())
    assert list(Counting.asked) == NUMBERS[20:]
    assert digest(out) == digest(store_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.h5", "rain.h5"]


def test_the_same_store_is_recognised_and_another_not_replaced_unasked(store_path):
    assert already_prepared(store_path.with_name("none.h5"), "abc", "lz4") is None
    assert already_prepared(store_path, "abc", "lz4") is not None
    with pytest.raises(InputError, match="other settings"):
        already_prepared(store_path, "abd", "lz4")
    store_path.write_text("a letter")
    with pytest.raises(InputError, match="no frame store"):
        already_prepared(store_path, "abc", "lz4")
    assert store_path.read_text() == "a letter"


def test_parts_left_beside_the_same_store_are_removed(store_path):
    parts_folder(store_path).mkdir()
    (parts_folder(store_path) / "block-0.h5").touch()
    with pytest.raises(InputError):
        already_prepared(store_path, "abd", "lz4")
    assert parts_folder(store_path).exists()
    already_prepared(store_path, "abc", "lz4")
    assert [path.name for path in store_path.parent.iterdir()] == ["rain.h5"]


def test_a_killed_worker_is_an_error_of_the_system_in_one_line(tmp_path):
    out = tmp_path / "rain.h5"
    with pytest.raises(OSError, match=r"rain\.h5\.parts: a worker process was killed") as raised:
        write(out, Killed(), workers=2)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_what_does_not_fit_together_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "rain.h5"
    with pytest.raises(InputError, match="found 3 frames"):
        write(out, numbers=[1, 2, 3])
    with pytest.raises(InputError, match="two sequences 'a'"):
        write_store(
            out,
            [Sequence("a", "train", START + np.arange(1), {})] * 2,
            [1, 2],
            MadeUpFrames(),
            frame_shape=(HEIGHT, WIDTH),
            step_minutes=6,
            preparation={},
            fingerprint="",
        )
    with pytest.raises(InputError, match="compression: found 'zip', expected one of lz4"):
        write_compressed(out, "zip")
    with pytest.raises(InputError, match="frames of 14655 × 14655 pixels, expected at most 214,7"):
        write_compressed(out, "lz4", frame_shape=(14655, 14655))
    assert list(tmp_path.iterdir()) == []
