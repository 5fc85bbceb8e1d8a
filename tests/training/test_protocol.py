"""Pretraining and finetuning: exact resume, MEmeL's statistics, refusals."""

import csv
import os
import signal
from dataclasses import replace

import pytest
import torch
from moving_square import write_moving_square

from nowcast import memel
from nowcast.errors import InputError, Stopped
from nowcast.models.checkpoint import load, read_checkpoint
from nowcast.models.encoder_forecaster import EncoderForecaster, NetworkSettings
from nowcast.training.callbacks import KeepCheckpoint, read_learning_curve
from nowcast.training.data import DataSettings
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import HIDDEN_STATES, RunSettings, finetune, pretrain

NETWORK = NetworkSettings(hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6))
INHIBITION = {"at": HIDDEN_STATES, "late_start": 8}


def data(store, **changes):
    wanted = {"store": store.path, "input_frames": 5, "lead_times": 20, "workers": 0}
    return DataSettings(**(wanted | changes))


def run(out, **changes):
    wanted = {"out": out, "validate_every": 4, "valid_clips": 2, "checkpoint_every": 3,
              "log_every": 1, "accelerator": "cpu", "devices": 1}  # fmt: skip
    return RunSettings(**(wanted | changes))


STEPS = OptimizationSettings(steps=8, learning_rate=1e-3, decay_factor=0.5, decay_every=3)


def weights(path):
    return read_checkpoint(path)[1]["state_dict"]


def test_pretraining_leaves_a_checkpoint_that_forecasts_and_a_learning_curve(store, tmp_path):
    path = pretrain(NETWORK, data(store), STEPS, run(tmp_path), INHIBITION)
    trained = load(path)
    assert trained.description.step_minutes == 6
    assert trained.description.network == NETWORK
    assert trained.description.inhibition == {"at": list(HIDDEN_STATES), "late_start": 8}
    assert not memel.inserted(trained.network)
    assert trained.forecast(torch.rand(2, 5, 1, 60, 30), 3).shape == (2, 3, 1, 60, 30)
    content = read_checkpoint(path)[1]
    assert content["global_step"] == 8
    # Five calls a step in each encoder layer, twenty in each forecaster layer.
    for level in range(3):
        for part, calls in (("encoder", 5), ("forecaster", 20)):
            name = f"network.{part}.stages.{level}.rnn.cell.memel.calls"
            assert content["state_dict"][name] == 8 * calls
    curve = read_learning_curve(tmp_path / "metrics.csv")
    assert curve["train_loss"][0] == list(range(8))
    assert curve["valid_csi_0.5"][0] == [3, 7]
    assert curve["train_loss"][1][-1] == pytest.approx(
        1e-5 * (curve["train_balanced_mse"][1][-1] + curve["train_balanced_mae"][1][-1])
    )


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


def test_finetuning_starts_from_the_weights_with_a_fresh_optimizer_and_other_clips(store, tmp_path):
    start = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "pre"), INHIBITION)
    still = replace(STEPS, steps=1, learning_rate=1e-12)
    tuned = finetune(start, data(store), still, run(tmp_path / "tuned", seed=9))
    for name, value in weights(tuned).items():
        torch.testing.assert_close(value, weights(start)[name], rtol=0, atol=1e-9)
    assert not [name for name in weights(tuned) if "memel" in name]
    state = read_checkpoint(tuned)[1]["optimizer_states"][0]["state"]
    assert {float(entry["step"]) for entry in state.values()} == {1.0}


def test_finetuning_with_memel_keeps_the_statistics_of_a_model_pretrained_with_it(store, tmp_path):
    with_layers = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "with"), INHIBITION)
    without = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "without"))
    one = replace(STEPS, steps=1)
    calls = "network.encoder.stages.0.rnn.cell.memel.calls"
    kept = finetune(with_layers, data(store), one, run(tmp_path / "kept"), INHIBITION)
    assert weights(kept)[calls] == 8 * 5 + 5
    new = finetune(without, data(store), one, run(tmp_path / "new"), INHIBITION)
    assert weights(new)[calls] == 5


def test_wrong_checkpoints_and_data_are_one_line_errors(store, tmp_path):
    text = tmp_path / "notes.ckpt"
    text.write_text("no checkpoint")
    with pytest.raises(InputError, match=r"notes\.ckpt: found no readable checkpoint"):
        finetune(text, data(store), STEPS, run(tmp_path / "x"))
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(InputError, match=r"other\.ckpt: found a file without 'nowcast' entry"):
        load(other)
    with pytest.raises(InputError, match=r"missing\.ckpt: found no file"):
        load(tmp_path / "missing.ckpt")
    trained = pretrain(NETWORK, data(store), replace(STEPS, steps=1), run(tmp_path / "a"))
    five = write_moving_square(tmp_path / "five.h5", step_minutes=5)
    with pytest.raises(InputError, match=r"last\.ckpt: trained on steps of 6 minutes.* at 5"):
        finetune(trained, data(five, step_minutes=5), STEPS, run(tmp_path / "x"))
    wide = NetworkSettings(strides=(5, 4, 2))
    with pytest.raises(InputError, match=r"square\.h5: frames are 30 × 30.*multiples of 40"):
        pretrain(wide, data(store), STEPS, run(tmp_path / "x"))
    with pytest.raises(InputError, match="no module is called 'decoder'"):
        pretrain(NETWORK, data(store), STEPS, run(tmp_path / "x"), {"at": ["decoder"]})
    assert not (tmp_path / "x").exists()


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    path = tmp_path / "hostile.ckpt"
    torch.save({"nowcast": Payload(), "state_dict": {}}, path)
    with pytest.raises(InputError, match=r"hostile\.ckpt: found no readable checkpoint"):
        load(path)
    assert "code ran" not in capsys.readouterr().out


def test_validation_is_in_evaluation_mode_and_memel_is_off(store, tmp_path):
    seen = []
    original = EncoderForecaster.forward

    def forward(self, frames, lead_times):
        seen.append((self.training, len(memel.inserted(self))))
        return original(self, frames, lead_times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderForecaster, "forward", forward)
        pretrain(NETWORK, data(store), replace(STEPS, steps=4), run(tmp_path), INHIBITION)
    assert seen == [(True, 6)] * 4 + [(False, 6)]
