"""Files appear whole or not at all, and a place that cannot be written is refused."""

import os
import stat
from pathlib import Path

import pytest

from nowcast.errors import InputError
from nowcast.files import check_place, replacing, replacing_folder


def test_a_file_appears_whole_with_its_parents(tmp_path):
    path = tmp_path / "new" / "deep" / "scores.csv"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["scores.csv"]


def write_half(path, error):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_stood_there_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / "rain.h5"
    path.write_text("before")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["rain.h5"]


def test_nothing_is_left_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.png"):
        pass
    assert os.listdir(tmp_path) == []


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_new_places_and_existing_ones_of_the_right_kind_are_accepted(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file.h5").touch()
    before = sorted(os.listdir(tmp_path))
    for path in ("new", "new/deep/down", "there/new", tmp_path / "x" / "y", "../beside"):
        check_place(path, folder=folder)
    check_place("there" if folder else "file.h5", folder=folder)
    assert sorted(os.listdir(tmp_path)) == before


def test_places_of_the_wrong_kind_are_refused(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "file.h5").touch()
    with pytest.raises(InputError, match=r"there: found a folder, expected the name of a file"):
        check_place(tmp_path / "there")
    with pytest.raises(InputError, match=r"file\.h5: found a file, expected a folder"):
        check_place(tmp_path / "file.h5", folder=True)
    for folder in (False, True):
        with pytest.raises(InputError, match=r"file\.h5/x/y: found a file at .*file\.h5, expected"):
            check_place(tmp_path / "file.h5" / "x" / "y", folder=folder)


def test_a_folder_that_is_read_only_is_refused(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:
        # The administrator may write anywhere; then the answer of the system is made up.
        monkeypatch.setattr(os, "access", lambda path, mode: path != locked)
    with pytest.raises(InputError, match=r"a\.h5: found .*locked read-only, expected a writable"):
        check_place(locked / "new" / "a.h5")
    check_place(tmp_path / "a.h5")


def test_a_folder_that_is_replaced_is_there_again_after_an_interruption(tmp_path, monkeypatch):
    """Between the two renames, of which the second does not come to pass."""
    target = tmp_path / "store.zarr"
    target.mkdir()
    (target / "zarr.json").write_text("old")
    rename = Path.replace

    def interrupted(self, to):
        if ".partial" in self.name:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "replace", interrupted)

    def write():
        with replacing_folder(target) as temporary:
            temporary.mkdir()
            (temporary / "zarr.json").write_text("new")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert (target / "zarr.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]
    monkeypatch.undo()
    write()
    assert (target / "zarr.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]
