"""Logging φ in training: what is logged, and that training goes on as it would have without."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast.errors import InputError
from nowcast.models.checkpoint import load
from nowcast.training.callbacks import KeepCheckpoint, read_learning_curve
from nowcast.training.data import SequentialClips
from nowcast.training.monosemanticity import LogMonosemanticity, split_off_phi
from nowcast.training.protocol import finetune, pretrain

LAYERS = [f"{part}.stages.{level}.rnn.cell" for part in ("encoder", "forecaster")
          for level in range(3)]  # fmt: skip
NAMES = ["phi_median", "phi_99", "phi_max", "phi_mean_square"]


def states_of(network, inputs, layer):
    """What a layer returns, call by call, without the package's hooks."""
    cell, calls = network.get_submodule(layer), []
    handle = cell.register_forward_hook(lambda module, args, out: calls.append(out.double()))
    with torch.no_grad():
        network(inputs, 20)
    handle.remove()
    return torch.cat(calls).flatten(1).numpy()


@pytest.mark.parametrize("inhibition", [INHIBITION, None])
def test_what_is_logged_last_is_what_the_checkpoint_has(store, tmp_path, inhibition):
    path = pretrain(NETWORK, data(store), STEPS, run(tmp_path, profile_clips=2), inhibition)
    curve = read_learning_curve(tmp_path / "metrics.csv")
    logged = {name for name in curve if name.startswith("phi_")}
    assert logged == {f"{name}/{layer}" for name in NAMES for layer in LAYERS}
    assert all(curve[name][0] == curve["valid_loss"][0] == [3, 7] for name in logged)

    clips = SequentialClips(store, "valid", 25, at_most=2)
    inputs = torch.stack([clips[index][0][:5] for index in range(2)]).float() / 255
    network = load(path).network
    for layer in LAYERS:
        z = states_of(network, inputs, layer)
        assert len(z) == 2 * (5 if "encoder" in layer else 20)
        variance = z.var(0, ddof=1)
        phi = (z - z.mean(0)) ** 2 / (variance + 1e-3 * variance.mean())
        value = {name: curve[f"{name}/{layer}"][1][-1] for name in NAMES}
        assert value["phi_max"] == pytest.approx(phi.max(), rel=1e-3)
        assert value["phi_mean_square"] == pytest.approx((phi**2).mean(), rel=1e-3)
        for name, probability in (("phi_median", 0.5), ("phi_99", 0.99)):
            exact = np.quantile(phi, probability, method="inverted_cdf")
            assert value[name] == pytest.approx(exact, rel=0.05)


def test_neurons_and_layers_are_those_of_memel(store, tmp_path):
    inhibition = {"at": ["encoder.stages.1.rnn.cell"], "neurons": "channel", "epsilon": 0.5}
    log = LogMonosemanticity(data(store), 1, inhibition | {"late_start": 8, "top": 3})
    assert log.settings == inhibition
    pretrain(NETWORK, data(store), replace(STEPS, steps=4), run(tmp_path, profile_clips=1),
             inhibition)  # fmt: skip
    courses = split_off_phi(read_learning_curve(tmp_path / "metrics.csv"))[1]
    assert list(courses) == inhibition["at"]
    assert list(courses["encoder.stages.1.rnn.cell"]) == ["median", "99 %", "largest", "mean φ²"]


def test_training_ends_with_the_very_same_weights_statistics_and_curve(store, tmp_path):
    plain = run(tmp_path / "a", validate_every=2)
    without = pretrain(NETWORK, data(store), STEPS, plain, INHIBITION)
    profiled = run(tmp_path / "b", validate_every=2, profile_clips=2)
    with_log = pretrain(NETWORK, data(store), STEPS, profiled, INHIBITION)
    expected = weights(without)
    for name, value in weights(with_log).items():
        assert torch.equal(value, expected[name]), name
    curves = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in "ab"]
    assert [line for line in curves[1] if "phi" not in line] == curves[0]
    assert len(curves[1]) == len(curves[0]) + 4 * len(LAYERS) * len(NAMES)


