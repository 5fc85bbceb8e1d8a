"""The step of online finetuning against a restatement, and what it does to forecasts."""

import copy

import numpy as np
import pytest
import torch
from tiny_network import INPUTS, LEAD_TIMES, SIDE, drifting_bands, tiny_network

from nowcast import memel
from nowcast.training.online import OnlineFinetuning
from nowcast.verification.online import evaluate_online
from nowcast.verification.results import ScoreKinds
from nowcast.verification.scores import Scores
from nowcast.verification.target_masks import as_scored

RATES_MM_H, WEIGHTS = (2.0, 5.0, 10.0, 30.0), (1.0, 1.0, 3.0, 5.0, 20.0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """A small network waits for its threads more than they help."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def some_clip(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(1, INPUTS + LEAD_TIMES, 1, SIDE, SIDE, generator=generator, dtype=dtype)
    mask = torch.rand(1, LEAD_TIMES, 1, SIDE, SIDE, generator=generator) > 0.3
    return frames[:, :INPUTS], frames[:, INPUTS:], mask


def loss_of(network, inputs, targets, mask, scale):
    """B-MSE + B-MAE, restated: weights 1, 2, 5, 10, 30 from 2, 5, 10, 30 mm/h on."""
    weights = torch.ones_like(targets)
    for rate, rise in zip(RATES_MM_H, WEIGHTS[1:], strict=True):
        pixel = (10 * np.log10(58.53) + 15.6 * np.log10(rate) + 10) / 70
        weights += rise * (targets >= pixel)
    error = network(inputs, targets.shape[1]) - targets
    per_pixel = weights * mask * (error**2 + error.abs())
    return scale * per_pixel.sum() / (targets.shape[0] * targets.shape[1])


def authors_steps(network, clips, learning_rate, clip_norm, scale):
    """MXNet's AdaGrad with ε = 1e-8, and clipping of encoder and forecaster, restated."""
    history = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    norms = []
    for clip in clips:
        network.zero_grad()
        loss_of(network, *clip, scale).backward()
        for part in ("encoder", "forecaster"):
            own = {n: w for n, w in network.named_parameters() if n.startswith(f"{part}.")}
            norm = sum(float((w.grad**2).sum()) for w in own.values() if w.grad is not None) ** 0.5
            norms.append(norm)
            factor = min(1.0, clip_norm / norm)
            for name, weight in own.items():
                if weight.grad is None:
                    continue
                gradient = factor * weight.grad
                history[name] += gradient**2
                with torch.no_grad():
                    weight -= learning_rate * gradient / torch.sqrt(history[name] + 1e-8)
    return norms


@pytest.mark.parametrize("clip_norm", [50.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_are_the_authors_adagrad(clip_norm, dtype):
    network = tiny_network().to(dtype)
    expected = copy.deepcopy(network).double()
    learning_rate, scale = 1e-2, 1e-2
    clips = [some_clip(seed, dtype) for seed in range(3)]
    finetuning = OnlineFinetuning(
        network, learning_rate=learning_rate, clip_norm=clip_norm, loss_scale=scale
    )
    for clip in clips:
        finetuning(*clip)
    wide = [(inputs.double(), targets.double(), mask) for inputs, targets, mask in clips]
    norms = authors_steps(expected, wide, learning_rate, clip_norm, scale)
    assert (max(norms) < 50) if clip_norm == 50 else (min(norms) > 1)
    # Torch's clipping adds 1e-6 to the norm.
    tolerance = 1e-2 * learning_rate if dtype == torch.float32 else 1e-5 * learning_rate
    moved = 0.0
    start = dict(tiny_network().named_parameters())
    for name, weight in expected.named_parameters():
        found = dict(network.named_parameters())[name]
        np.testing.assert_allclose(
            found.detach().double(), weight.detach(), rtol=0, atol=tolerance, err_msg=name
        )
        moved = max(moved, float((weight - start[name]).detach().abs().max()))
    assert moved > learning_rate


def test_the_root_holds_epsilon_so_that_small_gradients_move_little():
    """A gradient far below √ε = 1e-4 moves a weight by far less than the learning rate."""
    network = tiny_network().double()
    before = copy.deepcopy(network)
    clip = some_clip(1, torch.float64)
    OnlineFinetuning(network, learning_rate=1.0, loss_scale=1e-9)(*clip)
    loss_of(before, *clip, 1e-9).backward()
    for (name, found), start in zip(network.named_parameters(), before.parameters(), strict=True):
        if start.grad is None:
            continue
        gradient = start.grad.numpy()
        assert np.abs(gradient).max() < 1e-5
        np.testing.assert_allclose(
            (start - found).detach(),
            gradient / np.sqrt(1e-8 + gradient**2),
            rtol=1e-9,
            atol=1e-15,
            err_msg=name,
        )


def test_the_loss_of_a_clip_that_is_repeated_falls():
    network = tiny_network()
    finetuning = OnlineFinetuning(network, learning_rate=1e-2)
    clip = some_clip(3)
    losses = [finetuning(*clip) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    assert losses[0] == pytest.approx(
        float(loss_of(tiny_network(), *clip, 1e-5).detach()), rel=1e-5
    )


@pytest.mark.parametrize("training", [False, True])
def test_the_network_keeps_its_mode_and_learns_within_inference_mode(training):
    network = tiny_network().train(training)
    finetuning = OnlineFinetuning(network, learning_rate=1e-2)
    before = copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        finetuning(*(field * 1 for field in some_clip(1)))
        assert torch.equal(
            finetuning.forecast(some_clip(1)[0], 3), network.forecast(some_clip(1)[0], 3)
        )
    assert network.training == training
    assert any(not torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_taking_up_a_state_goes_on_bit_for_bit(tmp_path):
    clips = [some_clip(seed) for seed in range(4)]
    unbroken = OnlineFinetuning(tiny_network(), learning_rate=1e-2)
    for clip in clips:
        unbroken(*clip)
    first = OnlineFinetuning(tiny_network(), learning_rate=1e-2)
    for clip in clips[:2]:
        first(*clip)
    torch.save(first.state_dict(), tmp_path / "state")
    second = OnlineFinetuning(tiny_network(seed=5), learning_rate=1e-2)
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for clip in clips[2:]:
        second(*clip)
    for name, weight in unbroken.network.state_dict().items():
        assert torch.equal(weight, second.network.state_dict()[name]), name


def evaluate(network, learning_rate, pixels_per_frame, clips):
    """Mean balanced error of a network that learns, and of one that does not."""
    frozen = copy.deepcopy(network)
    learns = OnlineFinetuning(network, learning_rate=learning_rate)
    found = evaluate_online(
        {"learns": learns, "frozen": frozen},
        drifting_bands(pixels_per_frame, clips),
        adapts={"learns": learns},
        lead_times=LEAD_TIMES,
        step_minutes=6,
        kinds=ScoreKinds(lambda: {"benchmark": Scores(LEAD_TIMES)}),
        target_mask=as_scored,
    )
    scores = {name: result.total("benchmark").summary() for name, result in found.items()}
    return {name: float(s["balanced_mse"] + s["balanced_mae"]) for name, s in scores.items()}


def test_learning_on_the_way_pays_where_the_drift_has_changed():
    """Trained on bands that drift east, then given bands that drift west."""
    network = tiny_network()
    east = evaluate(network, 3e-2, 1, clips=150)
    assert east["learns"] < 0.7 * east["frozen"]
    west = evaluate(network, 3e-2, -1, clips=120)
    assert west["learns"] < 0.7 * west["frozen"]
    # Without a learning rate to speak of, learning changes nothing.
    still = evaluate(network, 1e-12, 1, clips=20)
    assert still["learns"] == pytest.approx(still["frozen"], rel=1e-6)


def test_layers_whose_statistics_are_frozen_stay_frozen():
    network = tiny_network()
    network.train()
    layers = memel.insert(network, at=["*.rnn.cell"], late_start=0)
    network(some_clip(0)[0], LEAD_TIMES)
    for layer in layers.values():
        layer.in_evaluation = True
    network.eval()
    before = {name: value.clone() for name, value in network.named_buffers()}
    weights = {name: value.clone() for name, value in network.named_parameters()}
    assert before
    OnlineFinetuning(network)(*some_clip(1))
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    assert any((value != weights[name]).any() for name, value in network.named_parameters())
