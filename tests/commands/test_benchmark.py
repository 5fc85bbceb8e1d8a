"""Every part of the benchmark runs, measures what it says, and counts right; not how fast."""

import json
import statistics
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nowcast.benchmarks.data import decode_clip
from nowcast.benchmarks.plain import plain_copy, plain_forward
from nowcast.benchmarks.rounds import time_rounds
from nowcast.benchmarks.training_step import StepShape, TrainingStep
from nowcast.commands.benchmark import PARTS as ALL_PARTS
from nowcast.commands.benchmark import main
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.radar.archive_preparation import prepare_hko7
from nowcast.radar.store import FrameStore
from nowcast.radar.synthetic import SyntheticRain
from nowcast.radar.synthetic_archive import write_archive

TINY = [
    "--hidden=[4, 6, 6]", "--side=30", "--batch=2", "--input_frames=3", "--lead_times=4",
    "--device=cpu",
]  # fmt: skip
PARTS = {
    "train": [*TINY, "--repeats=3"],
    "memel": [*TINY, "--tops=[1, 3]", "--repeats=2"],
    "data": [
        "--size=32", "--coarse_size=16", "--hours=2", "--clip_length=5", "--clips_per_round=2",
        "--batches_per_round=3", "--compressions=[lz4, none]", "--repeats=2", "--workers=1",
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=PARTS)
def measured(request, tmp_path_factory):
    """Part, its JSON and its table, run once."""
    out = tmp_path_factory.mktemp("benchmark") / f"{request.param}.json"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *items, **_: lines.append(" ".join(map(str, items))))
        arguments = [request.param, *PARTS[request.param], "--matrix_side=64", f"--out={out}"]
        assert main(arguments) == 0, lines
    return request.param, json.loads(out.read_text(encoding="utf-8")), "\n".join(lines)


def test_json_names_part_settings_and_machine(measured):
    part, found, _ = measured
    assert found["part"] == part
    repeats = [int(a.split("=")[1]) for a in PARTS[part] if a.startswith("--repeats")]
    assert [found["settings"]["repeats"]] == repeats
    machine = found["machine"]
    assert machine["torch"] == torch.__version__
    assert machine["numpy"] == np.__version__
    assert machine["threads"] == torch.get_num_threads()
    assert machine["cores"] >= 1
    assert machine["processor"]
    for precision in ("fp32", "bf16"):
        rate = machine["matrix_product_gflop_s"][precision]
        assert 0 < rate["smallest"] <= rate["median"] <= rate["largest"]


def test_medians_spreads_rates_and_ratios_follow_from_the_rounds(measured):
    _, found, _ = measured
    rounds = {row["name"]: row["seconds"]["rounds"] for row in found["rows"]}
    assert len(rounds) == len(found["rows"])
    for row in found["rows"]:
        seconds = row["seconds"]
        assert len(seconds["rounds"]) == found["settings"]["repeats"]
        assert min(seconds["rounds"]) > 0
        assert seconds["median"] == statistics.median(seconds["rounds"])
        assert (seconds["smallest"], seconds["largest"]) == (
            min(seconds["rounds"]),
            max(seconds["rounds"]),
        )
        assert row["rate_per_second"] == pytest.approx(row["work"] / seconds["median"])
        if "compared_with" in row:
            base = rounds[row["compared_with"]]
            ratios = [a / b for a, b in zip(seconds["rounds"], base, strict=True)]
            assert row["time_ratio"]["rounds"] == pytest.approx(ratios)
            assert row["time_ratio"]["median"] == pytest.approx(statistics.median(ratios))
        if "ceiling" in row:
            share = row["share_of_ceiling"]
            if products := rounds.get(f"matrix product {row['ceiling']}"):
                expected = [
                    row["work"] / own * of / (5 * 2e-9 * 2048**3)
                    for own, of in zip(seconds["rounds"], products, strict=True)
                ]
            else:
                ceiling = found["machine"]["matrix_product_gflop_s"][row["ceiling"]]["largest"]
                expected = [row["rate_per_second"] / ceiling]
            assert share["rounds"] == pytest.approx(expected)
            assert share["median"] == pytest.approx(statistics.median(expected))
            extremes = (share["smallest"], share["largest"])
            assert extremes == pytest.approx((min(expected), max(expected)))


def test_table_shows_every_row_and_the_machine(measured):
    _, found, table = measured
    lines = table.splitlines()
    for row in found["rows"]:
        (shown,) = (line for line in lines if line.startswith(row["name"] + "  "))
        assert f"{row['seconds']['median']:#.4g}" in shown
        if "compared_with" in row:
            assert f"{1 / row['time_ratio']['median']:.2f}× {row['compared_with']}" in shown
    assert found["machine"]["processor"] in table
    assert torch.__version__ in table


