"""A made-up archive, unpacked and as zip files, for the tests of this folder."""

import zipfile

import numpy as np
from made_up import SIZE, at, write_frame

from nowcast.radar.archive_reading import read_frame_and_mask

SECONDS = [at(day, 0, minute) for day in (23, 24) for minute in (0, 6, 12)]


def write_unpacked(root):
    """Six frames on two days, all but one with masks; lists and static masks."""
    made = np.random.default_rng(1)
    for second in SECONDS:
        frame = made.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        mask = made.random((SIZE, SIZE)) < 0.7
        write_frame(root, second, frame, mask if second != SECONDS[4] else None)
    (root / "hko7_rainy_train_days.txt").write_text("20150523, 1\n20150524, 2\n")
    np.savez(root / "mask_dat.npz", exclude_mask=np.eye(SIZE, dtype=np.uint8))
    return root


def zip_folder(path, folder, prefix="", method=zipfile.ZIP_DEFLATED, **settings):
    """A zip file of a folder's files; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method, **settings) as file:
        for inner in sorted(folder.rglob("*")):
            file.write(inner, f"{prefix}{inner.relative_to(folder)}")
    return path


def content_of(archive):
    """What every frame of an archive holds, by its time."""
    return {
        frame.second: [
            None if part is None else part.tobytes()
            for part in read_frame_and_mask(archive.root, frame, SIZE)
        ]
        for split in archive.splits.values()
        for frame in split.frames
    }
