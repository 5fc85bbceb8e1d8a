"""Networks as files to pass on: the same forecasts, nothing else in them, damage named."""

import errno
import json
import os
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import Description, export, load, read_checkpoint
from nowcast.models.settings import NetworkSettings
from nowcast.models.weights_file import KEY

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
    assert (tmp_path / "again.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    """That of this process."""
    os.umask(now := os.umask(0))
    return now


@pytest.mark.parametrize("called", ["net.ckpt", "net.SafeTensors", "net"])
def test_whatever_it_is_called_it_is_known_by_what_it_holds(checkpoint, tmp_path, called):
    export(checkpoint, tmp_path / "net.safetensors")
    before = load(tmp_path / "net.safetensors").forecast(FRAMES, 2)
    (tmp_path / "net.safetensors").rename(tmp_path / called)
    assert torch.equal(load(tmp_path / called).forecast(FRAMES, 2), before)
    checkpoint.rename(tmp_path / "last.safetensors")
    assert torch.equal(load(tmp_path / "last.safetensors").forecast(FRAMES, 2), before)


def test_loading_draws_no_random_numbers(checkpoint):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(checkpoint)
    assert torch.equal(torch.rand(1), expected)


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
    elif kind == "endless nesting":
        save_file(load_file(path), path, metadata={KEY: "[" * 200_000})
    elif isinstance(kind, tuple):
        name, change = kind
        weights = load_file(path)
        weights[name] = change(next(iter(weights.values())))
        save_file(weights, path, metadata=header["__metadata__"])
    else:
        entry = json.loads(header["__metadata__"][KEY])
        entry.update(kind)
        save_file(load_file(path), path, metadata={KEY: json.dumps(entry)})


HEAD = "network.forecaster.head.2.bias"


def network_with(**changes):
    return {"network": {**SMALL.__dict__, **changes}}


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
        ("endless nesting", "found no readable safetensors file"),
        (network_with(hidden=[4, 6, 60_000]), "weights do not fit the network"),
        (network_with(hidden=[4, 6, 10**30]), "found an unusable description"),
        (network_with(hidden=[4.0, 6.0, 6.0]), "found an unusable description"),
        (network_with(forecasts="junk"), "found an unusable description"),
        (network_with(along_flow="false"), "found an unusable description"),
        (network_with(forecaster_memory="x"), "found an unusable description"),
        (network_with(recurrence="none") | {"input_frames": "5"}, "found an unusable description"),
        ({"input_frames": 0}, "found an unusable description"),
        ({"lead_times": None}, "found an unusable description"),
        ({"frame_shape": []}, "found an unusable description"),
        ({"frame_shape": "ab"}, "found an unusable description"),
        ({"step_minutes": "five"}, "found an unusable description"),
        ({"step_minutes": -5}, "found an unusable description"),
        ({"run": [1]}, "found an unusable description"),
        ((HEAD, lambda x: np.full(1, np.nan, x.dtype)), f"found weights in {HEAD} that are infin"),
        ((HEAD, lambda x: np.ones(1, np.int8)), f"found {HEAD} as torch.int8, expected floating-"),
        ((HEAD, lambda x: np.ones(2, x.dtype)), "weights do not fit the network: found forecaste"),
        (("network.surprise", lambda x: x), "weights do not fit the network: 1 names differ"),
        (("surprise", lambda x: x), "found surprise, expected weights of a network alone"),
        (("network.a.memel.mean", lambda x: x), "found network.a.memel.mean, expected weights of"),
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
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="found a folder, expected the name of a file to write"):
        export(checkpoint, tmp_path / "folder.safetensors")
    with pytest.raises(InputError, match=r"found a file at .*last.ckpt, expected a folder"):
        export(checkpoint, checkpoint / "net.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "folder.safetensors"}


def test_weights_that_are_no_numbers_are_not_passed_on(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"][HEAD][0] = torch.inf
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match="infinite or no numbers"):
        export(checkpoint, tmp_path / "net.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_on_a_full_disk_the_file_that_was_there_stays(checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"before")

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        export(checkpoint, out)
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "net.safetensors"}


def test_names_are_no_paths_and_files_come_first(checkpoint, tmp_path, monkeypatch):
    for name in ("../checkpoint", "nowhere", "", "."):
        with pytest.raises(InputError, match=r"expected a checkpoint or .*\(convgru-5min\)"):
            read_checkpoint(name)
    monkeypatch.chdir(tmp_path)
    assert read_checkpoint("convgru-5min")[0].step_minutes == 5
    shutil.copy(checkpoint, "convgru-5min")
    assert read_checkpoint("convgru-5min")[0].run["of"] == "Regen ☂"
