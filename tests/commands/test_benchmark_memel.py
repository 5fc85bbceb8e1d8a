"""The clock of the benchmark's part memel times the layers, all their calls, and nothing else."""

import itertools

import pytest
import torch

from nowcast import memel
from nowcast.benchmarks import layer_clock
from nowcast.benchmarks.layer_clock import LayerClock
from nowcast.benchmarks.training_step import StepShape, TrainingStep
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.training.inhibition import HIDDEN_STATES

SHAPE = StepShape((4, 6, 6), side=30, batch=2, input_frames=3, lead_times=4)
CALLS = 3 * 3 + 3 * 4
"""Three layers of the encoder see the input frames, three of the forecaster the lead times."""


def step(bf16=False):
    torch.manual_seed(0)
    network = EncoderForecaster(SHAPE.network)
    memel.insert(network, HIDDEN_STATES, late_start=0)
    return TrainingStep(network, network, SHAPE, bf16=bf16)


@pytest.mark.parametrize("bf16", [False, True])
def test_each_call_is_timed_once_forward_and_once_backward(bf16, monkeypatch):
    """By a clock that ticks when it is read: whatever else came in between would add ticks."""
    ticks = itertools.count()
    monkeypatch.setattr(layer_clock, "perf_counter", lambda: next(ticks))
    clock = LayerClock(step(bf16))
    for _ in range(3):
        clock()
    assert clock.calls == CALLS
    assert clock.seconds == [2 * CALLS] * 3
    assert next(ticks) == 3 * 2 * 2 * CALLS


def test_what_is_timed_is_the_layers(monkeypatch):
    """Ticks of their decisions alone, forward, and of nothing but the gradient's way backward."""
    time = [0.0]
    monkeypatch.setattr(layer_clock, "perf_counter", lambda: time[0])
    clock = LayerClock(step())
    network = clock.step.network
    for layer in memel.inserted(network).values():
        layer.observer = lambda *_: time.__setitem__(0, time[0] + 1)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *_: time.__setitem__(0, time[0] + 1000))
    clock()
    assert clock.seconds == [CALLS]


def test_the_step_computes_the_same():
    plain, clocked = step(), LayerClock(step())
    for _ in range(3):
        plain()
        clocked()
    for wanted, found in zip(
        plain.network.state_dict().values(), clocked.step.network.state_dict().values(), strict=True
    ):
        assert torch.equal(found, wanted)
