"""`probe profile`: what it says, writes and refuses."""

import csv
import json
import re
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
import yaml
from as_user import EXPERIMENT, contents, nowcast, write_experiment
from matplotlib.figure import Figure
from PIL import Image

from nowcast import memel
from nowcast.models.checkpoint import load
from nowcast.radar.store import FrameStore
from nowcast.training.data import SequentialClips
from nowcast.training.inhibition import HIDDEN_STATES

LAYERS = [f"{part}.stages.{level}.rnn.cell" for part in ("encoder", "forecaster")
          for level in range(3)]  # fmt: skip
PRETRAINED, FINETUNED = "runs/pretrain/last.ckpt", "runs/finetune/last.ckpt"
PROFILE = {
    "data": EXPERIMENT["evaluate"]["data"],
    "out": "runs/profile",
    "checkpoints": {"pretrained": PRETRAINED, "finetuned": FINETUNED},
    "at_most": 3,
    "top": 2,
}


@pytest.fixture
def experiment(tmp_path):
    sections = deepcopy(EXPERIMENT) | {"probe": {"profile": PROFILE}}
    return write_experiment(tmp_path / "experiment.yaml", sections)


def profile(experiment, out, *options):
    return nowcast("probe", "profile", "--config", experiment, "--out", out, *options)


def test_profiles_are_those_of_the_networks_on_the_clips(folder, experiment, tmp_path):
    said = profile(experiment, tmp_path / "out")
    assert said.status == 0, said.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "profile.csv", "profile.json", "profile.png",
    ]  # fmt: skip
    report = json.loads((tmp_path / "out/profile.json").read_text())
    with (tmp_path / "out/profile.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    store = FrameStore(folder / "data/rain.h5", step_minutes=6)
    clips = SequentialClips(store, "valid", 25, at_most=3)
    frames = [clips[index][0][:5].float() / 255 for index in range(3)]
    inputs = [torch.stack(frames[:2]), torch.stack(frames[2:])]
    assert report["settings"]["clips"] == 3
    assert report["settings"]["fingerprint"] == store.fingerprint
    number = 0
    for name, path, step in (("pretrained", PRETRAINED, 4), ("finetuned", FINETUNED, 2)):
        found = report["networks"][name]
        assert (found["step"], found["file"]) == (step, "/".join(path.split("/")[-2:]))
        expected = memel.profile(
            load(folder / path).network, inputs, HIDDEN_STATES, lambda m, x: m(x, 20), top=2
        )
        assert list(found["layers"]) == list(expected) == LAYERS
        for layer, one in expected.items():
            written = found["layers"][layer]
            for key in ("samples", "calls", "largest", "mean_square", "ever_selected"):
                assert written[key] == getattr(one, key), key
            assert written["counts"] == list(one.counts)
            indices = [tuple(neuron["index"]) for neuron in written["most_monosemantic"]]
            assert indices == [neuron.index for neuron in one.most_monosemantic]
            row, number = rows[number], number + 1
            assert (row["network"], row["layer"]) == (name, layer)
            assert float(row["phi_99"]) == written["phi_99"] == one.quantile(0.99)
            assert float(row["phi_mean_square"]) == one.mean_square
            assert row["most_monosemantic"] == " ".join(map(str, indices[0]))
            lines = [line for line in said.out.splitlines() if line.startswith(layer)]
            assert len(lines) == 2
            assert f"  {one.neurons:,}  " in lines[0]
    assert number == len(rows)
    assert "pretrained: pretrain/last.ckpt, step 4" in said.out
    assert len(report["phi_edges"]) + 1 == len(found["layers"][LAYERS[0]]["counts"])
    with Image.open(tmp_path / "out/profile.png") as image:
        assert image.width >= 900


def at_step(source, target, step):
    """A checkpoint as the same training would have left at another step."""
    content = torch.load(source, weights_only=True)
    content["global_step"] = step
    for name, value in content["state_dict"].items():
        if name.endswith("h2h.bias"):
            value += 0.01 * step
    torch.save(content, target)


def test_checkpoints_of_one_training_show_how_it_changes(folder, experiment, tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda f, *rest, **more: (figures.append(f), save(f, *rest, **more))
    )
    for step in (20, 3):
        at_step(PRETRAINED, tmp_path / f"{step}.ckpt", step)
    chosen = {"late": tmp_path / "20.ckpt", "early": tmp_path / "3.ckpt", "middle": PRETRAINED,
              "other": FINETUNED}  # fmt: skip
    text = json.dumps({name: str(path) for name, path in chosen.items()})
    said = profile(experiment, tmp_path / "out", "--checkpoints", text, "--neurons=channel",
                   f"--at=[{LAYERS[0]},'forecaster.*.2.*.cell']")  # fmt: skip
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "out/profile.json").read_text())
    _, history = figures[0].subfigs
    assert [axis.get_title(loc="left") for axis in history.axes] == [LAYERS[0], LAYERS[5]]
    for axis, layer in zip(history.axes, (LAYERS[0], LAYERS[5]), strict=True):
        assert report["networks"]["late"]["layers"][layer]["neuron_shape"] in ([4], [6])
        assert all(list(line.get_xdata()) == [3, 4, 20] for line in axis.lines)
        largest = [report["networks"][n]["layers"][layer]["largest"]
                   for n in ("early", "middle", "late")]  # fmt: skip
        assert any(np.allclose(line.get_ydata(), largest) for line in axis.lines)
    names = [text.get_text() for text in history.legends[0].get_texts()]
    assert names == ["median", "99 %", "largest", "mean φ²"]


