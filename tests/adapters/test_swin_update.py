"""Table 3 on Swin: a step's effect on selected neurons, beside its restatement in float64."""

import copy
import json
from types import SimpleNamespace

import made_up_images
import numpy as np
import pytest
import torch
from made_up_images import SYNSETS
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from nowcast import memel
from nowcast.adapters import swin_update
from nowcast.adapters.rows import LayerSettings
from nowcast.adapters.swin import build_model, insert
from nowcast.adapters.swin_finetuned import load_statistics, open_network
from nowcast.commands.imagenet import main
from nowcast.memel.variants import Inhibition

SWIN = "swin_tiny_patch4_window7_224"
TINY = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": [2, 2, 1, 1],
        "num_heads": [1, 2, 2, 4]}  # fmt: skip
# The middle four of six; in the first of them an image has 4 windows, shifted ones.
MIDDLE = ["layers.0.blocks.1.attn", "layers.1.blocks.0.attn", "layers.1.blocks.1.attn",
          "layers.2.blocks.0.attn"]  # fmt: skip
ROWS = {"Original": None, "Naive (a)": 0.0, "Naive (b)": -1.0, "Reverse deactivation": 1.0}
RATE, CLIP, EPSILON, BATCH, KNOWN = 0.01, 5.0, 1e-3, 6, 3


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return made_up_images.write_imagenet(tmp_path_factory.mktemp("imagenet"), 4, 1)


def run(imagenet, out, *more):
    """Run the command and see the trial, its batches and its steps."""
    seen = SimpleNamespace(batches=[], lines=[])
    make_batches, measure = swin_update._batches, memel.measure_updates

    def batches(training):
        for batch in make_batches(training):
            seen.batches.append(batch)
            yield batch

    def spy(trial, *rest):
        seen.trial = trial
        seen.statistics = {
            name: (layer.mean.clone(), layer.variance.clone())
            for name, layer in memel.inserted(trial.model).items()
        }
        seen.weights = copy.deepcopy(trial.model)
        seen.steps = measure(trial, *rest)
        return seen.steps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swin_update, "_batches", batches)
        patch.setattr(memel, "measure_updates", spy)
        patch.setattr("builtins.print", lambda *items, **_: seen.lines.append(str(items[0])))
        settings = json.dumps(TINY)
        arguments = [f"--data={imagenet}", f"--model={SWIN}", f"--model_settings={settings}"]
        arguments += [f"--batch_size={BATCH}", f"--statistics_batches={KNOWN}", "--workers=0"]
        arguments += ["--device=cpu", f"--out={out}", *more]
        assert main(["update", *arguments]) == 0, seen.lines
    seen.json = json.loads(out.read_text(encoding="utf-8"))
    return seen


@pytest.fixture(scope="module")
def measured(imagenet, tmp_path_factory):
    """From weights whose large head makes gradients so large that they are clipped."""
    folder = tmp_path_factory.mktemp("update")
    torch.manual_seed(0)
    network = build_model(SWIN, SYNSETS, **TINY)
    network.head.fc.weight.data *= 100
    save_file(dict(network.state_dict()), folder / "weights.safetensors")
    options = ["--optimizer=sgd", f"--learning_rate={RATE}", "--drop_path=0", "--at_least=40"]
    # Rotation and the like leave areas of one colour, where φ of several tokens is the same.
    options += ["--auto_augment=null", "--erasing=0"]
    options.append(f"--weights={folder / 'weights.safetensors'}")
    return run(imagenet, folder / "update.json", *options)


