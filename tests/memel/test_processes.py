"""Training by several processes: statistics over all of them, or each its own."""

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nowcast import memel
from nowcast.memel import MEmeL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo"),
]

PROCESSES = 2
SECONDS = 120

LAYERS = {
    "every element": {},
    "channels": {"neurons": "channel", "top": 2},
    "older samples decay": {"forget_step": 2},
    "share": {"share": 0.2},
    "masked": {"top": 3},
    "masked share": {"share": 0.2, "neurons": "last"},
}
SINGLE = ("every element", "masked share")
"""Of these layers, with activations in float32, in which networks are trained."""
SIZES = [(4, 4), (4, 4), (3, 5), (4, 1), (4, 4), (1, 3)]
"""Samples of each call that each process gets, the last batches unequal."""


class Model(nn.Module):
    def __init__(self, checkpointed):
        super().__init__()
        self.cell, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.checkpointed = checkpointed

    def states(self, x):
        for _ in range(2):
            x = torch.tanh(self.cell(x))
        return x

    def forward(self, x):
        if self.checkpointed:
            return self.head(checkpoint(self.states, x, use_reentrant=False))
        return self.head(self.states(x))


def batches():
    """What all processes together see, with masks: (sample, 4, 3)."""
    generator = torch.Generator().manual_seed(1)
    for call, sizes in enumerate(SIZES):
        z = torch.randn(sum(sizes), 4, 3, generator=generator, dtype=torch.float64) * 3 + 5
        mask = torch.rand(sum(sizes), generator=generator) < 0.6
        if call == 1:  # Nothing of the first process counts.
            mask[: sizes[0]] = False
        yield sizes, z, mask


def calls_of(settings, masked, part=lambda sizes, whole: whole, dtype=torch.float64):
    """Outputs of a layer, gradients and the statistics after all calls."""
    layer = MEmeL(late_start=1, **settings)
    results = []
    for sizes, z, mask in batches():
        mine = part(sizes, z).to(dtype, copy=True).requires_grad_()
        out = layer(mine, part(sizes, mask) if masked else None)
        out.square().sum().backward()
        results.append((out.detach(), mine.grad))
    return results, layer.state_dict()


def weights_of(
    insertion, checkpointed=False, part=lambda whole: whole, parallel=lambda model: model
):
    """Weights and statistics after some steps on the mean loss of equal batches."""
    torch.manual_seed(0)
    model = Model(checkpointed).double()
    layers = memel.insert(model, ["cell"], late_start=2, **insertion)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    trained = parallel(model)
    generator = torch.Generator().manual_seed(2)
    for _ in range(6):
        x = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        loss = (trained(part(x)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert layers["cell"].calls == 12
    return model.state_dict()


def run_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=SECONDS / 4),
    )

    def rows(sizes, whole):
        return whole.split(sizes)[rank]

    def half(whole):
        return whole.chunk(PROCESSES)[rank]

    def own_buffers(model):
        return DistributedDataParallel(model, broadcast_buffers=False)

    results = {
        name: calls_of(settings | {"synchronize": True}, "masked" in name, rows)
        for name, settings in LAYERS.items()
    }
    for name in SINGLE:
        results[f"{name}, single"] = calls_of(LAYERS[name], "masked" in name, rows, torch.float32)
    for name, settings in (("apart", {}), ("apart, share", {"share": 0.2})):
        results[name] = calls_of(settings | {"synchronize": False}, False, rows)
    together = {"synchronize": True}
    results["model"] = weights_of(together, False, half, DistributedDataParallel)
    results["checkpointed"] = weights_of(together, True, half, DistributedDataParallel)
    results["model, share"] = weights_of(together | {"share": 0.2}, False, half, own_buffers)
    results["model apart"] = weights_of({"synchronize": False}, False, half, own_buffers)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each process found."""
    folder = tmp_path_factory.mktemp("processes")
    running = torch.multiprocessing.spawn(
        run_process, (str(folder),), nprocs=PROCESSES, join=False, daemon=True
    )
    until = time.monotonic() + SECONDS
    while not running.join(timeout=1):
        if time.monotonic() > until:
            for process in running.processes:
                process.kill()
            pytest.fail(f"the processes wait for each other: not done after {SECONDS} s")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def assert_same_state(got, wanted):
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        # The threshold is of float32 in a layer that was not cast.
        loose = 1e-6 if value.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(got[name], value, rtol=loose, atol=loose)


@pytest.mark.parametrize("name", LAYERS)
def test_together_they_equal_one_process_with_all_their_samples(processes, name):
    calls, state = calls_of(LAYERS[name], "masked" in name)
    for results in processes:
        assert_same_state(results[name][1], state)
    for call, (sizes, (out, gradient)) in enumerate(zip(SIZES, calls, strict=True)):
        for rank, size in enumerate(sizes):
            got_out, got_gradient = processes[rank][name][0][call]
            assert len(got_out) == size
            tolerances = {"rtol": 1e-12, "atol": 1e-12}
            torch.testing.assert_close(got_out, out.split(sizes)[rank], **tolerances)
            torch.testing.assert_close(got_gradient, gradient.split(sizes)[rank], **tolerances)


@pytest.mark.parametrize("name", SINGLE)
def test_together_they_equal_one_process_in_single_precision(processes, name):
    calls, state = calls_of(LAYERS[name], "masked" in name, dtype=torch.float32)
    for rank, results in enumerate(processes):
        got_calls, got_state = results[f"{name}, single"]
        assert {n: v.dtype for n, v in got_state.items()} == {n: v.dtype for n, v in state.items()}
        for place, value in state.items():
            # Sums of other parts round otherwise.
            torch.testing.assert_close(got_state[place], value, rtol=1e-5, atol=1e-5)
        for sizes, (got, _), (out, _) in zip(SIZES, got_calls, calls, strict=True):
            wanted = out.split(sizes)[rank]
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"share": 0.2}], ids=["", "share"])
def test_apart_each_has_the_statistics_of_its_own_samples(processes, settings):
    name = "apart, share" if settings else "apart"
    for rank, results in enumerate(processes):
        calls, state = calls_of(settings, False, lambda sizes, whole, r=rank: whole.split(sizes)[r])
        got_calls, got_state = results[name]
        assert_same_state(got_state, state)
        for got, wanted in zip(got_calls, calls, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    first, second = (results[name][1] for results in processes)
    assert not torch.allclose(first["mean"], second["mean"], rtol=1e-2)
    assert first["count"] != second["count"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("model", {}), ("checkpointed", {}), ("model, share", {"share": 0.2})],
)
def test_a_model_trained_together_equals_one_trained_on_all_samples(processes, name, settings):
    wanted = weights_of(settings)
    for results in processes:
        assert_same_state(results[name], wanted)
    assert not torch.allclose(
        weights_of(settings | {"delta": -1.0})["cell.weight"], wanted["cell.weight"]
    )


def test_a_model_trained_with_statistics_apart_has_common_weights_and_own_statistics(processes):
    first, second = (results["model apart"] for results in processes)
    for name in ("cell.weight", "head.bias"):
        assert torch.equal(first[name], second[name])
    assert not torch.allclose(first["cell.memel.mean"], second["cell.memel.mean"], rtol=1e-2)
    assert first["cell.memel.count"] == second["cell.memel.count"] == 6 * 2 * 4
