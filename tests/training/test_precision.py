"""The precision that "auto" settles on, and that a run keeps from its first step to its last."""

import logging
from dataclasses import replace

import pytest
import torch
import yaml
from small_runs import NETWORK, STEPS, data, run, weights

from nowcast.commands import main
from nowcast.device import fast_bf16
from nowcast.errors import InputError
from nowcast.models.checkpoint import read_checkpoint
from nowcast.training import execution
from nowcast.training.protocol import pretrain

HERE = "bf16-mixed" if fast_bf16(torch.device("cpu")) else "32-true"
FAST = {"bf16-mixed": True, "32-true": False}


def on_a_machine(monkeypatch, precision):
    """As on one for which this precision is chosen."""
    monkeypatch.setattr(execution, "fast_bf16", lambda device: FAST[precision])


def auto(store, out, steps):
    settings = run(out, precision="auto", valid_clips=0)
    return pretrain(NETWORK, data(store), replace(STEPS, steps=steps), settings)


def precision_of(path):
    return read_checkpoint(path)[0].run["precision"]


def test_a_new_run_takes_what_is_fast_here_and_says_so(store, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="nowcast")
    path = auto(store, tmp_path / "auto", 2)
    assert precision_of(path) == HERE
    assert [m for m in caplog.messages if "precision" in m] == [
        f"precision: {HERE}; cpu {'computes' if FAST[HERE] else 'does not compute'} bfloat16 fast"
    ]
    named = run(tmp_path / "named", precision=HERE, valid_clips=0)
    expected = weights(pretrain(NETWORK, data(store), replace(STEPS, steps=2), named))
    for name, value in weights(path).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("begun", FAST)
def test_a_run_goes_on_in_its_own_precision_on_another_machine(
    store, tmp_path, monkeypatch, caplog, begun
):
    other = next(precision for precision in FAST if precision != begun)
    on_a_machine(monkeypatch, begun)
    unbroken = auto(store, tmp_path / "unbroken", 4)
    auto(store, tmp_path / "moved", 2)
    on_a_machine(monkeypatch, other)
    caplog.set_level(logging.INFO, logger="nowcast")
    moved = auto(store, tmp_path / "moved", 4)
    assert any(f"precision: {begun}, in which the run was begun" in m for m in caplog.messages)
    assert precision_of(moved) == begun
    for name, value in weights(moved).items():
        assert torch.equal(value, weights(unbroken)[name]), name
    new = auto(store, tmp_path / "new", 4)
    assert precision_of(new) == other
    assert any(not torch.equal(v, weights(new)[name]) for name, v in weights(moved).items())


def test_a_run_of_another_precision_is_refused_where_one_is_named(store, tmp_path, monkeypatch):
    on_a_machine(monkeypatch, "bf16-mixed")
    path = auto(store, tmp_path, 1)
    before = path.read_bytes()
    for_32 = run(tmp_path, precision="32-true", valid_clips=0)
    with pytest.raises(InputError, match=r"precision = bf16-mixed, asked for 32-true"):
        pretrain(NETWORK, data(store), STEPS, for_32)
    assert path.read_bytes() == before


@pytest.mark.parametrize("settled", FAST)
def test_the_record_of_a_run_names_what_auto_settled_on(store, tmp_path, monkeypatch, settled):
    on_a_machine(monkeypatch, settled)
    shape = [f"--network.{name}={list(getattr(NETWORK, name))}" for name in
             ("hidden", "features", "up_features")]  # fmt: skip
    command = ["pretrain", f"--data.store={store.path}", "--data.workers=0", *shape,
               "--optimization.steps=1", f"--run.out={tmp_path}", "--run.valid_clips=0",
               "--run.accelerator=cpu", "--run.precision=auto"]  # fmt: skip
    assert main(command) == 0
    recorded = yaml.safe_load((tmp_path / "config.yaml").read_text())["pretrain"]["run"]
    assert recorded["precision"] == settled