def test_all_rows_are_of_the_same_batches_and_enough_neurons(measured):
    rows = measured.json["rows"]
    assert list(rows) == list(ROWS)
    assert {row["neurons"] for row in rows.values()} == {2 * 4 * BATCH}
    assert measured.json["settings"]["at_least"] == 40
    assert len(measured.batches) == KNOWN + 2
    for name, row in rows.items():
        decrease = np.concatenate([step.decrease for step in measured.steps[name]])
        update = np.concatenate([step.update for step in measured.steps[name]])
        assert row["decrease_mean"]["value"] == pytest.approx(decrease.mean(), rel=1e-12)
        assert row["update_mean"]["value"] == pytest.approx(update.mean(), rel=1e-12)
        assert row["update_median"]["value"] == pytest.approx(np.median(update), rel=1e-12)
    beyond = [row["decrease_mean"]["value"] for row in rows.values()]
    for row, value in zip(rows.values(), beyond, strict=True):
        # Batches are of equal size, so that the mean of differences is the difference of means.
        for other, name in ((beyond[0], "original"), (beyond[1], "naive_a")):
            found = row[f"decrease_beyond_{name}"]["value"]
            assert found == pytest.approx(value - other, rel=1e-9, abs=1e-15)


def test_table_and_json_show_the_paper_beside(measured):
    (table,) = (line for line in measured.lines if line.startswith("in percent"))
    for row, (decrease, update) in {
        "Original": (0.003, 0.052), "Naive (a)": (-0.017, 0.118), "Naive (b)": (-0.044, 0.161),
        "Reverse deactivation": (0.013, 0.189),
    }.items():  # fmt: skip
        own, paper = (line for line in table.splitlines() if line.startswith(row + " "))
        assert f"{100 * measured.json['rows'][row]['decrease_mean']['value']:.3g} (" in own
        assert paper.split() == [
            *row.split(), "decrease", "ratio", f"{decrease}", "total", "update", "ratio",
            f"{update}",
        ]  # fmt: skip
        assert measured.json["paper, percent"][row] == {
            "decrease ratio": decrease,
            "total update ratio": update,
        }


class Restated:
    """The same network in float64 without layers; hooks regroup, select and replace by numpy."""

    def __init__(self, network):
        self.network = copy.deepcopy(network).double()
        memel.remove(self.network)
        self.before = copy.deepcopy(self.network.state_dict())

    def run(self, batch, replaced=None, delta=None):
        """Loss, and z of each layer as (image, window · token, feature)."""
        pictures, targets = batch
        seen = {}

        def hook(name):
            def after(module, given, z):
                seen[name] = z.detach().numpy().reshape(len(pictures), -1, z.shape[-1]).copy()
                if delta is None or replaced is None:
                    return None
                image, token, feature, mean = replaced[name]
                together = z.reshape(len(pictures), -1, z.shape[-1])
                own = together[image, token, feature]
                fixed = -delta * own + (torch.from_numpy(mean) + delta * own).detach()
                together = together.index_put(
                    tuple(map(torch.from_numpy, (image, token, feature))), fixed
                )
                return together.reshape(z.shape)

            return after

        hooks = [self.network.get_submodule(n).register_forward_hook(hook(n)) for n in MIDDLE]
        loss = cross_entropy(self.network(pictures.double()), targets.double())
        for handle in hooks:
            handle.remove()
        return loss, seen

    def statistics(self, batches):
        """Mean and unbiased variance of every feature over images, windows and tokens."""
        with torch.no_grad():
            each = [self.run(batch)[1] for batch in batches]
        found = {}
        for name in MIDDLE:
            z = np.concatenate([own[name].reshape(-1, own[name].shape[-1]) for own in each])
            found[name] = z.mean(0), z.var(0, ddof=1)
        return found

    def step(self, batch, delta, statistics):
        """Decrease ratios, update ratios, loss and its change, of one clipped gradient step."""
        self.network.load_state_dict(self.before)
        self.network.zero_grad()
        known = self.run(batch)[1] if delta is None else self.sequential(batch, statistics)
        replaced = {name: self.select(known[name], *statistics[name]) for name in MIDDLE}
        loss, z = self.run(batch, replaced, delta)
        loss.backward()
        weights = [p for p in self.network.parameters() if p.grad is not None]
        norm = sum(float(p.grad.square().sum()) for p in weights) ** 0.5
        assert norm > CLIP
        with torch.no_grad():
            for p in weights:
                p -= RATE * CLIP / norm * p.grad
            after, z_after = self.run(batch, replaced, delta)
        decrease, update = [], []
        for name in MIDDLE:
            image, token, feature, mean = replaced[name]
            old, new = (values[name][image, token, feature] for values in (z, z_after))
            decrease.append(1 - ((new - mean) / (old - mean)) ** 2)  # The variance cancels out.
            update.append(abs(new / old - 1))
        change = float(after / loss.detach() - 1)
        return np.concatenate(decrease), np.concatenate(update), float(loss.detach()), change

    def sequential(self, batch, statistics):
        """Activations of all layers where each selects from what the earlier ones have replaced."""
        replaced = {}
        known = {}
        for name in MIDDLE:
            known = self.run_some(batch, replaced)
            replaced[name] = self.select(known[name], *statistics[name])
        return known

    def run_some(self, batch, replaced):
        """Activations where only some layers replace; Δ does not matter to values."""
        nowhere = np.array([], dtype=np.int64)
        empty = (nowhere, nowhere, nowhere, np.array([], dtype=np.float64))
        with torch.no_grad():
            return self.run(batch, {n: replaced.get(n, empty) for n in MIDDLE}, 1.0)[1]

    @staticmethod
    def select(z, mean, variance):
        """Of each image the activation of largest φ: image, token, feature, its mean."""
        phi = (z - mean) ** 2 / (variance + EPSILON * variance.mean())
        token, feature = np.unravel_index(phi.reshape(len(z), -1).argmax(1), z.shape[1:])
        return np.arange(len(z)), token, feature, mean[feature]


