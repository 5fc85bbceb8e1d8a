"""In a training step the host never waits for the device: it reads no value, and copies nothing.

The device of these tests is "meta", whose tensors have no values: what works there can only have
given work to the device. What Lightning adds is watched in a real training on the CPU.
"""

import io
import math
from dataclasses import replace

import pytest
import torch
from small_runs import INHIBITION, NETWORK, STEPS, data, run
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nowcast.models.build import build_network
from nowcast.models.checkpoint import Description
from nowcast.training import callbacks
from nowcast.training.adam import adam
from nowcast.training.inhibition import insert_layers
from nowcast.training.module import NowcastModule
from nowcast.training.protocol import pretrain

SIDE = 30


def devices(tensors):
    return {t.device.type for t in tree_leaves(tensors) if isinstance(t, torch.Tensor)}


class NothingBetween(TorchDispatchMode):
    """Refuses operations between the host and the device."""

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        result = operation(*arguments, **(more or {}))
        there = devices((arguments, more, result))
        assert len(there) < 2, f"{operation} works on {there}"
        return result


class Reads(TorchDispatchMode):
    """Counts the operations whose result depends on values in a way that the host must know."""

    TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        self.count += bool(self.TAGS & set(operation.tags))
        return operation(*arguments, **(more or {}))


def module_on(device, memel, recurrence="ConvGRU"):
    network = build_network(replace(NETWORK, recurrence=recurrence), 5, 20)
    if memel:
        insert_layers(network, INHIBITION)
    description = Description(network.settings, 6, 5, 20, (SIDE, SIDE), None, {})
    return NowcastModule(network, STEPS, description).to(device)


def take_steps(module, between=lambda loss: None):
    shape = (2, 25, 1, SIDE, SIDE)
    kinds, device = (torch.uint8, torch.bool), module.device
    clip = [torch.zeros(shape, dtype=kind, device=device) for kind in kinds]
    for step in range(2):
        with NothingBetween():
            with torch.autocast("cpu" if device.type == "meta" else device.type, torch.bfloat16):
                loss = module.training_step(clip, step)
            between(loss)
            module.zero_grad()
            loss.backward()
            module.configure_gradient_clipping()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("memel", [False, True], ids=["", "MEmeL"])
@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_forward_loss_backward_and_clipping_read_and_copy_nothing(recurrence, memel):
    module = module_on("meta", memel, recurrence)
    take_steps(module)
    assert all(p.grad is not None and p.grad.is_meta for p in module.parameters())


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (lambda loss: loss.item(), "item"),
        (lambda loss: 0 if loss > 0 else 1, "item"),
        (lambda loss: loss.cpu(), "copy out"),
        (lambda loss: loss + torch.ones(1).to(loss.device), "works on"),
    ],
    ids=["reads a value", "decides by one", "fetches one", "sends one"],
)
def test_a_step_that_makes_the_host_wait_is_found(wait, said):
    with pytest.raises((RuntimeError, AssertionError, NotImplementedError), match=said):
        take_steps(module_on("meta", memel=True), wait)


def test_fused_adam_on_a_gpu_reads_and_copies_nothing():
    with FakeTensorMode():
        weights = [torch.nn.Parameter(torch.empty(3, 4, device="cuda")) for _ in range(2)]
        optimizer = adam(weights, 1e-3, (0.5, 0.999))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, STEPS.rate_at)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.empty_like(weight)
            with NothingBetween():
                torch.nn.utils.clip_grad_norm_(weights, 50.0)
                optimizer.step()
                schedule.step()
        assert devices(optimizer.state_dict()["state"]) == {"cuda"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_cuda_itself_finds_no_waiting():
    module = module_on("cuda", memel=True)
    optimizer = module.configure_optimizers()["optimizer"]
    for mode in ("default", "error"):  # First what is done once.
        torch.cuda.set_sync_debug_mode(mode)
        try:
            take_steps(module)
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [False, True], ids=["log lines", "progress bar"])
def test_values_are_read_for_points_of_the_learning_curve_alone(
    store, tmp_path, monkeypatch, terminal
):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_LOOKS", math.inf)
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_LINES", math.inf)
    if terminal:
        monkeypatch.setattr("sys.stderr", Terminal())

    def reads(steps):
        settings = run(tmp_path / f"{steps}", log_every=4, valid_clips=0, checkpoint_every=1000)
        with Reads() as found:
            pretrain(NETWORK, data(store), replace(STEPS, steps=steps), settings)
        return found.count

    metrics, points = 5, 2
    assert reads(16) - reads(8) == metrics * points
    original = NowcastModule.log
    monkeypatch.setattr(
        NowcastModule,
        "log",
        lambda self, *rest, **more: original(self, *rest, **(more | {"prog_bar": True})),
    )
    (tmp_path / "8" / "last.ckpt").unlink()
    (tmp_path / "16" / "last.ckpt").unlink()
    assert reads(16) - reads(8) >= metrics * 8
