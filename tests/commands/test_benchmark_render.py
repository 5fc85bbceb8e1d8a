"""Part render of the benchmark: its rows, and that its pictures are what they say; not how fast."""

import json
import statistics

import h5py
import numpy as np
import pytest
from PIL import Image, ImageSequence

from nowcast.benchmarks.render import METHODS, plain_gif
from nowcast.commands.benchmark import main

LEAD_TIMES, INPUT_FRAMES, SIDE = 4, 3, 40
TINY = [f"--lead_times={LEAD_TIMES}", f"--input_frames={INPUT_FRAMES}", f"--side={SIDE}"]
PLAIN, GIF, WITH_INPUTS = "GIF, plain Matplotlib", "GIF", "GIF with the input frames"


@pytest.fixture(scope="module")
def event(tmp_path_factory):
    """A NetCDF-4 file of 9 frames, 50 × 44 pixels, in which a square of rain moves east."""
    path = tmp_path_factory.mktemp("event") / "rain.nc"
    rates = np.zeros((9, 50, 44), np.float32)
    for number, rate in enumerate(rates):
        rate[20:30, 10 + 2 * number : 18 + 2 * number] = 5.0
    with h5py.File(path, "w") as file:
        for name, values in (("time", np.arange(9.0)), ("y", np.arange(50.0)[::-1]),
                             ("x", np.arange(44.0))):  # fmt: skip
            file[name] = values
            file[name].make_scale(name)
        file["time"].attrs["units"] = "minutes since 2020-06-01 00:00:00"
        file["time"][:] *= 5
        file["rain_rate"] = rates
        file["rain_rate"].attrs["units"] = "mm h-1"
        for axis, name in enumerate(("time", "y", "x")):
            file["rain_rate"].dims[axis].attach_scale(file[name])
    return path


@pytest.fixture(scope="module", params=["synthetic", "event"])
def measured(request, event, tmp_path_factory):
    """The JSON that the command writes of tiny pictures."""
    out = tmp_path_factory.mktemp("benchmark") / "render.json"
    given = [f"--event={event}", "--repeats=1"] if request.param == "event" else ["--repeats=2"]
    arguments = ["render", *TINY, *given, "--warmup=0", "--matrix_side=64"]
    assert main([*arguments, f"--out={out}"]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_rows_are_the_pictures_and_the_gif_is_compared_with_the_plain_one(measured):
    rows = {row["name"]: row for row in measured["rows"]}
    assert {name: (row["work"], row["unit"]) for name, row in rows.items()} == {
        PLAIN: (LEAD_TIMES, "frames"),
        GIF: (LEAD_TIMES, "frames"),
        WITH_INPUTS: (LEAD_TIMES + INPUT_FRAMES, "frames"),
        "strip": (1, "files"),
        "animation of the page": (LEAD_TIMES + INPUT_FRAMES, "frames"),
        **dict.fromkeys(("page around it", "score curves", "reliability", "spectra"), (1, "files")),
    }
    compared = {name: row.get("compared_with") for name, row in rows.items()}
    assert compared == {**dict.fromkeys(rows), GIF: PLAIN}
    ratios = [
        ours / plain
        for ours, plain in zip(*(rows[name]["seconds"]["rounds"] for name in (GIF, PLAIN)),
                               strict=True)
    ]  # fmt: skip
    assert rows[GIF]["time_ratio"]["rounds"] == pytest.approx(ratios)
    assert rows[GIF]["time_ratio"]["median"] == pytest.approx(statistics.median(ratios))


def test_every_gif_has_all_frames_and_every_file_a_size(measured):
    shapes = measured["facts"]["frames, height and width in pixels"]
    assert {name: frames for name, (frames, *_) in shapes.items()} == {
        PLAIN: LEAD_TIMES, GIF: LEAD_TIMES, WITH_INPUTS: LEAD_TIMES + INPUT_FRAMES,
    }  # fmt: skip
    assert shapes[GIF][1:] == shapes[WITH_INPUTS][1:]
    # Observed and forecasts beside each other, enlarged to 240 pixels; the plain one's are not.
    assert shapes[GIF][2] >= (1 + len(METHODS)) * 240
    assert shapes[PLAIN][2] == (1 + len(METHODS)) * (SIDE + 12)
    sizes = measured["facts"]["kB of files"]
    assert sizes.keys() == {row["name"] for row in measured["rows"]} - {"animation of the page"}
    assert all(size > 0.2 for size in sizes.values())


def test_the_plain_gif_shows_every_field_at_every_lead_time(tmp_path):
    rates = {name: np.full((3, 80, 80), np.nan, np.float32) for name in ("observed", "other")}
    rates["observed"][:] = np.array([0.0, 3.0, 60.0])[:, None, None]
    plain_gif(tmp_path / "a.gif", rates, 5)
    with Image.open(tmp_path / "a.gif") as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    assert len(frames) == 3
    middle = [frame[frame.shape[0] // 2] for frame in frames]
    width = frames[0].shape[1]
    # Dry, 2 to 5 mm/h, 50 mm/h and more; no coverage; the file's own palette rounds.
    for row, colour in zip(middle, ("fbfbf9", "2c6fb7", "7d1665"), strict=True):
        np.testing.assert_allclose(row[width // 4], list(bytes.fromhex(colour)), atol=8)
        np.testing.assert_allclose(row[3 * width // 4], list(bytes.fromhex("c9c9c6")), atol=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lead_times=0"], "found lead_times=0 and input_frames=5, expected at least 1 and 2"),
        (["--input_frames=1"], "found lead_times=20 and input_frames=1"),
        (["--side=8"], "size=8, expected at least 32"),
        (["--repeats=0"], "found repeats=0"),
        (["--event={event}"], "found 9 frames of 50 × 44 pixels, expected at least 25 of 480"),
        (["--event={event}", "--input_frames=3", "--lead_times=6", "--side=45"], "of 45 × 45"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(arguments, message, event, tmp_path, capsys):
    out = tmp_path / "out.json"
    tiny = TINY if arguments == ["--repeats=0"] else []
    given = [argument.format(event=event) for argument in arguments]
    assert main(["render", "--matrix_side=8", *tiny, *given, f"--out={out}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()
