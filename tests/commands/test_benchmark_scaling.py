"""Part scaling of the benchmark: which steps it times, what it fits, what it draws."""

import json
import math
import statistics

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nowcast.benchmarks.scaling import exponent, growing_shapes
from nowcast.benchmarks.training_step import StepShape
from nowcast.commands.benchmark import main
from nowcast.errors import InputError
from nowcast.rendering.scaling import write_scaling

TINY = [
    "--hidden=[4, 6, 6]", "--side=30", "--batch=2", "--input_frames=1", "--lead_times=2",
    "--device=cpu", "--matrix_side=64",
]  # fmt: skip
FULL_SIZE = StepShape((64, 192, 192), 120, 2, 5, 20)


def test_each_quantity_grows_alone():
    grown = growing_shapes(FULL_SIZE, (1, 2, 3, 4))
    assert {name: list(sizes) for name, sizes in grown.items()} == {
        "frames": [25, 50, 75, 100],
        "clips": [2, 4, 6, 8],
        # Multiples of 30 nearest to 120 · √factor.
        "pixels": [120**2, 180**2, 210**2, 240**2],
    }
    assert grown["frames"][75] == StepShape((64, 192, 192), 120, 2, 15, 60)
    assert grown["clips"][6] == StepShape((64, 192, 192), 120, 6, 5, 20)
    assert grown["pixels"][210**2] == StepShape((64, 192, 192), 210, 2, 5, 20)
    assert all(next(iter(sizes.values())) == FULL_SIZE for sizes in grown.values())


def test_operations_grow_as_the_quantities_do():
    base = FULL_SIZE.step_gflop()
    grown = growing_shapes(FULL_SIZE, (3,))
    for quantity in ("clips", "pixels"):
        (small, _), (large, shape) = grown[quantity].items()
        assert shape.step_gflop() / base == pytest.approx(large / small, rel=1e-12)
    # The first state of a layer is zero and has no gradient: a share that does not grow.
    (_, shape) = list(grown["frames"].values())
    assert shape.step_gflop() / base == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ((), "found [], expected numbers of at least 1"),
        ((2, 0), "found [2, 0], expected numbers of at least 1"),
        ((1,), "found [1], which give one number of frames"),
    ],
)
def test_factors_that_make_no_growth_are_refused(factors, message):
    with pytest.raises(InputError) as raised:
        growing_shapes(FULL_SIZE, factors)
    assert message in str(raised.value)


def test_sides_that_round_to_one_are_refused():
    with pytest.raises(InputError, match="one number of pixels"):
        growing_shapes(StepShape((4, 6, 6), 30, 1, 1, 1), (1, 2))


@pytest.mark.parametrize("power", [0.0, 0.9, 1.0, 2.5])
def test_exponents_of_powers_are_exact(power):
    seconds = {size: [3.0 * size**power, 0.1 * size**power] for size in (25, 50, 75, 4000)}
    found = exponent(seconds)
    assert (found.median, found.smallest, found.largest) == pytest.approx([power] * 3, abs=1e-12)


def test_exponents_are_least_squares_of_each_round():
    random = np.random.default_rng(0)
    sizes = np.array([1, 2, 3, 4])
    rounds = sizes * random.uniform(0.8, 1.2, (5, 4))
    slopes = [np.polyfit(np.log(sizes), np.log(times), 1)[0] for times in rounds]
    found = exponent(dict(zip(sizes.tolist(), rounds.T.tolist(), strict=True)))
    assert found.median == pytest.approx(statistics.median(slopes), rel=1e-10)
    assert (found.smallest, found.largest) == pytest.approx((min(slopes), max(slopes)), rel=1e-10)


