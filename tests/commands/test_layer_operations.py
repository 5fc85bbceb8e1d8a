"""The profile of the benchmark's part memel: what the layers do, and nothing of what others do."""

import pytest
import torch
from test_benchmark_memel import CALLS, step

from nowcast import memel
from nowcast.benchmarks import layer_operations
from nowcast.benchmarks.layer_operations import BACKWARD, BETWEEN, MARK


@pytest.mark.parametrize("bf16", [False, True])
def test_what_the_layers_do_is_told_and_nothing_else(bf16, monkeypatch):
    """By operations that nothing else in the step does, in the layers and beside them."""
    monkeypatch.setattr(layer_operations, "LARGEST", 1000)

    def beside(*_):
        torch.ones(3).lgamma()

    ours = step(bf16)
    ours()  # In its first call a layer replaces nothing.
    for layer in memel.inserted(ours.network).values():
        layer.observer = lambda z, _: z.float().erfinv()
    for module in ours.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(beside)
    found = layer_operations.layer_operations(ours)
    assert found["erfinv"] > 0
    assert found["scatter"] > 0  # Of forward and backward passes.
    assert not {"lgamma", "convolution", "mkldnn_convolution", "sigmoid_"} & found.keys()
    assert found["others"] == pytest.approx(0, abs=1e-9)
    assert min(found.values()) > -1e-9


def test_the_largest_are_named_and_nothing_is_lost(monkeypatch):
    """Of the same profile, whose times differ from those of any other."""
    ours = step()
    ours()
    profiles = []
    original = torch.profiler.profile.events

    def events(self):
        profiles.append(original(self))
        return profiles[-1]

    monkeypatch.setattr(torch.profiler.profile, "events", events)
    found = layer_operations.layer_operations(ours)
    assert next(iter(found)) == BETWEEN
    assert list(found)[-1] == "others"
    named = list(found.values())[1:-1]
    assert len(named) == layer_operations.LARGEST
    assert named == sorted(named, reverse=True)
    of_layers = [e for e in profiles[0] if e.name in (MARK, BACKWARD)]
    assert len(of_layers) == 2 * CALLS
    total = sum(e.cpu_time_total for e in of_layers) / 1000
    assert sum(found.values()) == pytest.approx(total, rel=1e-6)


def test_the_layers_are_not_watched_afterwards():
    ours = step()
    layer_operations.layer_operations(ours)
    for layer in memel.inserted(ours.network).values():
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