def test_random_state_modes_and_statistics_are_untouched(store, tmp_path, monkeypatch):
    states = []
    original = LogMonosemanticity.on_validation_end

    def on_validation_end(self, trainer, module):
        def state():
            return (
                torch.random.get_rng_state(),
                {name: part.training for name, part in module.named_modules()},
                {name: value.clone() for name, value in module.state_dict().items()},
                {name: len(part._forward_hooks) for name, part in module.named_modules()},
            )

        before = state()
        original(self, trainer, module)
        states.append((before, state()))

    monkeypatch.setattr(LogMonosemanticity, "on_validation_end", on_validation_end)
    steps = replace(STEPS, steps=4)
    profiled = run(tmp_path, validate_every=2, profile_clips=2, precision="bf16-mixed")
    pretrain(NETWORK, data(store), steps, profiled, INHIBITION)
    assert len(states) == 2
    for (random, modes, values, hooks), after in states:
        assert torch.equal(random, after[0])
        assert (modes, hooks) == (after[1], after[3])
        assert all(torch.equal(value, after[2][name]) for name, value in values.items())


def test_a_run_killed_at_a_checkpoint_goes_on_to_the_very_same_weights_and_log(
    store, tmp_path, monkeypatch
):
    often = {"validate_every": 2, "checkpoint_every": 2, "profile_clips": 1}
    unbroken = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "unbroken", **often))

    original = KeepCheckpoint.on_validation_end

    def die(self, trainer, module):
        original(self, trainer, module)
        if trainer.global_step == 4:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_validation_end", die)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken", **often))
    resumed = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "broken", **often))
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(unbroken)[name]), name
    logs = [(tmp_path / name / "metrics.csv").read_text() for name in ("broken", "unbroken")]
    assert logs[0] == logs[1]


def test_a_run_goes_on_with_more_less_or_no_clips_to_profile(store, tmp_path):
    for steps, clips in ((2, 0), (4, 2), (6, 1), (8, 0)):
        path = pretrain(
            NETWORK, data(store), replace(STEPS, steps=steps),
            run(tmp_path / "a", validate_every=2, profile_clips=clips),
        )  # fmt: skip
    straight = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "b", validate_every=2))
    for name, value in weights(path).items():
        assert torch.equal(value, weights(straight)[name]), name
    with (tmp_path / "a" / "metrics.csv").open() as file:
        steps = {int(row["step"]) for row in csv.DictReader(file) if "phi" in row["metric"]}
    assert steps == {3, 5}
    finetune(path, data(store), replace(STEPS, steps=4), run(tmp_path / "c", profile_clips=1))
    assert split_off_phi(read_learning_curve(tmp_path / "c" / "metrics.csv"))[1].keys() == {*LAYERS}


def test_settings_that_cannot_be_profiled_are_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(InputError, match="profile_clips is -1, expected at least 0"):
        run(tmp_path / "x", profile_clips=-1)
    with pytest.raises(InputError, match="profile_clips is 2 and valid_clips is 0"):
        run(tmp_path / "x", profile_clips=2, valid_clips=0)
    assert not (tmp_path / "x").exists()


def test_what_is_not_of_phi_stays_in_the_learning_curve():
    curve = {
        "train_loss": ([1, 2], [3.0, 4.0]),
        "phi_99/a.b": ([2], [7.0]),
        "phi_max/a.b": ([2], [9.0]),
        "other/a.b": ([1], [1.0]),
        "phi_99": ([1], [2.0]),
    }
    rest, courses = split_off_phi(curve)
    assert rest == {name: curve[name] for name in ("train_loss", "other/a.b", "phi_99")}
    assert courses == {"a.b": {"99 %": ([2], [7.0]), "largest": ([2], [9.0])}}
