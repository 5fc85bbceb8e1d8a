"""What README and model cards tell to type works: commands on small data, Python as it stands."""

import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from made_up_composites import write_odim
from made_up_glue import write_glue
from made_up_images import write_imagenet
from PIL import Image
from tiny_bert import write_bert

from nowcast.commands import main
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARDS = "".join(
    card.read_text(encoding="utf-8")
    for card in sorted((ROOT / "nowcast/models/shipped").glob("*.md"))
)

SMALL_NETWORK = ["--network.hidden=[4,6,6]", "--network.features=[2,6,6]",
                 "--network.up_features=[2,6,6]"]  # fmt: skip
SHORT_RUN = ["--optimization.steps=2", "--run.valid_clips=1", "--data.workers=0",
             "--data.batch_size=1", "--run.accelerator=cpu"]  # fmt: skip
TINY_SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": [1, 1, 2, 1],
             "num_heads": [1, 2, 2, 4]}  # fmt: skip
SMALL_SWIN = ["--no_download", "--weights=none", f"--model_settings={json.dumps(TINY_SWIN)}",
              "--batch_size=14", "--workers=0"]  # fmt: skip
SMALL_STEP = ["--hidden=[2,3,3]", "--side=30", "--batch=1", "--repeats=1"]
LESS_WORK = {
    "prepare_data synthetic": [
        "--train_days=1",
        "--valid_days=1",
        "--hours_per_day=3",
        "--outages_per_day=0",
    ],
    "prepare_data hko7": ["--workers=1"],
    "prepare_data events": ["--workers=1"],
    "pretrain": SMALL_NETWORK + SHORT_RUN,
    "pretrain shipped": [*SMALL_NETWORK, *SHORT_RUN, "--run.valid_clips=0"],
    "finetune": SHORT_RUN,
    "finetune shipped": [*SHORT_RUN, "--run.valid_clips=0"],
    "evaluate": [
        "--data.workers=0",
        "--at_most=2",
        "--members=2",
        "--animations=1",
        "--windows_pixels=[1, 5]",
        "--resamples=10",
    ],
    "evaluate online": ["--data.workers=0", "--animations=0", "--resamples=10"],
    "reproduce": [
        *SMALL_NETWORK,
        "--pretraining.steps=2",
        "--finetuning.steps=1",
        "--seeds=[0]",
        "--tune_tops=[1]",
        "--tune_deltas=[10]",
        "--late_starts=[0]",
        "--at_most=2",
        "--data.workers=0",
        "--run.valid_clips=0",
    ],
    "render": ["--data.workers=0"],
    "forecast": ["--lead_times=3"],
    "export": [],
    "probe update": ["--data.workers=0", "--at_least=200"],
    "probe profile": ["--data.workers=0", "--at_most=2"],
    "benchmark train": [*SMALL_STEP, "--matrix_side=64"],
    "benchmark scaling": [*SMALL_STEP, "--factors=[1, 4]", "--matrix_side=64"],
    "benchmark forecast": [*SMALL_STEP, "--side=60", "--lead_times=2", "--matrix_side=64"],
    "benchmark render": ["--side=60", "--lead_times=2", "--repeats=1", "--matrix_side=64"],
    "benchmark endurance": ["--hidden=[2,3,3]", "--steps=40", "--warmup=0", "--batch=1",
                            "--valid_clips=0", "--matrix_side=64"],
    "benchmark precision": ["--hidden=[2,3,3]", "--steps=2", "--seeds=[0, 1]", "--batch=1",
                            "--clips=2", "--matrix_side=64"],
    "benchmark memel": [*SMALL_STEP, "--tops=[1]", "--matrix_side=64"],
    "benchmark data": [
        "--size=60",
        "--coarse_size=30",
        "--hours=4",
        "--repeats=1",
        "--batches_per_round=2",
        "--workers=1",
        "--matrix_side=64",
    ],
    "benchmark verification": ["--side=60", "--clips=1", "--repeats=1", "--memory_clips=[1, 2]",
                               "--matrix_side=64"],
    "benchmark flow": ["--at_most=1", "--lead_times=3", "--matrix_side=64"],
    "benchmark adapters": ["--models=[swin-T]", "--images=1", "--side=32", "--repeats=1",
                           "--matrix_side=64"],
    "glue": ["--no_download", "--data=data/glue", "--model=data/bert-base-uncased", "--tasks=[RTE]",
             "--rows=[Original, MEmeL, MEmeL-T]", "--learning_rates=[5e-4]", "--seeds=[0]",
             "--epochs=1", "--max_length=48", "--device=cpu"],
    "imagenet finetune": [*SMALL_SWIN, "--models=[swin_tiny_patch4_window7_224]",
                          "--rows=[Original, MEmeL, MEmeL-T]", "--epochs=1", "--warmup_epochs=0",
                          "--precision=32-true", "--accelerator=cpu"],
    "imagenet update": [*SMALL_SWIN, "--model=swin_tiny_patch4_window7_224", "--at_least=100",
                        "--statistics_batches=2", "--device=cpu"],
}  # fmt: skip
"""What the test adds to a command, so that it is the same with less to do."""


