"""Gradient norms in the learning curve."""

from dataclasses import replace

import lightning.pytorch as pl
import numpy as np
import pytest
from small_runs import NETWORK, STEPS, data, run

from nowcast.errors import Stopped
from nowcast.training.callbacks import KeepCheckpoint, read_learning_curve
from nowcast.training.protocol import pretrain


class Norms(pl.Callback):
    """Global norms of the gradients as backward passes leave them, in float64."""

    def __init__(self):
        self.encoder, self.forecaster = [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        for part in ("encoder", "forecaster"):
            gradients = [p.grad.double() for p in getattr(module.network, part).parameters()]
            norm = sum(float(g.square().sum()) for g in gradients) ** 0.5
            getattr(self, part).append(norm)


@pytest.mark.parametrize("stop_after", [None, 2, 3, 4])
def test_the_largest_norm_since_the_last_row_is_logged(store, tmp_path, monkeypatch, stop_after):
    norms = Norms()
    # So low that every step is clipped: what is logged is the norm before.
    steps = replace(STEPS, steps=8, clip_norm=1e-4)
    settings = run(tmp_path, log_every=4, checkpoint_every=1)
    if stop_after is not None:
        with monkeypatch.context() as patch:
            original = KeepCheckpoint.on_train_batch_end

            def stop(self, trainer, *rest):
                self.asked_to_stop = trainer.global_step == stop_after
                original(self, trainer, *rest)

            patch.setattr(KeepCheckpoint, "on_train_batch_end", stop)
            with pytest.raises(Stopped):
                pretrain(NETWORK, data(store), steps, settings, callbacks=[norms])
    pretrain(NETWORK, data(store), steps, settings, callbacks=[norms])
    curve = read_learning_curve(tmp_path / "metrics.csv")
    for part in ("encoder", "forecaster"):
        exact = getattr(norms, part)
        assert len(exact) == 8
        assert min(exact) > 1e-4
        assert curve[f"gradient_norm/{part}"][0] == [3, 7]
        np.testing.assert_allclose(
            curve[f"gradient_norm/{part}"][1], [max(exact[:4]), max(exact[4:])], rtol=1e-5
        )
