"""Synthetic rain on disk: the published layout, the same bytes always, nothing half-written."""

import hashlib
import shutil

import numpy as np
import pytest

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive
from nowcast.radar.archive_files import read_frame, read_mask
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

RAIN = SyntheticRain(size=48, seed=3)
DAYS = {"train_days": 3, "valid_days": 1, "test_days": 1, "hours_per_day": 1.5}
FIRST_FRAME = "radarPNG/2013/01/01/RAD130101000000.png"


def digest(root):
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        whole.update(str(path.relative_to(root)).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "archive"
    write_archive(root, RAIN, **DAYS, workers=2)
    return root


@pytest.fixture
def archive(written, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(written, tmp_path / "archive")


def test_the_reader_of_the_published_layout_reads_every_frame(written):
    archive = HKO7Archive(written, size=48, step_minutes=6)
    assert {name: split.days for name, split in archive.splits.items()} == {
        "train": ("2013-01-01", "2013-01-03", "2013-01-05"),
        "valid": ("2013-01-07",),
        "test": ("2013-01-09",),
    }
    for split in archive.splits.values():
        for day in split.days:
            expected = list(RAIN.simulate(np.datetime64(day), 1.5))
            for time, pixels, mask in expected:
                folder = f"{time.item():%Y/%m/%d}"
                stamp = f"RAD{time.item():%y%m%d%H%M%S}"
                frame = read_frame(written / "radarPNG" / folder / f"{stamp}.png", 48)
                np.testing.assert_array_equal(frame, pixels)
                stored = read_mask(written / "radarPNG_mask" / folder / f"{stamp}.mask", 48)
                np.testing.assert_array_equal(stored, mask)
            assert len(list((written / "radarPNG" / day.replace("-", "/")).iterdir())) == len(
                expected
            )


def test_older_numpy_gets_no_argument_that_it_would_store_as_an_array(tmp_path, monkeypatch):
    given = {}
    save = np.savez_compressed
    monkeypatch.setattr(
        np, "savez_compressed", lambda *place, **arrays: given.update(arrays) or save(*place)
    )
    settings = {"train_days": 1, "valid_days": 0, "test_days": 0, "hours_per_day": 0.1}
    write_archive(tmp_path, SyntheticRain(size=32), **settings)
    assert set(given) == {"exclude_mask", "outlier_mask", "out_boundary_mask"}


def test_listed_rainfall_is_the_mean_of_the_frames(written):
    with np.load(written / "mask_dat.npz", allow_pickle=False) as masks:
        assert set(masks) == {"exclude_mask", "outlier_mask", "out_boundary_mask"}
        inside = masks["exclude_mask"] == 0
    lines = (written / "hko7_rainy_train_days.txt").read_text().splitlines()
    assert [line.split(", ")[0] for line in lines] == ["20130101", "20130103", "20130105"]
    for line in lines:
        day, listed = line.split(", ")
        folder = written / "radarPNG" / day[:4] / day[4:6] / day[6:]
        rates = []
        for path in folder.iterdir():
            pixel = read_frame(path, 48)[inside].astype(np.float64) / 255
            rate = 10 ** ((70 * pixel - 10 - 10 * np.log10(58.53)) / 15.6)
            rates.append(np.where(pixel > 0, rate, 0).mean())
        assert float(listed) == pytest.approx(1.5 * np.mean(rates), abs=0.0051)
        assert float(listed) > 0


def test_bytes_do_not_depend_on_the_number_of_workers(written, tmp_path):
    write_archive(tmp_path / "alone", RAIN, **DAYS, workers=1)
    assert digest(tmp_path / "alone") == digest(written)


def test_finished_days_are_kept_and_missing_ones_made_again(archive, written):
    kept = (archive / FIRST_FRAME).stat().st_mtime_ns
    shutil.rmtree(archive / "radarPNG/2013/01/03")
    (archive / "radarPNG_mask/2013/01/03/RAD130103000000.mask").write_bytes(b"half")
    (archive / ".2013-01-03.partial/frames").mkdir(parents=True)
    (archive / "hko7_rainy_valid_days.txt").unlink()
    write_archive(archive, RAIN, **DAYS)
    assert digest(archive) == digest(written)
    assert (archive / FIRST_FRAME).stat().st_mtime_ns == kept


def test_an_interrupted_run_leaves_whole_days_only_and_goes_on(tmp_path, written, monkeypatch):
    root = tmp_path / "archive"
    simulate = SyntheticRain.simulate

    def interrupted(self, day, hours=24.0):
        for number, frame in enumerate(simulate(self, day, hours)):
            if str(day) == "2013-01-05" and number == 4:
                raise KeyboardInterrupt
            yield frame

    with monkeypatch.context() as patched:
        patched.setattr(SyntheticRain, "simulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_archive(root, RAIN, **DAYS, workers=1)
    assert not list(root.glob("hko7_rainy_*"))
    assert not list(root.glob(".*"))
    assert (root / FIRST_FRAME).is_file()
    assert not (root / "radarPNG/2013/01/05").exists()
    kept = (root / FIRST_FRAME).stat().st_mtime_ns
    write_archive(root, RAIN, **DAYS)
    assert digest(root) == digest(written)
    assert (root / FIRST_FRAME).stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rain": SyntheticRain(size=48, seed=4)}, "seed=3"),
        ({"rain": SyntheticRain(size=32, seed=3)}, "size=48"),
        ({"train_days": 4}, "train_days=3"),
        ({"hours_per_day": 2.0}, "hours_per_day=1.5"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_untouched(archive, written, change, named):
    with pytest.raises(InputError, match=named) as refused:
        write_archive(archive, **{"rain": RAIN, **DAYS, **change})
    assert "\n" not in str(refused.value)
    assert digest(archive) == digest(written)


def test_a_folder_with_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        write_archive(tmp_path, RAIN, **DAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_settings_file_or_frame_is_named(archive):
    frame = archive / FIRST_FRAME
    frame.write_bytes(frame.read_bytes()[:100])
    with pytest.raises(InputError, match=r"RAD130101000000\.png"):
        write_archive(archive, RAIN, **DAYS)
    (archive / "synthetic_rain.json").write_text("[1]")
    with pytest.raises(InputError, match=r"synthetic_rain\.json"):
        write_archive(archive, RAIN, **DAYS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_days": -1},
        {"train_days": 0, "valid_days": 0, "test_days": 0},
        {"hours_per_day": 25.0},
        {"hours_per_day": 0.0},
        {"workers": 0},
    ],
)
def test_settings_out_of_range_leave_no_folder(tmp_path, wrong):
    with pytest.raises(InputError):
        write_archive(tmp_path / "archive", RAIN, **{**DAYS, **wrong})
    assert not (tmp_path / "archive").exists()


def test_a_split_without_days_has_no_list(tmp_path):
    settings = {"train_days": 1, "valid_days": 0, "test_days": 0, "hours_per_day": 0.1}
    write_archive(tmp_path, SyntheticRain(size=32, missing_fraction=0.0), **settings)
    assert set(HKO7Archive(tmp_path, size=32).splits) == {"train"}
