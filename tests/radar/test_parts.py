"""Folders of part files: used by one process at a time, cleaned with care, not trusted."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_up import NUMBERS, START, Counting, MadeUpFrames, write, write_event

from nowcast.errors import InputError
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.parts import claimed, make_parts, parts_folder, remove_parts, side_by_side
from nowcast.radar.store import Sequence
from nowcast.radar.store_writing import already_prepared, write_store

MOST_BYTES = (0, 100, 2000, 5000, 9000, 12_000)
"""Sizes at which the system refuses to let a file grow: each strikes at another moment."""


def hold_claim(out, ready):
    with claimed(out):
        ready.set()
        signal.pause()


@pytest.fixture
def another_process(tmp_path):
    """Another process that has claimed the parts of rain.h5."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=hold_claim, args=(tmp_path / "rain.h5", ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_parts_are_claimed_by_one_process_until_it_is_killed(tmp_path, another_process):
    out = tmp_path / "rain.h5"
    with (
        pytest.raises(InputError, match=r"rain\.h5: .*another preparation is writing it") as raised,
        claimed(out),
    ):
        pass
    assert "\n" not in str(raised.value)
    another_process.kill()
    another_process.join()
    with claimed(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_events_are_not_coarsened_among_the_parts_of_another_process(tmp_path, another_process):
    event = write_event(tmp_path / "event.nc")
    with pytest.raises(InputError, match=r"rain\.h5: .*another prep"):
        prepare_events(
            tmp_path / "rain.h5", train=[event], clip_length=2, tile_size=2, grid_spacing_km=None
        )
    assert [path.name for path in parts_folder(tmp_path / "rain.h5").iterdir()] == [".lock"]


def test_a_claim_may_be_entered_again_and_holds_until_the_outer_one_ends(tmp_path):
    out = tmp_path / "rain.h5"
    code = "from pathlib import Path; import nowcast.radar.parts as p\n"
    code += f"with p.claimed(Path({str(out)!r})): pass"
    with claimed(out) as folder:
        with claimed(out) as again:
            assert again == folder
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another preparation" in refused.stderr
    assert not folder.exists()
    subprocess.run([sys.executable, "-c", code], check=True)


def write_number(path):
    with h5py.File(path, "w") as part:
        part["number"] = np.arange(1000)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, empty, zero, flip_a_bit])
def test_a_damaged_part_is_made_anew_and_a_whole_one_is_not(tmp_path, caplog, damage):
    parts = {"event-1.h5": write_number, "event-2.h5": write_number}
    damaged, whole = make_parts(tmp_path, parts, "", 1)
    stamp = whole.stat().st_mtime_ns
    damage(damaged)
    make_parts(tmp_path, parts, "", 1)
    assert whole.stat().st_mtime_ns == stamp
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{damaged}: found a damaged part, made anew"
    ]
    with h5py.File(damaged) as part:
        np.testing.assert_array_equal(part["number"][:], np.arange(1000))


MADE = ("block-1.h5", "event-2.h5", ".block-3.0a.partial.h5", "assembled.h5")


def test_only_what_was_made_there_is_removed(tmp_path, caplog):
    with claimed(tmp_path / "rain.h5") as folder:
        for name in (*MADE, "my notes.txt"):
            (folder / name).touch()
        remove_parts(folder)
    assert [path.name for path in folder.iterdir()] == ["my notes.txt"]
    assert "my notes.txt" in caplog.text


