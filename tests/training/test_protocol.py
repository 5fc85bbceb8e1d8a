"""Pretraining and finetuning: what they leave, MEmeL's statistics, refusals."""

from dataclasses import replace

import pytest
import torch
from moving_square import write_moving_square
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.checkpoint import load, read_checkpoint
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.protocol import finetune, pretrain


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


def test_statistics_of_another_grid_are_refused_unless_started_anew(store, tmp_path):
    one = replace(STEPS, steps=1)
    first = pretrain(NETWORK, data(store), one, run(tmp_path / "a"), INHIBITION)
    wide = write_moving_square(tmp_path / "wide.h5", side=60)
    with pytest.raises(InputError, match=r"statistics of frames of \(30, 30\).* has \(60, 60\)"):
        finetune(first, data(wide), one, run(tmp_path / "x"), INHIBITION)
    fresh = finetune(
        first, data(wide), one, run(tmp_path / "fresh"), INHIBITION, fresh_statistics=True
    )
    calls = "network.encoder.stages.0.rnn.cell.memel.calls"
    assert weights(fresh)[calls] == 5
    finetune(first, data(store), one, run(tmp_path / "kept"), INHIBITION)
    with pytest.raises(InputError, match="fresh_statistics = False, asked for True"):
        finetune(first, data(store), one, run(tmp_path / "kept"), INHIBITION, fresh_statistics=True)


@pytest.mark.parametrize(
    ("inhibition", "said"),
    [
        ({"top": 100_000}, "top=100000 of"),
        ({"at": ["encoder"], "item": 7}, "Encoder returns list .* expected a tensor as 7"),
        ({"at": ["decoder"]}, "no module is called 'decoder'"),
    ],
)
def test_layers_that_cannot_work_are_refused_before_anything_is_written(
    store, tmp_path, inhibition, said
):
    with pytest.raises(InputError, match=said):
        pretrain(NETWORK, data(store), STEPS, run(tmp_path / "x"), INHIBITION | inhibition)
    assert not (tmp_path / "x").exists()


def test_statistics_of_other_neurons_are_refused(store, tmp_path):
    one = replace(STEPS, steps=1)
    first = pretrain(NETWORK, data(store), one, run(tmp_path / "a"), INHIBITION)
    with pytest.raises(InputError, match="statistics are of neurons"):
        finetune(first, data(store), one, run(tmp_path / "x"), INHIBITION | {"neurons": "channel"})


def test_training_under_bfloat16_autocast_keeps_weights_and_statistics_in_float32(store, tmp_path):
    path = pretrain(NETWORK, data(store), STEPS, run(tmp_path, precision="bf16-mixed"), INHIBITION)
    state = weights(path)
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    assert all(torch.isfinite(value.float()).all() for value in state.values())
    losses = read_learning_curve(tmp_path / "metrics.csv")["train_loss"][1]
    plain = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "32"), INHIBITION)
    exact = read_learning_curve(plain.parent / "metrics.csv")["train_loss"][1]
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.02)


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
    # Once without numbers, to see that the layers fit; four steps; one validation.
    assert seen == [(True, 6)] * 5 + [(False, 6)]