def test_points_lie_where_they_were_measured_and_the_line_meets_the_origin(monkeypatch, tmp_path):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k))
    )
    seconds = {"frames": {25: [1.0, 1.5, 1.2], 50: [2.0, 4.0, 2.4]}, "clips": {1: [3.0], 4: [12.0]}}
    exponents = {"frames": (1.0, 0.95, 1.42), "clips": (1.0, 1.0, 1.0)}
    write_scaling(tmp_path / "plot.png", seconds, exponents, title="A step")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
    (figure,) = figures
    frames, clips = figure.axes
    assert frames.get_title(loc="left") == "frames: exponent 1.00 (0.95–1.42)"
    (bars,) = frames.containers
    points, caps, (spread,) = bars
    np.testing.assert_allclose(points.get_xydata(), [[25, 1.2], [50, 2.4]])
    np.testing.assert_allclose([cap.get_xydata()[:, 1] for cap in caps], [[1, 2], [1.5, 4]])
    np.testing.assert_allclose(spread.get_segments()[1], [[50, 2.0], [50, 4.0]])
    for axis, slope in ((frames, 1.2 / 25), (clips, 3.0)):
        line = axis.lines[0].get_xydata()
        np.testing.assert_allclose(line[0], [0, 0])
        assert line[1, 1] / line[1, 0] == pytest.approx(slope, rel=1e-12)
        assert line[1, 0] > axis.lines[1].get_xdata().max()
    # As high in all fields, so that they compare.
    assert frames.get_ylim() == clips.get_ylim()
    assert frames.get_ylim()[0] == 0


def test_a_plot_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="scaling: found"):
        write_scaling(tmp_path / "plot.png", {"frames": {}}, {"frames": (1.0, 1.0, 1.0)})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """JSON and folder of one small run of the command."""
    folder = tmp_path_factory.mktemp("scaling")
    arguments = [*TINY, "--factors=[1, 4]", "--precision=fp32", "--repeats=2", "--warmup=0"]
    arguments += [f"--plot={folder / 'plot.png'}", f"--out={folder / 'out.json'}"]
    assert main(["scaling", *arguments]) == 0
    return json.loads((folder / "out.json").read_text(encoding="utf-8")), folder


def test_rows_are_the_sizes_beside_the_smallest(measured):
    found, folder = measured
    smallest = "3 frames, batch 2, 30 × 30"
    assert {row["name"]: row.get("compared_with") for row in found["rows"]} == {
        smallest: None,
        "12 frames, batch 2, 30 × 30": smallest,
        "3 frames, batch 8, 30 × 30": smallest,
        "3 frames, batch 2, 60 × 60": smallest,
    }
    assert {row["ceiling"] for row in found["rows"]} == {"fp32"} == {found["facts"]["precision"]}
    assert len(found["facts"]["peak memory, MB"]) == 4
    assert found["settings"]["plot"] == str(folder / "plot.png")
    with Image.open(folder / "plot.png") as image:
        assert image.format == "PNG"


def test_exponents_and_costs_follow_from_the_rounds(measured):
    found, _ = measured
    rounds = {row["name"]: row["seconds"]["rounds"] for row in found["rows"]}
    small = rounds["3 frames, batch 2, 30 × 30"]
    for quantity, unit, scale, sizes, name in (
        ("frames", "ms per frame", 1e3, (3, 12), "12 frames, batch 2, 30 × 30"),
        ("clips", "ms per clip", 1e3, (2, 8), "3 frames, batch 8, 30 × 30"),
        ("pixels", "µs per pixel", 1e6, (900, 3600), "3 frames, batch 2, 60 × 60"),
    ):
        slopes = [math.log(b / a) / math.log(4) for a, b in zip(small, rounds[name], strict=True)]
        fitted = found["facts"][f"exponent of {quantity}"]
        assert fitted["median"] == pytest.approx(statistics.median(slopes), rel=1e-9, abs=1e-9)
        assert fitted["smallest"] == pytest.approx(min(slopes), rel=1e-9, abs=1e-9)
        assert fitted["largest"] == pytest.approx(max(slopes), rel=1e-9, abs=1e-9)
        costs = found["facts"][unit]
        assert list(costs) == [f"{size:,}" for size in sizes]
        for cost, size, times in zip(costs.values(), sizes, (small, rounds[name]), strict=True):
            assert cost == pytest.approx(scale * statistics.median(times) / size)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--factors=[1]", "factors: found [1]"),
        ("--side=45", "side: found 45, expected a multiple of 30"),
        ("--repeats=0", "found repeats=0"),
        ("--precision=fp64", "precision"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(argument, message, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    assert main(["scaling", *TINY, argument, f"--plot={plot}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not plot.exists()


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path, capsys):
    assert main(["scaling", *TINY, f"--plot={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: found a folder, expected the name of a file to write\n"
    )
