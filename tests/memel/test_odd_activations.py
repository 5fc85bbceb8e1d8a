"""Activations and states that are unusual: refused in one line, or taken as they should be."""

import copy

import pytest
import torch
from torch import nn

from nowcast import memel
from nowcast.memel import MEmeL


@pytest.mark.parametrize(
    ("z", "said"),
    [
        (torch.zeros(4, 3, dtype=torch.int64), r"activations are of torch\.int64"),
        (torch.zeros(4), r"activations are of shape \(4,\)"),
        (torch.zeros(()), r"activations are of shape \(\)"),
    ],
)
@pytest.mark.parametrize("neurons", ["element", "channel", "last"])
def test_what_has_no_neurons_is_refused(z, said, neurons):
    with pytest.raises(ValueError, match=said):
        MEmeL(neurons=neurons)(z)


def test_an_empty_batch_goes_through_and_changes_nothing():
    layer = MEmeL(late_start=0)
    layer(torch.randn(4, 3))
    before = copy.deepcopy(layer.state_dict())
    assert layer(torch.empty(0, 3)).shape == (0, 3)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_only_whole_numbers_can_be_selected():
    with pytest.raises(ValueError, match=r"top must be a whole number, found 1\.5"):
        MEmeL(top=1.5)


def test_a_state_saved_before_the_first_call_starts_the_statistics_anew():
    model = nn.Sequential(nn.Linear(3, 4))
    layer = memel.insert(model, ["0"])["0"]
    start = copy.deepcopy(model.state_dict())
    model(torch.randn(5, 3))
    model.load_state_dict(start)
    assert layer.calls == layer.count == layer.mean.numel() == 0
    model(torch.randn(5, 3))
    assert layer.count == 5


def test_evaluation_without_gradients_does_not_spoil_training_that_follows():
    """Statistics laid out anew in inference mode are still those that training updates."""
    torch.manual_seed(0)
    layer = MEmeL(late_start=0, in_evaluation=True)
    z = torch.randn(4, 3, 5, 5)
    layer(z)
    with torch.inference_mode():
        layer.eval()(z.contiguous(memory_format=torch.channels_last))
    layer.train()(z.contiguous(memory_format=torch.channels_last))
    assert layer.calls == 2


def test_a_layer_of_the_models_own_is_not_taken_out():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.memel = MEmeL(late_start=0)

        def forward(self, x):
            return self.memel(x)

    model = nn.Sequential(Own())
    assert not memel.inserted(model)
    memel.remove(model)
    model(torch.randn(4, 3))
    assert model[0].memel.calls == 1
