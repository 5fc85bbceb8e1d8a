"""Training on rainier, turned and cropped clips: resuming, processes, refusals."""

from dataclasses import replace

import pytest
import torch
from moving_square import write_moving_square
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights
from test_data import train_batches

from nowcast.errors import InputError
from nowcast.models.checkpoint import read_checkpoint
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.training.protocol import finetune, pretrain
from nowcast.training.sampling import SamplingSettings

ANYWHERE = replace(NETWORK, coordinates=False)
EVERYTHING = SamplingSettings(
    rain_share=0.5, flips=True, quarter_turns=True, crop=30, reversals=True, rain_factor=2.0
)
ONE = replace(STEPS, steps=1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return write_moving_square(tmp_path_factory.mktemp("wide") / "wide.h5", side=60)


def test_a_resumed_run_ends_at_the_very_same_weights_with_all_options(wide, tmp_path):
    def train(steps, out, **changes):
        settings = replace(STEPS, steps=steps)
        kept = run(tmp_path / out, valid_clips=0)
        return pretrain(ANYWHERE, data(wide, **changes), settings, kept, INHIBITION, EVERYTHING)

    unbroken = train(8, "unbroken")
    train(5, "parts")
    # Neither workers nor memory decide the outcome.
    resumed = train(8, "parts", workers=2, in_memory=True)
    expected = weights(unbroken)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    plain = pretrain(ANYWHERE, data(wide), ONE, run(tmp_path / "plain", valid_clips=0), INHIBITION)
    assert not torch.equal(weights(plain)["network.forecaster.head.2.weight"],
                           expected["network.forecaster.head.2.weight"])  # fmt: skip


def test_neither_workers_nor_memory_nor_processes_change_what_a_step_sees(wide):
    whole = train_batches(wide, 2, sampling=EVERYTHING)
    for changes in ({"workers": 1}, {"workers": 3}, {"in_memory": True, "workers": 2}):
        for batch, expected in zip(
            train_batches(wide, 2, sampling=EVERYTHING, **changes), whole, strict=True
        ):
            assert torch.equal(batch, expected)
    ranks = [train_batches(wide, 2, rank=r, processes=2, sampling=EVERYTHING) for r in (0, 1)]
    for first, second, expected in zip(*ranks, whole, strict=True):
        assert torch.equal(torch.stack([first, second], 1).flatten(0, 1), expected)


def test_crops_are_for_training_alone(wide, tmp_path):
    seen = []
    original = EncoderForecaster.forward

    def forward(self, frames, lead_times):
        seen.append((self.training, tuple(frames.shape[-2:])))
        return original(self, frames, lead_times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderForecaster, "forward", forward)
        path = pretrain(
            ANYWHERE, data(wide), replace(STEPS, steps=4), run(tmp_path / "a"), INHIBITION,
            SamplingSettings(crop=30),
        )  # fmt: skip
    # Once without numbers, four steps, one validation.
    assert seen == [(True, (30, 30))] * 5 + [(False, (60, 60))]
    assert read_checkpoint(path)[0].frame_shape == (30, 30)


def test_statistics_of_crops_go_on_with_crops_and_are_refused_for_whole_frames(wide, tmp_path):
    crops = SamplingSettings(crop=30)
    first = pretrain(ANYWHERE, data(wide), ONE, run(tmp_path / "a"), INHIBITION, crops)
    calls = "network.encoder.stages.0.rnn.cell.memel.calls"
    kept = finetune(first, data(wide), ONE, run(tmp_path / "kept"), INHIBITION, sampling=crops)
    assert weights(kept)[calls] == weights(first)[calls] + 5
    with pytest.raises(InputError, match=r"statistics of frames of \(30, 30\).* \(60, 60\)"):
        finetune(first, data(wide), ONE, run(tmp_path / "x"), INHIBITION)
    finetune(first, data(wide), ONE, run(tmp_path / "without"))


@pytest.mark.parametrize(
    ("network", "crop", "said"),
    [
        (NETWORK, 30, "crop is 30 for a network with coordinate channels"),
        (ANYWHERE, 90, r"wide\.h5: frames are 60 × 60, expected at least the 90 × 90"),
    ],
)
def test_crops_that_cannot_be_trained_on_are_refused_before_anything_is_written(
    wide, tmp_path, network, crop, said
):
    with pytest.raises(InputError, match=said):
        pretrain(network, data(wide), STEPS, run(tmp_path / "x"), None, SamplingSettings(crop=crop))
    assert not (tmp_path / "x").exists()


def test_a_run_is_not_resumed_with_other_sampling(wide, tmp_path):
    path = pretrain(ANYWHERE, data(wide), ONE, run(tmp_path), None, EVERYTHING)
    before = path.read_bytes()
    for change, said in (
        ({"rain_share": 0.4}, r"run\.sampling\.rain_share = 0\.5, asked for 0\.4"),
        ({"flips": False}, r"run\.sampling\.flips = True, asked for False"),
        ({"crop": 60}, r"frame_shape = \[30, 30\], asked for \[60, 60\]"),
    ):
        with pytest.raises(InputError, match=said):
            pretrain(
                ANYWHERE, data(wide), STEPS, run(tmp_path), None, replace(EVERYTHING, **change)
            )
    assert path.read_bytes() == before


def test_the_rain_that_is_drawn_is_said_once_as_training_starts(wide, tmp_path, caplog):
    with caplog.at_level("INFO", "nowcast"):
        pretrain(ANYWHERE, data(wide), ONE, run(tmp_path / "a"), None, EVERYTHING)
        pretrain(ANYWHERE, data(wide), ONE, run(tmp_path / "b"))
    (line,) = [message for message in caplog.messages if message.startswith("sampling:")]
    assert line.startswith("sampling: 36 clips, mean rain 0.0")
