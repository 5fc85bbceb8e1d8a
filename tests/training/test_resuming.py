"""A run that was interrupted goes on to the very same weights; another run is refused."""

import csv
import os
import signal
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast.errors import InputError, Stopped
from nowcast.models.checkpoint import read_checkpoint
from nowcast.training.callbacks import KeepCheckpoint, read_learning_curve
from nowcast.training.module import NowcastModule
from nowcast.training.protocol import finetune, pretrain


@pytest.mark.parametrize("stop_after", [1, 4, 5])
def test_an_interrupted_run_goes_on_to_the_very_same_weights(
    store, tmp_path, monkeypatch, stop_after
):
    unbroken = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken"), INHIBITION)
    with monkeypatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_train_batch_end", _interrupt_after(stop_after))
        with pytest.raises(Stopped, match=f"stopped after step {stop_after}"):
            pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"), INHIBITION)
    assert read_checkpoint(tmp_path / "broken" / "last.ckpt")[1]["global_step"] == stop_after
    resumed = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"), INHIBITION)
    expected = weights(unbroken)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert (tmp_path / "broken" / "metrics.csv").read_text() == (
        tmp_path / "unbroken" / "metrics.csv"
    ).read_text()


def test_a_run_killed_in_a_validation_does_not_miss_it_when_resumed(store, tmp_path, monkeypatch):
    often = {"validate_every": 4, "checkpoint_every": 4}
    pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken", **often))

    def die(self):
        raise RuntimeError("killed")

    for at_step in (4, 8):
        if at_step == 8:
            pretrain(
                NETWORK, data(store), replace(STEPS, steps=4), run(tmp_path / "broken", **often)
            )
        with monkeypatch.context() as patch:
            patch.setattr(NowcastModule, "on_validation_epoch_end", die)
            with pytest.raises(RuntimeError, match="killed"):
                pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken", **often))
    pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken", **often))
    curves = [read_learning_curve(tmp_path / way / "metrics.csv") for way in ("broken", "unbroken")]
    assert curves[0]["valid_loss"] == curves[1]["valid_loss"]
    assert curves[0]["valid_loss"][0] == [3, 7]


def test_a_run_killed_right_after_saving_lacks_no_row_when_resumed(store, tmp_path, monkeypatch):
    """A step's metrics are logged after the hooks in which checkpoints are saved."""
    pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken"))
    original = KeepCheckpoint.on_train_batch_end

    def die(self, trainer, *rest):
        original(self, trainer, *rest)
        if trainer.global_step == 6:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_train_batch_end", die)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"))
    pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"))
    curves = [(tmp_path / way / "metrics.csv").read_text() for way in ("broken", "unbroken")]
    assert curves[0] == curves[1]


def test_checkpoints_are_written_in_the_runs_own_folder_and_renamed(store, tmp_path, monkeypatch):
    saved = []
    original = pl.Trainer.save_checkpoint

    def save_checkpoint(self, path, *rest, **more):
        saved.append(path)
        original(self, path, *rest, **more)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save_checkpoint)
    pretrain(NETWORK, data(store), STEPS, run(tmp_path / "run"))
    assert set(saved) == {tmp_path / "run" / ".last.ckpt.partial"}
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["last.ckpt", "metrics.csv"]


def test_a_run_finetuned_from_another_checkpoint_is_another_run(store, tmp_path):
    one = replace(STEPS, steps=1)
    first = pretrain(NETWORK, data(store), one, run(tmp_path / "a"), INHIBITION)
    other = pretrain(NETWORK, data(store), one, run(tmp_path / "b"))
    finetune(first, data(store), one, run(tmp_path / "tuned"))
    with pytest.raises(InputError, match=r"started_from\.checkpoint_inhibition"):
        finetune(other, data(store), one, run(tmp_path / "tuned"))


def _interrupt_after(step):
    original = KeepCheckpoint.on_train_batch_end

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, trainer, *rest)

    return on_train_batch_end


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_very_same_weights(
    store, tmp_path, monkeypatch
):
    unbroken = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken"))

    original = KeepCheckpoint.on_train_batch_end

    def die(self, trainer, *rest):
        original(self, trainer, *rest)
        if trainer.global_step == 5:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_train_batch_end", die)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"))
    assert read_checkpoint(tmp_path / "broken" / "last.ckpt")[1]["global_step"] == 3
    resumed = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken"))
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(unbroken)[name]), name
    with (tmp_path / "broken" / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["metric"] == "train_loss"]
    assert steps == list(range(8))


def test_a_finished_run_is_not_trained_again(store, tmp_path):
    path = pretrain(NETWORK, data(store), STEPS, run(tmp_path))
    before = path.read_bytes()
    assert pretrain(NETWORK, data(store), STEPS, run(tmp_path)) == path
    assert path.read_bytes() == before


def test_a_folder_with_a_run_of_other_settings_is_refused_and_left_alone(store, tmp_path):
    path = pretrain(NETWORK, data(store), replace(STEPS, steps=1), run(tmp_path))
    before = path.read_bytes()
    other = replace(STEPS, steps=1, learning_rate=2e-3)
    with pytest.raises(InputError, match=r"last\.ckpt: .*learning_rate = 0\.001, asked for 0\.002"):
        pretrain(NETWORK, data(store), other, run(tmp_path))
    with pytest.raises(InputError, match=r"seed = 0, asked for 5"):
        pretrain(NETWORK, data(store), replace(STEPS, steps=1), run(tmp_path, seed=5))
    assert path.read_bytes() == before


def test_more_steps_continue_a_run_with_step_decay(store, tmp_path):
    pretrain(NETWORK, data(store), replace(STEPS, steps=4), run(tmp_path / "a"))
    longer = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "a"))
    straight = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "b"))
    for name, value in weights(longer).items():
        assert torch.equal(value, weights(straight)[name]), name
