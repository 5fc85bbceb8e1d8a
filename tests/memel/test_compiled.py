"""Layers under torch.compile: traced whole, without graph breaks, and the same as without it."""

import shutil

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nowcast import memel

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)

SETTINGS = {
    "top 1": {},
    "share": {"share": 0.2},
    "top 3 of channels per batch": {"top": 3, "per": "batch", "delta": 0.3, "neurons": "channel"},
}


class Recurrent(nn.Module):
    """A cell that is called twice per step, and a head."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        for _ in range(2):
            x = torch.tanh(self.cell(x))
        return self.head(x)


class Tokens(nn.Module):
    """Takes a padding mask."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Linear(6, 6)

    def forward(self, x, attention_mask=None):
        return torch.tanh(self.attention(x))


class Both(nn.Module):
    """Two modules to stand behind."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return torch.tanh(self.second(torch.tanh(self.first(x))))


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def recurrent(**settings):
    torch.manual_seed(0)
    model = Recurrent().double()
    memel.insert(model, "cell", late_start=3, **settings)
    return model


def steps(model, inputs, compiled=None):
    """Outputs of each step of training, its gradients, and the buffers after it."""
    outputs, others = [], []
    for step, arguments in enumerate(inputs):
        # What the first two steps have compiled must do for the others.
        with torch._dynamo.config.patch(error_on_recompile=step > 1):
            out = (model if compiled is None else compiled)(*arguments)
        model.zero_grad()
        out.square().sum().backward()
        outputs.append(out.detach())
        others += [*(parameter.grad for parameter in model.parameters())]
        others += [buffer.clone() for buffer in model.buffers()]
    return outputs, others


def assert_compiled_equals_uncompiled(
    build, inputs, tolerance, backend="aot_eager", fullgraph=True
):
    model, twin = build(), build()
    outputs, others = steps(model, inputs)
    compiled = torch.compile(twin, fullgraph=fullgraph, backend=backend)
    got_outputs, got_others = steps(twin, inputs, compiled)
    for got, wanted in zip(got_outputs + got_others, outputs + others, strict=True):
        # The threshold, the only number among them, is of float32 in any model.
        loose = max(tolerance, 1e-6 if wanted.ndim == 0 else 0.0)
        torch.testing.assert_close(got, wanted, rtol=loose, atol=loose)
    # It does matter what the layers do.
    plain = build()
    memel.remove(plain)
    assert not torch.allclose(steps(plain, inputs)[0][-1], outputs[-1], rtol=1e-3)


def random_inputs(count, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(*shape, generator=generator, dtype=dtype),) for _ in range(count)]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_outputs_gradients_and_statistics_of_a_recurrent_model_equal_those_without(settings):
    shape = (5, 6, 6) if "neurons" in settings else (5, 6)
    assert_compiled_equals_uncompiled(
        lambda: recurrent(**settings), random_inputs(5, *shape), tolerance=1e-12
    )


@pytest.mark.parametrize("settings", [{}, {"share": 0.2}], ids=["top 1", "share"])
def test_padding_masks_are_traced_too(settings):
    def build():
        torch.manual_seed(0)
        model = Tokens().double()
        memel.insert(
            model, "attention", mask="attention_mask", neurons="last", late_start=1, **settings
        )
        return model

    masks = (
        torch.arange(4) < torch.tensor([[4], [2], [3]]),
        torch.arange(4) < torch.tensor([[1], [4], [0]]),
    )
    inputs = [(*x, masks[call % 2].long()) for call, x in enumerate(random_inputs(4, 3, 4, 6))]
    assert_compiled_equals_uncompiled(build, inputs, tolerance=1e-12)


def test_nothing_breaks_the_graph():
    model = recurrent(share=0.2)
    memel.insert(model, "head", late_start=0, top=2)
    ((x,),) = random_inputs(1, 5, 6)
    for _ in range(2):
        explained = torch._dynamo.explain(model)(x)
        assert explained.graph_break_count == 0
        assert explained.graph_count == 1


def test_a_compiled_model_rests_in_evaluation_and_after_removal():
    model = recurrent()
    ((x,),) = random_inputs(1, 5, 6)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for _ in range(3):
        compiled(x)
    model.eval()
    before = model.cell.memel.calls.clone()
    expected = compiled(x)
    assert torch.equal(model.cell.memel.calls, before)
    memel.remove(model)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(model.train(), backend="eager")(x), expected)


def test_a_model_with_checkpoints_inside_is_compiled_in_pieces_and_counts_once():
    """torch.compile leaves what is in a checkpoint that changes buffers uncompiled."""

    class Checkpointed(Recurrent):
        def forward(self, x):
            return checkpoint(super().forward, torch.tanh(x), use_reentrant=False)

    def build():
        torch.manual_seed(0)
        model = Checkpointed().double()
        memel.insert(model, "cell", late_start=3)
        return model

    inputs = random_inputs(4, 5, 6)
    assert_compiled_equals_uncompiled(build, inputs, tolerance=1e-12, fullgraph=False)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="inductor needs a C++ compiler, found none")
def test_generated_code_gives_the_same():
    def build():
        torch.manual_seed(0)
        model = Both()
        memel.insert(model, "first", late_start=1, top=2)
        memel.insert(model, "second", late_start=1, share=0.2)
        # Statistics at hand, so that one compilation is enough.
        model(torch.randn(5, 6))
        return model

    inputs = random_inputs(3, 5, 6, dtype=torch.float32)
    assert_compiled_equals_uncompiled(build, inputs, tolerance=1e-5, backend="inductor")
