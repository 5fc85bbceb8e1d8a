"""TrajGRU, 2-D CNN and what forecasts along the flow are trained and used as the ConvGRU is."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from moving_square import write_moving_square
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

import nowcast
from nowcast import memel
from nowcast.commands.pretrain import main
from nowcast.errors import InputError, Stopped
from nowcast.models.checkpoint import load, read_checkpoint
from nowcast.training.callbacks import KeepCheckpoint, read_learning_curve
from nowcast.training.inhibition import load_inhibited
from nowcast.training.protocol import finetune, pretrain
from nowcast.training.update_effects import measure_update_effects

TRAJGRU = replace(NETWORK, recurrence="TrajGRU")
CNN = replace(NETWORK, recurrence="none", up_features=(8, 6, 6))
ALONG_FLOW = replace(NETWORK, forecasts="change", along_flow=True, head_sees_last=True)
PLACES = {
    "ConvGRU": ["encoder.stages.*.rnn.cell", "forecaster.stages.*.rnn.cell"],
    "TrajGRU": ["encoder.stages.*.rnn.cell", "forecaster.stages.*.rnn.cell"],
    "none": ["encoder.stages.*.hidden", "forecaster.stages.*.hidden"],
}
EACH = pytest.mark.parametrize(
    "network", [TRAJGRU, CNN, ALONG_FLOW], ids=["TrajGRU", "CNN", "along the flow"]
)


@EACH
def test_training_lowers_the_loss_and_leaves_what_forecasts(store, tmp_path, network):
    settings = replace(STEPS, steps=40, learning_rate=3e-3, decay_every=40)
    path = pretrain(network, data(store), settings, run(tmp_path, valid_clips=0))
    losses = read_learning_curve(tmp_path / "metrics.csv")["train_loss"][1]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    trained = nowcast.load(path)
    assert trained.description.network == network
    frames = torch.rand(2, 5, 1, 60, 30)
    if network.coordinates:
        frames = frames[..., :30, :]
    forecast = trained.forecast(frames, 20)
    assert forecast.shape == (2, 20, 1, 30, 30)
    assert 0 <= forecast.min() < forecast.max() <= 1
    assert torch.equal(load(path).forecast(frames, 20), forecast)


@EACH
def test_with_memel_a_resumed_run_ends_at_the_very_same_weights(
    store, tmp_path, monkeypatch, network
):
    early = INHIBITION | {"late_start": 4}  # A CNN's layers are called once in a step.

    def train(out, inhibition=early):
        return pretrain(network, data(store), STEPS, run(tmp_path / out, valid_clips=0), inhibition)

    unbroken = train("unbroken")
    original = KeepCheckpoint.on_train_batch_end

    def interrupt(self, trainer, *rest):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_train_batch_end", interrupt)
        with pytest.raises(Stopped):
            train("broken")
    assert read_checkpoint(tmp_path / "broken" / "last.ckpt")[1]["global_step"] == 5
    expected = weights(unbroken)
    for name, value in weights(train("broken")).items():
        assert torch.equal(value, expected[name]), name
    without = weights(train("without", None))
    assert any(not torch.equal(without[name], expected[name]) for name in without)


@EACH
def test_memel_follows_the_hidden_states_of_any_network(store, tmp_path, network):
    kept = run(tmp_path, profile_clips=2, probe_every=2)
    path = pretrain(network, data(store), replace(STEPS, steps=12), kept, INHIBITION)
    description, content = read_checkpoint(path)
    assert description.inhibition["at"] == PLACES[network.recurrence]
    inside = "hidden" if network is CNN else "rnn.cell"
    for part, calls in (("encoder", 5), ("forecaster", 20)):
        for level in range(3):
            name = f"network.{part}.stages.{level}.{inside}.memel.calls"
            assert content["state_dict"][name] == 12 * (1 if network is CNN else calls)
    curve = read_learning_curve(tmp_path / "metrics.csv")
    assert len([name for name in curve if name.startswith("phi_median/")]) == 6
    assert "decrease_ratio" in curve
    assert len(memel.inserted(load_inhibited(path).network)) == 6
    assert not memel.inserted(load(path).network)
    rows = measure_update_effects(path, data(store), at_least=20)
    assert all(row.update_mean.value > 0 for row in rows.values())


def test_a_2d_cnn_is_finetuned_on_the_frames_that_it_was_built_for(store, tmp_path):
    few = {"input_frames": 3, "lead_times": 4}
    one, kept = replace(STEPS, steps=1), {"valid_clips": 0}
    first = pretrain(CNN, data(store, **few), one, run(tmp_path / "a", **kept))
    tuned = finetune(first, data(store, **few), one, run(tmp_path / "b", **kept))
    assert load(tuned).network.input_frames == 3
    with pytest.raises(InputError, match=r"3 input frames and 4 lead times.* with 3 and 5"):
        finetune(first, data(store, input_frames=3, lead_times=5), one, run(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_a_2d_cnn_forecasts_any_grid_beyond_its_lead_times(store, tmp_path):
    few = data(store, input_frames=3, lead_times=4)
    anywhere = replace(CNN, coordinates=False)
    path = pretrain(anywhere, few, replace(STEPS, steps=1), run(tmp_path, valid_clips=0))
    times = np.datetime64("2020-06-01T12:00", "ns") + np.timedelta64(6, "m") * np.arange(5)
    frames = xr.DataArray(
        np.random.default_rng(0).uniform(0, 20, (5, 47, 31)),
        dims=("time", "y", "x"),
        coords={"time": times},
        attrs={"units": "mm h-1"},
    )
    forecast = nowcast.forecast(nowcast.load(path), frames, 10, coverage="stays")
    assert forecast["rain_rate"].shape == (10, 47, 31)
    assert np.isfinite(forecast["rain_rate"]).all()


def test_checkpoints_from_before_there_was_a_choice_are_convgrus_and_go_on(store, tmp_path):
    settings = replace(STEPS, steps=3)
    new = pretrain(NETWORK, data(store), settings, run(tmp_path / "new", valid_clips=0))
    content = torch.load(new, weights_only=True)
    for name in ("recurrence", "encoder_links", "forecaster_links"):
        del content["nowcast"]["network"][name]
    old = tmp_path / "old" / "last.ckpt"
    old.parent.mkdir()
    torch.save(content, old)
    frames = torch.rand(1, 5, 1, 30, 30)
    assert torch.equal(load(old).forecast(frames, 3), load(new).forecast(frames, 3))
    for folder in ("new", "old"):
        pretrain(NETWORK, data(store), STEPS, run(tmp_path / folder, valid_clips=0))
    expected = weights(new)
    assert all(torch.equal(value, expected[name]) for name, value in weights(old).items())


def test_a_checkpoint_of_the_port_is_finetuned_like_any_other(tmp_path):
    torch.manual_seed(0)
    recurrent = {
        "encoder.rnn1": (2, 4, 3), "encoder.rnn2": (6, 6, 2), "encoder.rnn3": (6, 6, 2),
        "forecaster.rnn3": (6, 6, 2), "forecaster.rnn2": (6, 6, 2), "forecaster.rnn1": (3, 4, 2),
    }  # fmt: skip
    shapes = {
        "encoder.stage1.conv1_leaky_1": (2, 1, 7, 7),
        "encoder.stage2.conv2_leaky_1": (6, 4, 5, 5),
        "encoder.stage3.conv3_leaky_1": (6, 6, 3, 3),
        "forecaster.stage3.deconv1_leaky_1": (6, 6, 4, 4),
        "forecaster.stage2.deconv2_leaky_1": (6, 3, 5, 5),
        "forecaster.stage1.deconv3_leaky_1": (4, 2, 7, 7),
        "forecaster.stage1.conv3_leaky_2": (2, 2, 3, 3),
        "forecaster.stage1.conv3_3": (1, 2, 1, 1),
    }
    for name, (inputs, hidden, links) in recurrent.items():
        shapes[f"{name}.i2h"] = (3 * hidden, inputs, 3, 3)
        shapes[f"{name}.i2f_conv1"] = (32, inputs, 5, 5)
        shapes[f"{name}.h2f_conv1"] = (32, hidden, 5, 5)
        shapes[f"{name}.flows_conv"] = (2 * links, 32, 5, 5)
        shapes[f"{name}.ret"] = (3 * hidden, hidden * links, 1, 1)
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape) * 0.1
        state[f"{name}.bias"] = torch.zeros(shape[1] if "deconv" in name else shape[0])
    torch.save(state, tmp_path / "port.pth")
    store = write_moving_square(tmp_path / "wide.h5", side=60)
    still = replace(STEPS, steps=1, learning_rate=1e-12)
    kept = run(tmp_path / "tuned", valid_clips=0)
    path = finetune(tmp_path / "port.pth", data(store), still, kept, INHIBITION)
    tuned = load(path)
    assert tuned.description.frame_shape == (60, 60)
    started_from = tuned.description.run["started_from"]
    assert "2019 PyTorch port" in started_from["checkpoint_run"]["source"]
    frames = torch.rand(1, 5, 1, 60, 60)
    torch.testing.assert_close(
        tuned.network(frames, 4), load(tmp_path / "port.pth").network(frames, 4), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("recurrence", ["TrajGRU", "none"])
def test_the_command_line_takes_the_recurrence(store, tmp_path, capsys, recurrence):
    small = ["--network.hidden=[4,6,6]", "--network.features=[2,6,6]",
             "--network.up_features=[2,6,6]"]  # fmt: skip
    options = [f"--data.store={store.path}", "--data.workers=0", "--optimization.steps=2",
               f"--run.out={tmp_path / 'run'}", "--run.valid_clips=0", "--run.accelerator=cpu",
               "--memel", "--network.recurrence", recurrence, *small]  # fmt: skip
    assert main(options) == 0
    assert load(tmp_path / "run" / "last.ckpt").description.network.recurrence == recurrence
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["pretrain"]["network"]["recurrence"] == recurrence
    capsys.readouterr()
    assert main([*options, "--network.encoder_links=[0,0,0]"]) != 0
    wrong = capsys.readouterr().err.strip().splitlines()
    assert len(wrong) == 1
    assert "encoder_links" in wrong[0]