def test_its_section_is_printed_as_it_is_read(experiment, tmp_path):
    said = nowcast("probe", "profile", "--config", experiment, "--print_config")
    assert said.status == 0, said.err
    section = yaml.safe_load(said.out)["probe"]["profile"]
    assert section["checkpoints"] == PROFILE["checkpoints"]
    assert (section["split"], section["at"]) == ("valid", list(HIDDEN_STATES))
    printed = tmp_path / "printed.yaml"
    printed.write_text(said.out)
    again = nowcast("probe", "profile", "--config", printed, "--print_config")
    assert yaml.safe_load(again.out) == yaml.safe_load(said.out)


def test_without_a_part_all_are_listed():
    listed, asked = nowcast("probe"), nowcast("probe", "--help")
    assert (listed.status, asked.status) == (2, 0)
    assert listed.err == asked.out
    assert re.search("^  profile  ", asked.out, re.MULTILINE)
    wrong = nowcast("probe", "neurons")
    assert (wrong.status, wrong.out) == (2, "")
    assert wrong.err.startswith("error: found no part 'neurons', expected profile")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--checkpoints={}"], "checkpoints: found none, expected at least one"),
        (["--at=[decoder]"], f"{PRETRAINED}: MEmeL: no module is called 'decoder'; there is"),
        (["--top=-1"], "found top=-1, epsilon=0.001, expected none below 0"),
        (["--at_most=0"], "at_most: found 0"),
        (["--split=nowhere"], "data/rain.h5: no split 'nowhere'"),
        (["--neurons=pixel"], "neurons"),
        (["--device=abacus"], "device: found 'abacus'"),
        (["--data.step_minutes=12", "--data.subsample=true"], "trained on steps of 6 minutes"),
        (["--checkpoints.pretrained=data/rain.h5"], "data/rain.h5: found no readable checkpoint"),
        (["--out=runs/pretrain/last.ckpt"], "runs/pretrain/last.ckpt: found a file"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(
    folder, experiment, tmp_path, options, expected
):
    before = contents(folder)
    said = profile(experiment, tmp_path / "out", *options)
    assert said.status == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert not (tmp_path / "out").exists()
    assert contents(folder) == before


def test_a_training_that_profiles_leaves_a_picture_beside_its_learning_curve(folder, tmp_path):
    shutil.copy("experiment.yaml", tmp_path)
    options = ("--config", tmp_path / "experiment.yaml", "--optimization.steps=2")
    for out, clips in (("plain", 0), ("profiled", 2)):
        said = nowcast("pretrain", *options, "--run.out", tmp_path / out,
                       f"--run.profile_clips={clips}")  # fmt: skip
        assert said.status == 0, said.err
    assert not (tmp_path / "plain/monosemanticity.png").exists()
    with Image.open(tmp_path / "profiled/monosemanticity.png") as image:
        assert image.width >= 900
    curves = []
    for out in ("plain", "profiled"):
        with Image.open(tmp_path / out / "learning_curve.png") as image:
            curves.append(image.size)
    assert curves[0] == curves[1]