def test_rows_are_the_variants_of_the_part(measured):
    part, found, _ = measured
    compared = {row["name"]: row.get("compared_with") for row in found["rows"]}
    assert (
        compared
        == {
            "train": {
                "plain fp32": None,
                "plain fp32, inputs at once": "plain fp32",
                "plain fp32, memory kept": "plain fp32",
                "ours fp32": "plain fp32",
                "ours bf16": "plain fp32",
                "ours fp32, recomputed": "ours fp32",
                "ours bf16, recomputed": "ours bf16",
                "matrix product bf16": None,
                "matrix product fp32": None,
            },
            "memel": {
                **{f"{p}, without": None for p in ("fp32", "bf16")},
                **{
                    f"{p}, top {n}{part_of_it}": f"{p}, without"
                    for p in ("fp32", "bf16")
                    for n in (1, 3)
                    for part_of_it in ("", ", in the layers")
                },
                "forecast, never inserted": None,
                "forecast, after remove": "forecast, never inserted",
            },
            "data": {
                f"{side}: {what}": f"{side}: {other}" if other else None
                for side in (32, 16)
                for what, other in {
                    **dict.fromkeys(("conversion to lz4", "conversion to none")),
                    "PNG and mask files": None,
                    **dict.fromkeys(
                        (
                            *("frame store, lz4", "frame store, none", "frame store in memory"),
                            "frame store, lz4, 1 threads",
                        ),
                        "PNG and mask files",
                    ),
                    **dict.fromkeys(("loader, 1 threads", "loader, 1 threads, in memory")),
                }.items()
            },
        }[part]
    )
    if part == "train":
        losses, peaks = (
            found["facts"][name] for name in ("loss of the last step", "peak memory, MB")
        )
        assert list(losses) == list(peaks) == list(compared)[:-2]
        # A network that has not been updated has another loss.
        for name, loss in losses.items():
            assert loss == pytest.approx(losses["plain fp32"], rel=1e-3 if "bf16" in name else 2e-6)
        for name, steps in found["facts"]["of it for the steps, MB"].items():
            assert 0 < steps < peaks[name] - 90, name
    if part == "memel":
        # Three encoder layers see the input frames, three forecaster layers the lead times.
        calls = found["facts"]["calls per step"]
        assert list(calls.values()) == [[3, 3, 3, 4, 4, 4]] * 4
        assert len(found["facts"]["layers"]) == 6
        operations = found["facts"]["ms in the layers by operation, of a profiled step"]
        assert list(operations) == list(calls)
        for name, spent in operations.items():
            assert spent["between operations"] > 0, name
            assert spent["sum"] > 0, name
    if part == "data":
        assert found["facts"]["frames"] == 20
        on_disk = found["facts"]["MB on disk"]
        assert sorted(on_disk) == [
            "16, lz4", "16, none", "32, lz4", "32, none", "PNG and mask files",
        ]  # fmt: skip
        assert on_disk["32, none"] > on_disk["32, lz4"] > on_disk["16, lz4"] > 0
        hko7 = found["facts"]["GB for the 203,904 frames of HKO-7's train and valid days"]
        assert hko7["32, lz4"] == pytest.approx(on_disk["32, lz4"] / 20 * 203.904)
        peaks = found["facts"]["peak memory of conversion with 1 workers, MB"]
        assert all(20 < peak < 1000 for peak in peaks.values())


def convolution_gflop(shape):
    """A step's convolutions by hand: 2 · pixels · inputs · outputs · kernel², once forward, once
    for the gradient of the weights and once for that of the input, where that has one."""
    settings, total, side = shape.network, 0, shape.side
    inputs = (4, *settings.hidden)
    for level, hidden in enumerate(settings.hidden):
        features, up = settings.features[level], settings.up_features[level]
        fine, side = side, side // settings.strides[level]
        pixels, fine_pixels = shape.batch * side**2, shape.batch * fine**2
        past, future = shape.input_frames, shape.lead_times
        down = 2 * pixels * inputs[level] * features * settings.down_kernels[level] ** 2
        # Neither the frames nor the first states have a gradient.
        total += past * down * (2 if level == 0 else 3)
        i2h = 2 * pixels * features * 3 * hidden * 9
        h2h = 2 * pixels * hidden * 3 * hidden * settings.state_kernels[level] ** 2
        total += past * 3 * i2h + (past - 1) * 3 * h2h + future * 3 * h2h
        if level + 1 < len(settings.hidden):
            total += future * 3 * 2 * pixels * settings.up_features[level + 1] * 3 * hidden * 9
        total += future * 3 * 2 * pixels * hidden * up * settings.up_kernels[level] ** 2
        if level == 0:
            total += future * 3 * 2 * fine_pixels * (up * up * 9 + up)
    return total / 1e9


