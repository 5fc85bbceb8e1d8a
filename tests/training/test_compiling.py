"""The compiled training step: one graph for all steps, the same training, refusals."""

import shutil
from dataclasses import replace

import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run, weights
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._functorch.aot_autograd import make_boxed_func

from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.training.inhibition import insert_layers
from nowcast.training.module import forecast_losses
from nowcast.training.protocol import pretrain

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="found no C++ compiler")

SMALLEST = replace(
    NETWORK, hidden=(4,), features=(2,), up_features=(2,), strides=(5,), down_kernels=(7,),
    up_kernels=(7,), state_kernels=(3,),
)  # fmt: skip
FEW = {"input_frames": 2, "lead_times": 1}


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def test_what_is_compiled_is_one_graph_on_the_device_with_the_clip_as_its_only_new_input():
    """What CUDA graphs ask for: they cannot hold work of the host, and copy what has moved."""
    network = build_network(SMALLEST, 1, 2)
    insert_layers(network, INHIBITION)
    network.to("meta")
    shape = (2, 3, 1, 10, 10)
    clip = tuple(torch.empty(shape, dtype=t, device="meta") for t in (torch.uint8, torch.bool))
    forecast_losses(network, clip, 1, 2)  # Gives the statistics their shape.
    seen = []

    def look(graph, _):
        values = {node: node.meta["val"] for node in graph.graph.nodes if "val" in node.meta}
        inputs = [value for node, value in values.items() if node.op == "placeholder"]
        facts = torch._guards.TracingContext.get().fw_metadata
        fixed, changed = set(facts.static_input_indices), set(facts.mutated_inp_runtime_indices)
        new = [tuple(value.shape) for i, value in enumerate(inputs) if i not in fixed]
        tensors = [value for value in values.values() if isinstance(value, torch.Tensor)]
        seen.append(({t.device.type for t in tensors}, new, len(changed), changed <= fixed))
        return make_boxed_func(graph.forward)

    compiled = torch.compile(
        forecast_losses, backend=aot_autograd(fw_compiler=look), fullgraph=True, dynamic=False
    )
    compiled(network, clip, 1, 2)
    layers, buffers = 2, 4
    assert seen == [({"meta"}, [shape, shape], layers * buffers, True)]


def train(store, out, compilation, precision, steps=6):
    settings = run(out, compile=compilation, precision=precision, validate_every=2,
                   profile_clips=2, probe_every=5)  # fmt: skip
    layers = INHIBITION | {"late_start": 2}
    return pretrain(SMALLEST, data(store, **FEW), replace(STEPS, steps=steps), settings, layers)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("precision", "rounding"), [("32-true", 1e-5), ("bf16-mixed", 0.1)])
def test_compiled_training_ends_where_the_other_does_and_goes_on_bit_for_bit(
    store, tmp_path, precision, rounding
):
    plain = weights(train(store, tmp_path / "plain", "none", precision))
    begun = weights(train(store, tmp_path / "begun", "none", precision, steps=1))
    path = train(store, tmp_path / "compiled", "default", precision)
    # The trial, and one for all steps but the first: in spite of validations, profiles, a probe.
    assert counters["stats"]["unique_graphs"] == 2
    compiled = weights(path)
    for name, expected in plain.items():
        difference = (compiled[name].double() - expected.double()).norm()
        moved = (expected.double() - begun[name].double()).norm()
        assert moved > 0, name
        assert difference < rounding * moved, name
    assert any(not torch.equal(compiled[name], plain[name]) for name in plain)

    torch._dynamo.reset()
    train(store, tmp_path / "parts", "default", precision, steps=3)
    torch._dynamo.reset()
    counters.clear()
    parts = weights(train(store, tmp_path / "parts", "default", precision))
    assert counters["stats"]["unique_graphs"] == 2
    assert all(torch.equal(parts[name], compiled[name]) for name in compiled)


def test_a_machine_that_cannot_compile_is_told_in_one_line(store, tmp_path, monkeypatch):
    nothing = (None, str(tmp_path / "no-such-compiler"))
    with (
        torch._inductor.config.patch({"cpp.cxx": nothing}),
        pytest.raises(InputError, match=r"compile is 'default', and nothing can be .*, or 'none'$"),
    ):
        train(store, tmp_path / "x", "default", "32-true")
    assert not (tmp_path / "x").exists()


def test_cuda_graphs_are_refused_on_a_cpu(store, tmp_path):
    with pytest.raises(
        InputError, match=r"'reduce-overhead', .* trains on cpu; expected 'default'"
    ):
        train(store, tmp_path / "x", "reduce-overhead", "32-true")
    assert not (tmp_path / "x").exists()