def test_a_linked_folder_is_emptied_and_stays(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parts_folder(tmp_path / "rain.h5").symlink_to(scratch)
    with claimed(tmp_path / "rain.h5") as folder:
        for name in MADE:
            (folder / name).touch()
        remove_parts(folder)
    assert list(scratch.iterdir()) == []
    assert folder.is_symlink()


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_are_refused(workers):
    with pytest.raises(InputError, match=f"workers: found {workers}, expected at least 1"):
        list(side_by_side([], workers))


def assert_complete(path):
    undisturbed = path.with_name("undisturbed.h5")
    write(undisturbed)
    assert path.read_bytes() == undisturbed.read_bytes()
    undisturbed.unlink()


def test_parts_of_a_running_preparation_stay_when_the_store_is_there_already(
    tmp_path, another_process
):
    out = tmp_path / "rain.h5"
    write(tmp_path / "same.h5")
    (tmp_path / "same.h5").rename(out)
    part = parts_folder(out) / "block-1.h5"
    part.touch()
    assert already_prepared(out, "abc", "lz4") is not None
    assert part.exists()


def test_a_second_preparation_of_the_same_store_is_refused_and_disturbs_nothing(tmp_path):
    out = tmp_path / "rain.h5"

    class Second(MadeUpFrames):
        def __call__(self, numbers):
            if not {NUMBERS[0], NUMBERS[-1]} & set(numbers):
                return super().__call__(numbers)
            code = "import made_up, pathlib; "
            code += f"made_up.write(pathlib.Path({str(out)!r}), None, 1, '', range(36))"
            second = subprocess.run(
                [sys.executable, "-c", code],
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
            )
            refused.append("rain.h5: found that another preparation" in second.stderr)
            return super().__call__(numbers)

    refused = []
    write(out, Second())
    assert refused == [True] * 2
    assert_complete(out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_part_damaged_before_it_is_assembled_is_made_anew(tmp_path, caplog):
    out = tmp_path / "again.h5"

    class DamagesTheFirst(Counting):
        def __call__(self, numbers):
            if NUMBERS[10] in numbers:
                (first,) = parts_folder(out).glob("block-*.h5")
                os.truncate(first, 1000)
            return super().__call__(numbers)

    Counting.asked = DamagesTheFirst.asked = ()
    write(out, DamagesTheFirst())
    assert list(DamagesTheFirst.asked) == [*NUMBERS, *NUMBERS[:10]]
    assert "damaged part" in caplog.text
    assert_complete(out)


def test_what_the_system_refuses_is_one_error_and_leaves_nothing(tmp_path):
    code = textwrap.dedent(f"""
        import errno, pathlib, resource, made_up
        for most_bytes in {MOST_BYTES}:
            out = pathlib.Path({str(tmp_path)!r}) / str(most_bytes) / "again.h5"
            out.parent.mkdir()
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
            try:
                made_up.write(out)
            except OSError as error:
                assert error.errno == errno.EFBIG, error.errno
                assert error.strerror == "File too large", error.strerror
                assert error.filename.startswith(str(out) + ".parts/"), error.filename
            else:
                raise AssertionError("written")
    """)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
    for most_bytes in MOST_BYTES:
        out = tmp_path / str(most_bytes) / "again.h5"
        assert not out.exists()
        assert not list(out.parent.rglob(".*"))
        write(out)
        assert_complete(out)


def test_parts_may_lie_on_another_disk(tmp_path):
    out = tmp_path / "again.h5"
    disk = Path("/dev/shm")
    if not disk.is_dir() or disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    scratch = Path(tempfile.mkdtemp(dir=disk))
    try:
        parts_folder(out).symlink_to(scratch)
        write(out)
        assert list(scratch.iterdir()) == []
    finally:
        shutil.rmtree(scratch)
    assert_complete(out)


@pytest.mark.parametrize(
    ("side", "frames"), [(100, 50), (480, 50), (1000, 15), (1500, 5), (4000, 5)]
)
def test_large_frames_are_made_in_smaller_blocks(tmp_path, side, frames):
    class Stops(Exception):
        pass

    def read(references):
        raise Stops(len(references))

    with pytest.raises(Stops) as stopped:
        write_store(
            tmp_path / "rain.h5",
            [Sequence("a", "train", START + np.arange(100) * 360, {})],
            list(range(100)),
            read,
            frame_shape=(side, side),
            step_minutes=6,
            preparation={},
            fingerprint="",
            workers=1,
        )
    assert stopped.value.args == (frames,)
