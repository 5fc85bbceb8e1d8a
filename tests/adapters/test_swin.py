"""timm's Swin as the authors' scripts finetune it: weights, head, layers, names in the table."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from made_up_images import SYNSETS
from safetensors.torch import save_file
from timm.data import ImageNetInfo

from nowcast import memel
from nowcast.adapters.augmentation import View
from nowcast.adapters.imagenet import view_of
from nowcast.adapters.imagenet_experiment import PAPER, label_of
from nowcast.adapters.rows import ROWS, LayerSettings
from nowcast.adapters.swin import build_model, insert
from nowcast.adapters.swin_weights import find_weights, head_rows, read_weights
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

SWIN_T, SWIN_S, SWIN_B = (f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base"))
TINY = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (1, 1, 3, 1),
        "num_heads": (1, 2, 2, 4)}  # fmt: skip
THOUSAND = ImageNetInfo("imagenet-1k").label_names()


# Weights and head


def test_rows_of_the_head_are_those_of_the_authors_map():
    rows = head_rows(SWIN_T, THOUSAND, 21_841)
    # SHA-256 of data/map22kto1k.txt of github.com/microsoft/Swin-Transformer, its numbers one a
    # line: 1,000 places of ImageNet-1k's classes among the outputs for ImageNet-22k.
    digest = hashlib.sha256("\n".join(map(str, rows)).encode()).hexdigest()
    assert digest == AUTHORS_MAP
    assert rows[:3] == [359, 368, 460]
    assert rows[THOUSAND.index("n04399382")] == 5564
    assert max(rows) == 21_817


AUTHORS_MAP = "4fff66d6f337db6dd0b41d1b6c863e617f9400d37892df630eecfcfa50131aab"


@pytest.mark.parametrize(
    ("name", "outputs", "subset"),
    [("convnext_tiny", 21_841, "imagenet-22k"), ("resnet50", 1000, "imagenet-1k"),
     ("vit_base_patch16_224", 21_843, "imagenet-21k-goog")],
)  # fmt: skip
def test_rows_of_other_heads_are_timms(name, outputs, subset):
    names = ImageNetInfo(subset).label_names()
    classes = ["n01440764", "n15075141", "n02123045"]
    assert head_rows(name, classes, outputs) == [names.index(synset) for synset in classes]


def test_classes_without_a_row_are_none():
    assert head_rows(SWIN_T, ["n01440764", "cat"], 21_841) is None
    assert head_rows(SWIN_T, ["n01440764"], 37) is None


@pytest.fixture(scope="module")
def pretrained():
    """A tiny network for ImageNet-22k with random weights."""
    torch.manual_seed(0)
    return timm.create_model(SWIN_T, num_classes=21_841, **TINY).eval()


def as_the_authors_name_them(model):
    """Weights of timm's Swin in the form of the authors' checkpoints."""
    state = {}
    for name, value in model.state_dict().items():
        parts = name.replace("head.fc.", "head.").split(".")
        if parts[:1] == ["layers"] and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = value
    for name, module in model.named_modules():
        if name.endswith(".attn"):
            state[f"{name}.relative_position_index"] = module.relative_position_index
            state[f"{name.removesuffix('attn')}attn_mask"] = torch.zeros(4, 49, 49)
    return {"model": state}


@pytest.mark.parametrize("form", ["authors", "timm"])
def test_pretrained_network_answers_for_its_classes_as_before(pretrained, tmp_path, form, caplog):
    if form == "authors":
        path = tmp_path / "swin_tiny_patch4_window7_224_22k.pth"
        content = as_the_authors_name_them(pretrained)
        assert "layers.0.downsample.reduction.weight" in content["model"]
        torch.save(content, path)
    else:
        path = tmp_path / "model.safetensors"
        save_file(pretrained.state_dict(), path)
    assert find_weights(SWIN_T, path, False) == find_weights(SWIN_T, tmp_path, False) == path
    with caplog.at_level("INFO", "nowcast"):
        model = build_model(SWIN_T, SYNSETS, path, **TINY).eval()
    assert "starts from 7 of its 21841 rows" in caplog.text
    generator = torch.Generator().manual_seed(1)
    seen = torch.randn(2, 3, 32, 32, generator=generator)
    rows = head_rows(SWIN_T, SYNSETS, 21_841)
    with torch.inference_mode():
        torch.testing.assert_close(model(seen), pretrained(seen)[:, rows], atol=1e-6, rtol=1e-5)
    assert "state_dict" not in model.pretrained_cfg
    assert view_of(model, 32) == View(size=32)
    assert view_of(model) == View(size=224)
    with caplog.at_level("INFO", "nowcast"):
        other = build_model(SWIN_T, ["cat", "dog"], path, **TINY)
    assert "the new head starts from 0" in caplog.text
    assert not other.head.fc.weight.any()
    assert not other.head.fc.bias.any()
    assert torch.equal(other.layers[2].blocks[1].attn.qkv.weight,
                       pretrained.layers[2].blocks[1].attn.qkv.weight)  # fmt: skip


def test_weights_that_do_not_fit_are_refused(pretrained, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(pretrained.state_dict(), path)
    with pytest.raises(InputError, match=r"model\.safetensors: as weights of swin_tiny.*size"):
        build_model(SWIN_T, SYNSETS, path, **TINY | {"embed_dim": 16})
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"model\.safetensors: found no weights, expected a state"):
        read_weights(path)
    pickled = tmp_path / "model.pth"
    torch.save({"model": {"head.weight": torch.zeros(2)}, "hook": print}, pickled)
    with pytest.raises(InputError, match=r"model\.pth: found no weights"):
        read_weights(pickled)
    torch.save({"model": {"norm.weight": torch.zeros(2)}}, pickled)
    with pytest.raises(
        InputError, match=r"found no head, expected weights called head\.fc\.weight"
    ):
        build_model(SWIN_T, SYNSETS, pickled, **TINY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: found none, expected one file swin_small"):
        find_weights(SWIN_S, tmp_path / "empty", False)
    for name in ("swin_tiny_patch4_window7_224_22k.pth", "swin_tiny_patch4_window7_224.pth"):
        (tmp_path / "empty" / name).touch()
    with pytest.raises(InputError, match=r"224\.pth, swin\w+_22k\.pth, expected one file"):
        find_weights(SWIN_T, tmp_path / "empty", False)
    with pytest.raises(InputError, match=r"nowhere: found no file, expected weights of swin_tiny"):
        find_weights(SWIN_T, tmp_path / "nowhere", False)


def test_weights_of_the_hub_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=rf"timm/{SWIN_T}\.ms_in22k: found no such folder, nor a copy .*--download"
    ):
        find_weights(SWIN_T, None, False)
    with pytest.raises(InputError, match=r"found no pretrained weights vit_\w+\.ms_in22k, .*in21k"):
        find_weights("vit_base_patch16_224", None, False)
    with pytest.raises(InputError, match=r"models: found 'swim', expected a name of timm's"):
        build_model("swim", SYNSETS)
    with pytest.raises(InputError, match=r"swin_tiny\w+: .*unexpected keyword argument 'dim'"):
        build_model(SWIN_T, SYNSETS, dim=3)


# Layers


@pytest.mark.slow
def test_layers_follow_the_four_middle_attentions_at_full_size():
    torch.manual_seed(0)
    for name, places, drop_path in (
        (SWIN_T, range(4), 0.1), (SWIN_S, range(6, 10), 0.2), (SWIN_B, range(6, 10), 0.2),
    ):  # fmt: skip
        model = build_model(name, THOUSAND)
        layers = insert(model, Inhibition(), LayerSettings(late_start=0), steps=2)
        assert list(layers) == [f"layers.2.blocks.{place}.attn" for place in places]
        assert model.layers[-1].blocks[-1].drop_path1.drop_prob == pytest.approx(drop_path)
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        loss = torch.nn.functional.cross_entropy(model(torch.randn(1, 3, 224, 224)),
                                                 torch.tensor([3]))  # fmt: skip
        loss.backward()
        optimizer.step()
        for layer in layers.values():
            assert layer.mean.shape == (model.layers[2].blocks[0].dim,)
            # One image is 196 samples of each feature, in 4 windows.
            assert (int(layer.count), int(layer.calls)) == (196, 1)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_windows_that_do_not_divide_an_image_are_refused():
    """Timm pads them, and padding would be counted and selected."""
    config = {"embed_dim": 8, "num_heads": (1, 2, 2, 4), "depths": (2, 2, 2, 1)}
    model = build_model(SWIN_T, SYNSETS, img_size=256, **config)
    with pytest.raises(InputError) as refused:
        insert(model, Inhibition(), LayerSettings(layers=6), 10)
    assert str(refused.value) == (
        "layers.0.blocks.0.attn: found windows of 7 × 7 in 64 × 64 tokens, which timm pads, "
        "expected windows that divide them; give for example window_size=8 (--model_settings)"
    )
    assert not memel.inserted(model)
    other = build_model(SWIN_T, SYNSETS, img_size=56, **config)  # 14, 7, 4, 2 tokens a side
    with pytest.raises(InputError, match=r"2\.blocks\.0\.attn: found images of 56 × 56 .* of 16 "):
        insert(other, Inhibition(), LayerSettings(layers=5), 10)
    assert not memel.inserted(other)
    # What follows no windows sees no padding.
    assert insert(model, Inhibition(), LayerSettings(at=("layers.*.blocks.*.mlp",)), 10)
    memel.remove(model)
    # Windows are never larger than what they divide, as in the last stage here.
    for more in ({"img_size": 256, "window_size": 8}, {"img_size": 224}):
        model = build_model(SWIN_T, SYNSETS, **config | more)
        layers = insert(model, Inhibition(), LayerSettings(layers=7), 10)
        model(torch.zeros(1, 3, more["img_size"], more["img_size"]))
        tokens = [int(layer.count) for layer in layers.values()]
        side = more["img_size"] // 4
        assert tokens == [(side // 2 ** (n // 2)) ** 2 for n in range(7)]
    other = build_model("swinv2_tiny_window8_256", SYNSETS, img_size=224, **config)
    with pytest.raises(InputError, match=r"windows of 8 × 8 in 28 × 28 tokens.*window_size=7 "):
        insert(other, Inhibition(), LayerSettings(), 10)


def test_other_models_by_the_names_of_their_modules():
    vit = build_model("vit_tiny_patch16_224", SYNSETS, img_size=32)
    settings = LayerSettings()
    assert list(insert(vit, Inhibition(), settings, 10)) == [
        f"blocks.{n}.attn" for n in range(4, 8)
    ]
    convnext = build_model("convnext_atto", SYNSETS)
    with pytest.raises(InputError, match=r"0 modules called 'attn'.*--layers\.at"):
        insert(convnext, Inhibition(), settings, 10)
    at = replace(settings, at=("stages.2.blocks.*.mlp",))
    assert len(insert(convnext, Inhibition(), at, 10)) == 6


def test_one_selection_for_an_image_is_not_one_for_each_window():
    torch.manual_seed(0)
    model = build_model(SWIN_T, SYNSETS, img_size=112, embed_dim=8, num_heads=(1, 2, 2, 4))
    layers = insert(model, Inhibition(), LayerSettings(at=("layers.0.blocks.0.attn",)), 1)
    layer = layers["layers.0.blocks.0.attn"]
    outputs = []
    attention = model.get_submodule("layers.0.blocks.0.attn")
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(2, 3, 112, 112))
    layer.late_start = 0
    model.eval()
    seen = torch.randn(2, 3, 112, 112)
    attention.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        for layer.in_evaluation in (True, False):
            model(seen)
    with_layer, plain = outputs
    assert with_layer.shape == (2 * 16, 49, 8)
    differs = (with_layer != plain).reshape(2, -1).sum(1)
    assert differs.tolist() == [1, 1]
    # Where φ is largest in each image, by its definition.
    variance, mean = layer.variance.double(), layer.mean.double()
    phi = (plain.double() - mean) ** 2 / (variance + layer.epsilon * variance.mean())
    largest = phi.reshape(2, -1).argmax(1)
    found = (with_layer != plain).reshape(2, -1).int().argmax(1)
    assert found.tolist() == largest.tolist()


# The table


def test_labels_are_the_papers_where_the_networks_may_be():
    assert (
        label_of(SWIN_T)
        == label_of(f"{SWIN_T}.ms_in22k")
        == label_of(SWIN_T, Path("x"))
        == "Swin-T"
    )
    assert label_of(SWIN_T, "none") == label_of(SWIN_T, None, {"img_size": 56}) == SWIN_T
    assert label_of(f"{SWIN_T}.ms_in1k") == f"{SWIN_T}.ms_in1k"
    assert label_of("vit_base_patch16_224") == "vit_base_patch16_224"
    assert PAPER["MEmeL-Tune"] == {"Swin-T top-1": 81.1, "Swin-S top-1": 83.5, "Swin-B top-1": 85.2}
    assert [PAPER[row]["Swin-B top-1"] for row in ROWS] == [85.1, 84.6, 85.1, 85.1, 85.2, 85.1]
