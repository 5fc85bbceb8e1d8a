"""Networks as files to pass on: the same forecasts, nothing else in them, damage named."""

import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.numpy import load_file, save_file

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import KEY, Description, export, load, read_checkpoint, shipped
from nowcast.models.settings import NetworkSettings

SMALL = NetworkSettings(
    hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6), coordinates=False
)
FRAMES = torch.rand(1, 5, 1, 60, 60, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["plain", "MEmeL"])
def checkpoint(tmp_path, request):
    """What training leaves: weights, optimizer state and description."""
    torch.manual_seed(0)
    network = build_network(SMALL, 5, 20)
    inhibition = None
    if request.param == "MEmeL":
        inhibition = {"at": list(network.hidden_states), "top": 1}
        memel.insert(network, **inhibition)
        network.train()(FRAMES, 3)
    description = Description(SMALL, 5, 5, 20, (60, 60), inhibition, {"seed": 0, "of": "Regen ☂"})
    weights = network.state_dict()
    content = {
        KEY: description.as_entry(),
        "state_dict": {f"network.{name}": value for name, value in weights.items()},
        "optimizer_states": [{name: 2 * value for name, value in weights.items()}],
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_what_is_exported_forecasts_the_same_and_says_the_same(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "net.safetensors")
    before, after = load(checkpoint), load(tmp_path / "net.safetensors")
    assert torch.equal(before.forecast(FRAMES, 20), after.forecast(FRAMES, 20))
    assert after.description == replace(before.description, inhibition=None)
    export(tmp_path / "net.safetensors", tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").description == after.description


def test_it_holds_the_weights_and_nothing_else(checkpoint, tmp_path):
    """Read by the format's own library, without ours."""
    export(checkpoint, tmp_path / "net.safetensors")
    found = load_file(tmp_path / "net.safetensors")
    weights = load(checkpoint).network.state_dict()
    assert found.keys() == {f"network.{name}" for name in weights}
    for name, value in weights.items():
        assert (found[f"network.{name}"] == value.numpy()).all()
    assert (tmp_path / "net.safetensors").stat().st_size < 0.6 * checkpoint.stat().st_size


def damaged(path, kind):
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    if kind == "truncated":
        path.write_bytes(whole[:-50])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "not one":
        path.write_bytes(b"GIF89a" + bytes(500))
    elif kind == "endless header":
        path.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
    elif kind == "without description":
        save_file(load_file(path), path)
    else:
        entry = json.loads(header["__metadata__"][KEY])
        entry.update(kind)
        save_file(load_file(path), path, metadata={KEY: json.dumps(entry)})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "found no readable safetensors file"),
        ("empty", "found no readable safetensors file"),
        ("not one", "found no readable safetensors file"),
        ("endless header", "found no readable safetensors file"),
        ("without description", "found a file without 'nowcast' entry"),
        ({"format": 7}, "found format 7, expected 1"),
        ({"network": {"recurrence": "Regen"}}, "found an unusable description"),
        ({"network": {"hidden": [4, 6, 8]}}, "weights do not fit the network"),
        ({"surprise": 1}, "found an unusable description"),
    ],
)
def test_damage_is_named_in_one_line(checkpoint, tmp_path, kind, message):
    path = tmp_path / "net.safetensors"
    export(checkpoint, path)
    damaged(path, kind)
    with pytest.raises(InputError) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refusal.value)


def test_places_that_cannot_be_written_are_refused_and_nothing_is_left(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"net.pt: found the suffix '.pt', expected .safetensors"):
        export(checkpoint, tmp_path / "net.pt")
    with pytest.raises(InputError, match="found no file, expected a checkpoint or the name of a n"):
        export(tmp_path / "none.ckpt", tmp_path / "net.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_names_are_no_paths(tmp_path):
    for name in ("../checkpoint", "nowhere", "", "."):
        with pytest.raises(InputError, match="found no file, expected a checkpoint or the name"):
            read_checkpoint(name)
    assert all("/" not in name for name in shipped())
