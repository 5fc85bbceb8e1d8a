"""Training that computes activations again ends where training that keeps them does."""

from dataclasses import replace

import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights

from nowcast.errors import InputError
from nowcast.training.callbacks import read_learning_curve
from nowcast.training.protocol import finetune, pretrain


@pytest.mark.parametrize(("precision", "rounding"), [("32-true", 1e-4), ("bf16-mixed", 0.15)])
def test_weights_statistics_and_logs_are_those_of_training_that_keeps_everything(
    store, tmp_path, precision, rounding
):
    """To rounding, as far as the weights have come; MEmeL's layers select, probed and profiled."""
    paths = {}
    for every in (0, 7):
        settings = run(tmp_path / str(every), precision=precision, recompute_every=every,
                       probe_every=2, profile_clips=2)  # fmt: skip
        paths[every] = pretrain(NETWORK, data(store), STEPS, settings, INHIBITION)
    begun = weights(
        pretrain(NETWORK, data(store), replace(STEPS, steps=1),
                 run(tmp_path / "begun", precision=precision), INHIBITION)
    )  # fmt: skip
    expected, found = weights(paths[0]), weights(paths[7])
    assert expected.keys() == found.keys()
    for name, before in begun.items():
        moved = (expected[name].double() - before.double()).norm()
        assert (found[name].double() - expected[name].double()).norm() < rounding * moved, name
    curves = [read_learning_curve(tmp_path / str(every) / "metrics.csv") for every in (0, 7)]
    assert {name: steps for name, (steps, _) in curves[0].items()} == {
        name: steps for name, (steps, _) in curves[1].items()
    }
    losses = [torch.tensor(curve["train_loss"][1]) for curve in curves]
    assert torch.allclose(*losses, rtol=rounding / 10, atol=0)


def test_a_run_may_go_on_with_another_choice(store, tmp_path):
    begun = run(tmp_path, recompute_every=5)
    pretrain(NETWORK, data(store), replace(STEPS, steps=4), begun, INHIBITION)
    path = pretrain(NETWORK, data(store), STEPS, run(tmp_path), INHIBITION)
    finetuned = finetune(path, data(store), STEPS, run(tmp_path / "next", recompute_every=5))
    assert not any("memel" in name for name in weights(finetuned))


def test_what_cannot_be_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="recompute_every is -1, expected at least 0"):
        run(tmp_path, recompute_every=-1)
    flat = replace(NETWORK, recurrence="none", up_features=(8, 6, 6))
    with pytest.raises(InputError, match="without recurrence, expected 0"):
        pretrain(flat, data(store), STEPS, run(tmp_path / "x", recompute_every=5))
    compiled = run(tmp_path / "x", recompute_every=5, compile="default")
    with pytest.raises(InputError, match=r"recompute_every is 5 and compile is 'default' .*MEmeL"):
        pretrain(NETWORK, data(store), STEPS, compiled, INHIBITION)
    assert not (tmp_path / "x").exists()