def test_ratios_of_a_step_are_those_of_its_restatement_in_float64(measured):
    restated = Restated(measured.weights)
    statistics = restated.statistics(measured.batches[:KNOWN])
    for name, (mean, variance) in measured.statistics.items():
        np.testing.assert_allclose(mean, statistics[name][0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variance, statistics[name][1], rtol=1e-4)
    assert list(measured.statistics) == MIDDLE
    moved = {}
    for row, delta in ROWS.items():
        for batch, found in zip(measured.batches[KNOWN:], measured.steps[row], strict=True):
            decrease, update, loss, change = restated.step(batch, delta, statistics)
            assert len(decrease) == 4 * BATCH
            np.testing.assert_allclose(found.decrease, decrease, rtol=1e-3, atol=2e-5)
            np.testing.assert_allclose(found.update, update, rtol=1e-3, atol=2e-5)
            assert found.loss == pytest.approx(loss, rel=1e-5)
            assert found.loss_change == pytest.approx(change, rel=1e-3, abs=1e-6)
            moved.setdefault(row, []).append(decrease)
    # The rows differ by far more than these tolerances.
    naive_a, reverse = np.array(moved["Naive (a)"]), np.array(moved["Reverse deactivation"])
    assert abs(reverse - naive_a).max() > 1e-3


def test_original_replaces_nothing(measured):
    plain = copy.deepcopy(measured.weights)
    memel.remove(plain)
    for (pictures, targets), step in zip(
        measured.batches[KNOWN:], measured.steps["Original"], strict=True
    ):
        with torch.no_grad():
            loss = float(cross_entropy(plain(pictures), targets))
        assert step.loss == pytest.approx(loss, rel=1e-6)
    for row in ("Naive (a)", "Naive (b)", "Reverse deactivation"):
        first, other = measured.steps[row][0].loss, measured.steps["Original"][0].loss
        assert first != pytest.approx(other, rel=1e-6)


def test_a_finetuned_network_keeps_head_and_statistics_and_a_step_of_0_changes_nothing(
    imagenet, tmp_path
):
    torch.manual_seed(1)
    network = build_model(SWIN, SYNSETS, **TINY)
    layers = insert(network, Inhibition(), LayerSettings(), steps=1)
    network.train()
    for _ in range(2):
        network(torch.randn(3, 3, 32, 32))
    saved = {
        f"{place}.{name}": value.clone()
        for place, layer in layers.items()
        for name, value in layer.state_dict().items()
    }
    memel.remove(network)
    save_file(dict(network.state_dict()), tmp_path / "weights.safetensors")
    save_file(saved, tmp_path / "memel.safetensors")
    options = ["--learning_rate=0", "--at_least=48", "--top=2", "--layers.per=batch"]
    weights = f"--weights={tmp_path / 'weights.safetensors'}"
    seen = run(imagenet, tmp_path / "update.json", weights, *options)
    for name, (mean, variance) in seen.statistics.items():
        assert torch.equal(mean, saved[f"{name}.mean"])
        assert torch.equal(variance, saved[f"{name}.variance"])
    assert torch.equal(seen.weights.head.fc.weight, network.head.fc.weight)
    # Drop path is on, and the same before the step and after it.
    assert {row["neurons"] for row in seen.json["rows"].values()} == {6 * 2 * 4}
    assert len(seen.batches) == 6
    for row in seen.json["rows"].values():
        for name in ("decrease_mean", "update_mean", "loss_change", "decrease_beyond_original"):
            assert row[name] == {"value": 0, "low": 0, "high": 0}, name


def test_statistics_of_other_layers_are_not_taken(tmp_path):
    network = build_model(SWIN, SYNSETS, **TINY)
    layers = insert(network, Inhibition(), LayerSettings(), steps=1)
    weights = tmp_path / "weights.safetensors"
    assert not load_statistics(layers, weights)
    save_file({"layers.0.blocks.0.attn.mean": torch.zeros(8)}, tmp_path / "memel.safetensors")
    assert not load_statistics(layers, weights)
    assert all(not layer.mean.numel() for layer in layers.values())


def test_pretrained_weights_of_other_classes_get_a_new_head(tmp_path):
    torch.manual_seed(0)
    pretrained = build_model(SWIN, [str(n) for n in range(7)], **TINY)
    save_file(dict(pretrained.state_dict()), tmp_path / "pretrained.safetensors")
    network = open_network(SWIN, SYNSETS, tmp_path / "pretrained.safetensors", config=TINY)
    assert network.head.fc.weight.shape[0] == len(SYNSETS)
    name = "layers.1.blocks.0.attn.qkv.weight"
    assert torch.equal(network.state_dict()[name], pretrained.state_dict()[name])


def test_other_networks_of_timm_are_measured_by_names_of_modules(imagenet, tmp_path):
    out = tmp_path / "vit.json"
    arguments = ["--model=vit_tiny_patch16_224", "--weights=none", "--layers.at=['blocks.1.attn']",
                 '--model_settings={"img_size": 32, "depth": 3, "embed_dim": 12, "num_heads": 2}',
                 "--at_least=8", "--batch_size=4", "--statistics_batches=1",
                 "--workers=0"]  # fmt: skip
    assert main(["update", f"--data={imagenet}", "--device=cpu", f"--out={out}", *arguments]) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["neurons"] for row in rows.values()] == [8] * 4
    assert all(row["update_mean"]["value"] > 0 for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at_least=0"], "at_least=0"),
        (["--learning_rate=-1"], "learning_rate=-1.0"),
        (["--learning_rate=.nan"], "learning_rate=nan"),
        (["--workers=-1"], "workers=-1"),
        (["--drop_path=1.5"], "recipe: found drop_path=1.5"),
        (["--mixup=-1"], "augmentation: found mixup=-1.0"),
        (["--model_settings={img_size: [56, 56]}"], "found img_size=[56, 56], expected one"),
        (["--batch_size=5"], "found batch_size=5, expected an even number"),
        (["--batch_size=1000"], "found 1000 on each of 1 devices, expected at most"),
        (["--weights=nowhere.safetensors"], "nowhere.safetensors: found no file"),
        (["--data=nowhere"], "nowhere"),
        (["--layers.at=[nothing.attn]"], "no module is called 'nothing.attn'"),
        (["--top=100000"], "top=100000 of"),
        (["--layers.layers=7"], "found 6 modules called 'attn'"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(
    arguments, message, imagenet, tmp_path, capsys
):
    out = tmp_path / "update.json"
    given = [f"--data={imagenet}", f"--model={SWIN}", f"--model_settings={json.dumps(TINY)}"]
    given += ["--weights=none", "--batch_size=4", "--workers=0", "--device=cpu", f"--out={out}"]
    assert main(["update", *given, *arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()
