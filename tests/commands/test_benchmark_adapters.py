"""Part adapters of the benchmark times what it says, where the paper puts layers; not how fast."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nowcast import memel
from nowcast.benchmarks.finetuning_step import CLASSES, FinetuningStep, Sizes, build
from nowcast.commands.benchmark import main

MIDDLE = {
    "bert-base": [f"bert.encoder.layer.{n}.attention" for n in (4, 5, 6, 7)],
    "swin-T": [f"layers.2.blocks.{n}.attn" for n in (0, 1, 2, 3)],
    "swin-S": [f"layers.2.blocks.{n}.attn" for n in (6, 7, 8, 9)],
    "swin-B": [f"layers.2.blocks.{n}.attn" for n in (6, 7, 8, 9)],
}
"""E.1 and the reading notes: 4 of 12 blocks from the fifth on, 4 of 24 from the eleventh."""

PARAMETERS = {"bert-base": 109_483_778, "swin-T": 28_288_354, "swin-S": 49_606_258,
              "swin-B": 87_768_224}  # fmt: skip
"""As published: BERT-base's 109,482,240 and a head of 2 classes; Swin's model zoo: 28, 50, 88 M."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """JSON and table of one small run of the command."""
    out = tmp_path_factory.mktemp("benchmark") / "adapters.json"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *items, **_: lines.append(" ".join(map(str, items))))
        arguments = ["--models=[swin-T]", "--images=2", "--side=32", "--repeats=1", "--warmup=0"]
        arguments += ["--matrix_side=64", "--device=cpu", f"--out={out}"]
        assert main(["adapters", *arguments]) == 0, lines
    return json.loads(out.read_text(encoding="utf-8")), "\n".join(lines)


def test_rows_are_steps_without_layers_with_them_and_after_their_removal(measured):
    found, _ = measured
    assert found["part"] == "adapters"
    assert found["settings"]["models"] == ["swin-T"]
    compared = {row["name"]: row.get("compared_with") for row in found["rows"]}
    assert compared == {
        "swin-T, fp32, without": None,
        "swin-T, fp32, with MEmeL": "swin-T, fp32, without",
        "swin-T, fp32, the layers alone": "swin-T, fp32, without",
        "swin-T, fp32, after remove": "swin-T, fp32, without",
    }
    without = found["rows"][0]["seconds"]
    for row in found["rows"]:
        gflop = found["facts"]["GFLOP of a step"]["swin-T"]
        assert row["work"] == (4 if "alone" in row["name"] else gflop) > 0
        assert len(row["seconds"]["rounds"]) == 1
        assert row["rate_per_second"] == pytest.approx(row["work"] / row["seconds"]["median"])
        if "compared_with" in row:
            ratio = row["seconds"]["median"] / without["median"]
            assert row["time_ratio"]["median"] == pytest.approx(ratio)


def test_layers_parameters_and_memory_are_among_the_facts(measured):
    facts = measured[0]["facts"]
    assert facts["layers"] == {"swin-T": MIDDLE["swin-T"]}
    assert facts["parameters"] == {"swin-T": sum(p.numel() for p in build_swin_t().parameters())}
    memory = facts["peak memory of training in fp32, MB"]["swin-T"]
    if memory != "not known here":
        # Weights, gradients and both moments of AdamW are four times the parameters.
        least = 4 * 4 * facts["parameters"]["swin-T"] / 1e6
        assert all(least < memory[name] < 10 * least for name in ("without", "with MEmeL"))
        assert memory["difference"] == pytest.approx(memory["with MEmeL"] - memory["without"])


def build_swin_t():
    with torch.device("meta"):
        return build("swin-T", side=32, top=None)


def test_table_shows_what_json_holds(measured):
    found, table = measured
    lines = table.splitlines()
    for row in found["rows"]:
        (shown,) = (line for line in lines if line.startswith(row["name"] + "  "))
        assert f"{row['seconds']['median']:#.4g}" in shown
        if "compared_with" in row:
            assert f"{row['time_ratio']['median']:#.3g}" in shown
    facts = found["facts"]
    (shown,) = (line for line in lines if line.startswith("layers: "))
    assert shown == "layers: swin-T: " + ", ".join(facts["layers"]["swin-T"])
    memory = facts["peak memory of training in fp32, MB"]["swin-T"]
    if memory != "not known here":
        (shown,) = (line for line in lines if line.startswith("peak memory"))
        assert (
            f"without: {memory['without']:,.4g}; with MEmeL: {memory['with MEmeL']:,.4g}" in shown
        )


@pytest.mark.parametrize("model", MIDDLE)
def test_full_size_models_have_layers_behind_the_attentions_of_the_middle_blocks(model):
    with torch.device("meta"):
        network = build(model, side=224, top=3)
    layers = memel.inserted(network)
    assert list(layers) == MIDDLE[model]
    assert {
        (layer.top, layer.delta, layer.late_start, layer.neurons) for layer in layers.values()
    } == {(3, 1.0, 0, "last")}
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[model]


def test_steps_train_and_layers_take_part_in_each():
    step = FinetuningStep("swin-T", Sizes(1, 1, 3, 32), torch.device("cpu"), "fp32", top=2)
    layers = memel.inserted(step.network)
    before = [p.detach().clone() for p in step.network.parameters()]
    selected = {}
    for number in range(2):
        for name, layer in layers.items():
            layer.observer = lambda z, d, key=(number, name): selected.setdefault(key, (z, d))
        step()
    after = list(step.network.parameters())
    assert sum(torch.equal(a, b) for a, b in zip(after, before, strict=True)) < len(after) / 10
    assert [int(layer.calls) for layer in layers.values()] == [2] * 4
    for (number, _), (z, decision) in selected.items():
        assert len(z) == 3  # One sample is one image, though there are windows in between.
        assert decision.selected.shape == (3, 2)
        assert bool(decision.started) is (number == 1)


def test_bert_reads_sentences_of_different_lengths_padding_left_out():
    sizes = Sizes(sentences=3, tokens=12, images=1, side=32)
    batch = sizes.batch("bert-base")
    lengths = batch["attention_mask"].sum(1)
    assert lengths[0] == 12
    assert len(set(lengths.tolist())) > 1
    step = FinetuningStep("bert-base", sizes, torch.device("cpu"), "bf16", top=1)
    with FlopCounterMode(display=False) as counter:
        step()
    for layer in memel.inserted(step.network).values():
        assert int(layer.count) == int(lengths.sum())
        assert layer.mask is None
    # A multiplication and an addition for each weight of the 12 layers and token, three times:
    # forward, gradient of the input, gradient of the weight; attention adds 4 · tokens² · features.
    # Only the first token goes through the pooler and the head.
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    tokens, attention = 3 * 12, 12 * 3 * 4 * 12**2 * 768
    head = 3 * (768**2 + 768 * CLASSES["bert-base"])
    assert counter.get_total_flops() == 3 * (2 * weights * tokens + attention + 2 * head)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=[]"], "found none"),
        (["--models=[swin-X]"], "models"),
        (["--precisions=[]"], "found none"),
        (["--images=0"], "images: found 0, expected at least 1"),
        (["--side=33"], "side: found 33, expected a multiple of 32"),
        (["--tokens=513"], "tokens: found 513"),
        (["--top=101"], "top: found 101, expected 1 to 100"),
    ],
)
def test_wrong_settings_are_one_line(arguments, message, capsys):
    assert main(["adapters", *arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