@pytest.mark.parametrize(
    "shape", [StepShape((4, 6, 6), 30, 2, 3, 4), StepShape((64, 192, 192), 120, 4, 5, 20)]
)
def test_operations_of_a_step_are_those_of_its_convolutions(shape):
    assert shape.step_gflop() == pytest.approx(convolution_gflop(shape), rel=1e-12)


@pytest.mark.parametrize("inputs_at_once", [False, True])
def test_the_plain_opponent_computes_the_same_forecast_and_gradients(inputs_at_once):
    torch.manual_seed(0)
    shape = StepShape((4, 6, 6), 30, 2, 3, 4)
    network = EncoderForecaster(shape.network).double()
    plain = plain_copy(network)
    assert all(p.is_contiguous() for p in plain.parameters())
    past = shape.frames(torch.device("cpu"))[0].double()
    own, theirs = network(past, 4), plain_forward(plain, past, 4, inputs_at_once)
    torch.testing.assert_close(theirs, own, rtol=1e-10, atol=1e-12)
    own.square().sum().backward()
    theirs.square().sum().backward()
    for (name, mine), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(other.grad, mine.grad, rtol=1e-8, atol=1e-10, msg=name)


def test_a_training_step_lowers_the_loss_of_its_own_frames():
    torch.manual_seed(0)
    shape = StepShape((4, 6, 6), 30, 2, 3, 4)
    network = EncoderForecaster(shape.network)
    step = TrainingStep(network, network, shape, bf16=False)

    def squared_error():
        with torch.no_grad():
            return float((network(step.past, 4) - step.future).square().mean())

    before = squared_error()
    for _ in range(5):
        step()
    assert squared_error() < before


def test_decoding_an_archive_and_reading_its_store_give_the_same_clip(tmp_path):
    rain = SyntheticRain(size=32, missing_fraction=0.0, outages_per_day=0.0)
    write_archive(
        tmp_path / "a", rain, train_days=1, valid_days=0, test_days=0, hours_per_day=1, workers=1
    )
    for side in (32, 16):
        path = tmp_path / f"{side}.h5"
        prepare_hko7(
            tmp_path / "a", path, size=32, downsample_to=side, splits=("train",), workers=1
        )
        store = FrameStore(path)
        (sequence,) = store.sequences
        clip = store.read(sequence, sequence.times[2], 5)
        with ThreadPoolExecutor(3) as pool:
            frames, masks = decode_clip(tmp_path / "a", sequence.times[2:7], 32, 32 // side, pool)
        assert frames.any()
        assert not masks.all()
        np.testing.assert_array_equal(frames, clip.frames)
        np.testing.assert_array_equal(masks, clip.mask)


def test_rounds_run_variants_in_turn_and_leave_the_warmup_out(monkeypatch):
    ran, clock = [], [0.0]
    monkeypatch.setattr("nowcast.benchmarks.rounds.time.perf_counter", lambda: clock[0])

    def variant(name, cost):
        def run():
            ran.append(name)
            clock[0] += cost * len(ran)

        return run

    found = time_rounds({"a": variant("a", 1), "b": variant("b", 10)}, 2, 1, "test")
    assert ran == ["a", "b"] * 3
    assert found == {"a": (3, 5), "b": (40, 60)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", *TINY[:1], "--side=100"], "side: found 100, expected a multiple of 30"),
        (["train", *TINY, "--batch=0"], "batch: found 0, expected at least 1"),
        (["train", *TINY, "--repeats=0"], "found repeats=0"),
        (["train", *TINY, "--variants=[]"], "variants: found none"),
        (["train", *TINY, "--device=nonsense"], "device: found 'nonsense'"),
        (["memel", *TINY, "--tops=[1, 7]"], "expected numbers from 1 to the 6 activations"),
        (["data", "--clip_length=0"], "clip_length=0, batches_per_round=50"),
        (["data", *PARTS["data"], "--clip_length=21"], "found 21, the archive has 20 frames"),
        (["train", "--matrix_side=0"], "matrix_side"),
        (["train", "--colour=red"], "colour"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(arguments, message, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main([arguments[0], "--matrix_side=8", *arguments[1:], f"--out={out}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()


def test_unknown_parts_are_refused_and_help_names_the_parts(capsys):
    assert main(["memory"]) == 2
    parts = ", ".join(ALL_PARTS)
    assert capsys.readouterr().err == f"error: found no part 'memory', expected {parts}\n"
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: benchmark PART")
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {part} " in shown for part in ALL_PARTS)


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path, capsys):
    assert main(["train", *TINY, f"--out={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: found a folder, expected the name of a file to write\n"
    )


def test_a_device_that_torch_does_not_know_is_refused():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="device: found 'vacuum'"):
        choose_device("vacuum")