PYSTEPS = importlib.util.find_spec("pysteps") is not None
COMPOSITES = PYSTEPS and all(map(importlib.util.find_spec, ("pyproj", "rasterio", "pygrib")))


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands():
    lines = [line for block in blocks("sh", README + CARDS) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def write_event(path, first_hour, hours):
    """Rain over 480 km every 5 minutes, in dBZ with a Z–R relation of its own."""
    rain = SyntheticRain(size=120, step_minutes=5, missing_fraction=0, outages_per_day=0, seed=2)
    frames = [pixels for _, pixels, _ in rain.simulate(np.datetime64("2020-06-01"), hours=hours)]
    dbz = np.repeat(np.repeat(np.stack(frames) / 255 * 70 - 10, 4, 1), 4, 2).astype(np.float32)
    kilometres = 1000.0 * np.arange(480)
    start = np.datetime64("2020-06-01", "ns") + np.timedelta64(first_hour, "h")
    xr.Dataset(
        {"reflectivity": (("time", "y", "x"), dbz, {"units": "dBZ"})},
        coords={
            "time": start + 5 * np.arange(len(dbz)).astype("timedelta64[m]"),
            "y": ("y", kilometres[::-1], {"units": "m"}),
            "x": ("x", kilometres, {"units": "m"}),
        },
        attrs={"time_step_minutes": 5.0, "zr_a": 223.0, "zr_b": 1.53},
    ).to_netcdf(path, engine="h5netcdf")


def write_other_forms(folder, event):
    """An event as a Zarr store, as grey images and as a coloured map with its legend."""
    with xr.open_dataset(event, engine="h5netcdf") as dataset:
        dataset = dataset.drop_encoding().load()
    without_relation = dataset.drop_attrs(deep=False)
    without_relation.to_zarr(folder / "composites.zarr", consolidated=False)
    colours = np.array([[255, 255, 255], [47, 127, 255], [255, 48, 32], [0, 0, 0]], np.uint8)
    (folder / "legend.csv").write_text("colour,rain_rate_mm_h\n#ffffff,0\n#2f7fff,1\n#ff3020,20\n")
    (folder / "maps").mkdir()
    for frame in dataset["reflectivity"]:
        time = frame["time"].dt
        levels = np.clip((frame.to_numpy() + 32) / 0.5, 0, 254).astype(np.uint8)
        path = folder / time.strftime("frames/%Y/%m/%d/radar_%Y%m%d%H%M.png").item()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
        coloured = np.digitize(frame.to_numpy(), [20, 40])
        coloured[::60] = 3  # Lines of a map, in a colour that the legend does not know.
        name = time.strftime("maps/map_%Y%m%d_%H%M.gif").item()
        Image.fromarray(colours[coloured]).quantize(4).save(folder / name)


def write_composites(folder, event):
    """An event as ODIM files of 2 km pixels."""
    folder.mkdir()
    with xr.open_dataset(event, engine="h5netcdf") as dataset:
        dbz = dataset["reflectivity"][:, ::2, ::2].to_numpy()
    for number, frame in enumerate(dbz):
        write_odim(folder / f"{number}.h5", frame, 5 * number, "DBZH", zr=(223.0, 1.53))


def write_forecasts(folder, event):
    """Forecasts of the clips of an event's 4 km grid, in a file for each time of issue."""
    folder.mkdir()
    with xr.open_dataset(event, engine="h5netcdf") as dataset:
        times = dataset["time"].to_numpy()
    rates = np.random.default_rng(0).gamma(0.2, 2.0, (20, 120, 120)).astype(np.float32)
    for last in range(4, len(times) - 20, 5):
        xr.Dataset(
            {"rain_rate": (("lead_time", "y", "x"), rates, {"units": "mm h-1"})},
            coords={
                "lead_time": 5
                * np.arange(1, 21).astype("timedelta64[m]").astype("timedelta64[ns]"),
                "forecast_reference_time": times[last],
            },
        ).to_netcdf(folder / f"{last}.nc", engine="h5netcdf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout's configurations with small data at the places that the README names."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", folder / "configs")
    rain = SyntheticRain(outages_per_day=0)
    days = {"train_days": 1, "valid_days": 1, "test_days": 1}
    write_archive(folder / "data/hko7", rain, **days, hours_per_day=3)
    (folder / "data/events").mkdir()
    # The second is long enough to leave clips for validation.
    for first, (name, hours) in enumerate(
        (("fmi_20160928", 2.5), ("knmi_20100826", 5), ("fmi_20170509", 2.5))
    ):
        write_event(folder / f"data/events/{name}.nc", first, hours)
    write_other_forms(folder / "data", folder / "data/events/fmi_20160928.nc")
    if COMPOSITES:
        write_composites(folder / "data/odim", folder / "data/events/fmi_20160928.nc")
    write_forecasts(folder / "data/forecasts", folder / "data/events/fmi_20170509.nc")
    write_glue(folder / "data/glue", "tsv", ["RTE"], (32, 16, 8))
    write_bert(folder / "data/bert-base-uncased", ["a premise and what may follow from it"])
    write_imagenet(folder / "data/imagenet", 4, 1)
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.slow
def test_every_command_of_the_readme_works(folder):
    # What `make demo` leaves, and tests/test_demo.py runs in full.
    config = ["--config", "configs/demo.yaml"]
    demo = [
        ["prepare_data", "hko7", *config, "--root=data/hko7", "--size=480"],
        ["pretrain", *config],
        ["finetune", *config],
    ]
    ran = 0
    for words in demo + commands():
        if words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
            continue
        if words[0] == "python":
            script = Path(words[1])
            assert (ROOT / script).is_file()
            words = [script.stem, *words[2:]]
        if not PYSTEPS and {"S-PROG", "STEPS", "flow"} & set(
            re.split(r"[ ,\[\]]+", " ".join(words))
        ):
            continue
        if not COMPOSITES and {"[data/odim]", "data/odim"} & set(words):
            continue
        key = " ".join(words[:2]) if " ".join(words[:2]) in LESS_WORK else words[0]
        key = "evaluate online" if {"evaluate", "online"} <= set(words) else key
        shipped = "convgru" in " ".join(words[1:4])
        key = f"{words[0]} shipped" if words[0] in ("pretrain", "finetune") and shipped else key
        assert main([*words, *LESS_WORK[key]]) == 0, words
        ran += 1
    assert ran >= 20
    for path in ("runs/hko7_120/forecast.gif", "runs/demo/compared/scores.png",
                 "runs/mine/baselines.gif", "runs/events/evaluation/scores.csv",
                 "runs/mine/forecast.mp4"):  # fmt: skip
        assert (folder / path).stat().st_size > 1000


def test_the_python_of_the_readme_runs(folder):
    snippets = blocks("python")
    assert len(snippets) >= 2
    for snippet in snippets:
        names = {}
        exec(compile(snippet, "README.md", "exec"), names)
        if "forecast" in names:
            assert names["forecast"]["rain_rate"].shape == (20, 480, 480)


def test_files_that_the_readme_links_to_exist():
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert "docs/forecast.gif" in links
    assert all((ROOT / link).exists() for link in links), links
