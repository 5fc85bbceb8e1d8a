"""Logging what training steps do to selected neurons, while training stays the same."""

import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.data import RandomClips, split_clip
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.loss import balanced_loss
from nowcast.training.module import OptimizationSettings
from nowcast.training.protocol import finetune, pretrain

NAMES = {"decrease_ratio", "decrease_ratio_median", "update_ratio", "update_ratio_median"}


def logged(folder):
    return {k: v for k, v in read_learning_curve(folder / "metrics.csv").items() if k in NAMES}


def test_weights_and_statistics_are_those_of_a_training_that_is_not_probed(store, tmp_path):
    plain = pretrain(NETWORK, data(store), STEPS, run(tmp_path / "plain"), INHIBITION)
    probed = pretrain(
        NETWORK, data(store), STEPS, run(tmp_path / "probed", probe_every=2), INHIBITION
    )
    expected, found = weights(plain), weights(probed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not logged(tmp_path / "plain")
    # The encoder's layers are used from 8 calls on: after two steps of five calls each.
    curve = logged(tmp_path / "probed")
    assert curve.keys() == NAMES
    assert all(steps == [3, 5, 7] for steps, _ in curve.values())


def test_a_resumed_run_logs_what_the_unbroken_one_does(store, tmp_path):
    whole = run(tmp_path / "whole", probe_every=1, valid_clips=0)
    pretrain(NETWORK, data(store), STEPS, whole, INHIBITION)
    parts = run(tmp_path / "parts", probe_every=1, valid_clips=0)
    pretrain(NETWORK, data(store), OptimizationSettings(steps=5, learning_rate=1e-3,
             decay_factor=0.5, decay_every=3), parts, INHIBITION)  # fmt: skip
    pretrain(NETWORK, data(store), STEPS, parts, INHIBITION)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")


def test_the_ratios_are_those_of_the_step_that_is_taken(store, tmp_path):
    """The last of three steps, taken again by hand."""
    settings = OptimizationSettings(steps=3, learning_rate=1e-3)
    inhibition = {"at": HIDDEN_STATES, "late_start": 1, "top": 2}
    start = pretrain(NETWORK, data(store), settings, run(tmp_path / "a", seed=4), inhibition)
    one = OptimizationSettings(steps=1, learning_rate=1e-3)
    finetune(start, data(store), one, run(tmp_path / "b", seed=9, probe_every=1), inhibition)

    network = EncoderForecaster(NETWORK)
    memel.insert(network, **inhibition)
    state = weights(start)
    network.load_state_dict({name.removeprefix("network."): state[name] for name in state})
    clips = RandomClips([store], "train", 25, seed=9)
    frames, mask = (torch.stack(part) for part in zip(*(clips[i] for i in range(4)), strict=True))
    inputs, targets, mask = split_clip((frames, mask), 5)
    probe = memel.UpdateProbe(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=one.betas)
    with probe.before_step():
        squared, absolute = balanced_loss(network(inputs, 20), targets, mask)
    ((squared + absolute) * one.loss_scale).backward()
    for part in (network.encoder, network.forecaster):
        torch.nn.utils.clip_grad_norm_(part.parameters(), one.clip_norm)
    optimizer.step()
    with probe.after_step(), torch.no_grad():
        network(inputs, 20)
    effect = probe.effect()
    curve = {name: values[0] for name, (_, values) in logged(tmp_path / "b").items()}
    assert len(effect.z) == 2 * 4 * 3 * (5 + 20)
    assert curve["decrease_ratio"] == pytest.approx(float(effect.decrease_ratio.mean()), rel=1e-6)
    assert curve["update_ratio_median"] == pytest.approx(
        float(effect.update_ratio.median()), rel=1e-6
    )


def test_a_training_without_memel_has_nothing_to_probe(store, tmp_path):
    with pytest.raises(InputError, match="probe_every is 2 in a training without MEmeL"):
        pretrain(NETWORK, data(store), STEPS, run(tmp_path / "x", probe_every=2))
    assert not (tmp_path / "x").exists()
