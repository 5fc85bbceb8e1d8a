"""A small frame store for benchmarks that train: synthetic rain, all three splits."""

from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

SIDE = 30


def write_small_store(folder):
    rain = SyntheticRain(size=2 * SIDE, missing_fraction=0.0, outages_per_day=0.0, seed=7)
    write_archive(
        folder / "archive", rain, train_days=1, valid_days=1, test_days=1, hours_per_day=3,
        workers=1,
    )  # fmt: skip
    path = folder / "rain.h5"
    prepare_hko7(folder / "archive", path, size=2 * SIDE, downsample_to=SIDE, workers=1)
    return path
