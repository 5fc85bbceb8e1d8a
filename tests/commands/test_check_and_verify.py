"""`prepare_data --check` and `--verify`: what they report, and their exit status."""

import shutil

import pytest
from as_user import nowcast


@pytest.fixture
def own(folder, tmp_path, monkeypatch):
    """A copy of the user's folder with archive and store, to be damaged."""
    shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copy(folder / "experiment.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(*arguments):
    return nowcast("prepare_data", "hko7", "--config=experiment.yaml", *arguments)


def test_a_whole_archive_and_a_whole_store_are_fine_and_nothing_is_written(own):
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    checked, verified = prepare("--check"), prepare("--verify")
    assert (checked.status, verified.status) == (0, 0)
    frames = len(list((own / "data/archive/radarPNG").rglob("*.png")))
    found = next(line for line in checked.out.splitlines() if line.startswith("frames found"))
    assert sum(map(int, found.split()[2::2])) == frames
    assert "192,168" in found
    assert "nothing damaged" in verified.out
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before


def test_unreadable_files_are_listed_refused_and_left_out_on_request(own):
    damaged = sorted((own / "data/archive/radarPNG").rglob("*.png"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    checked = prepare("--check")
    assert checked.status == 2
    assert str(damaged.relative_to(own)) in checked.out
    assert "found 1 unreadable files" in checked.err
    (own / "data/rain.h5").unlink()
    refused = prepare()
    assert refused.status == 2
    assert damaged.name in refused.err
    assert not (own / "data/rain.h5").exists()
    skipped = prepare("--skip_unreadable=true")
    assert skipped.status == 0
    assert "1 unreadable" in skipped.out


def test_a_damaged_store_is_told_by_its_blocks(own):
    store = own / "data/rain.h5"
    content = bytearray(store.read_bytes())
    content[len(content) // 2] ^= 1
    store.write_bytes(content)
    verified = prepare("--verify")
    assert verified.status == 2
    assert "damaged" in verified.out
    assert "expected none" in verified.err
    assert (prepare("--overwrite=true").status, prepare("--verify").status) == (0, 0)


def test_what_a_flag_needs_is_said(own):
    for arguments, needed in (
        (["--check"], "--check needs --root"),
        (["--verify"], "--verify needs --out"),
        (["--check", "--verify"], "found --check and --verify, expected one of them"),
        ([], "required: root, out"),
    ):
        said = nowcast("prepare_data", "hko7", *arguments)
        assert said.status == 2
        assert needed in said.err
