"""Table 3's trial on any model: timm's Swin with random parts, and closed forms on a small one."""

import copy
import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn

from nowcast import memel
from nowcast.memel import update_rows
from nowcast.memel.update_rows import Interval
from nowcast.memel.update_trial import DELTAS

HOLDING = ("Naive (a)", "Naive (b)", "Reverse deactivation")
"""Rows that hold the selected neurons at their means."""


def swin_trial(learning_rate=1e-3, drop=0.5, top=1, clip_gradients=None, statistics=4):
    """A trial on a Swin with dropout and drop path, its statistics collected."""
    torch.manual_seed(0)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=56,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=5,
        drop_path_rate=drop,
        drop_rate=drop,
    )
    memel.insert(model, ["layers.*.attn"], regroup=True, neurons="last", top=top)

    def loss(batch):
        images, labels = batch
        return nn.functional.cross_entropy(model(images), labels)

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    trial = memel.UpdateTrial(model, optimizer, loss, clip_gradients)
    if statistics:
        trial.collect_statistics(batches(seed=1), statistics)
    return trial


def batches(seed=2, size=4):
    generator = torch.Generator().manual_seed(seed)
    while True:
        images = torch.randn(size, 3, 56, 56, generator=generator)
        yield images, torch.randint(5, (size,), generator=generator)


def state(model):
    return copy.deepcopy(model.state_dict())


def assert_same(state, other):
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.fixture(scope="module")
def measured():
    """Steps on a Swin, with the state of model and random numbers before and after."""
    trial = swin_trial()
    before, random = state(trial.model), torch.get_rng_state()
    steps = memel.measure_updates(trial, batches(), at_least=50)
    return trial, before, random, steps


def test_all_rows_of_a_batch_see_the_same_random_numbers(measured):
    *_, steps = measured
    for step in range(4):
        naive_a, naive_b, reverse = (steps[row][step].loss for row in HOLDING)
        assert naive_a == naive_b == reverse != steps["Original"][step].loss
    # Random numbers do matter, and each batch has others.
    trial = swin_trial()
    batch = next(batches())
    losses = [trial.step(batch, 1.0, seed).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    repeated = memel.measure_updates(trial, itertools.repeat(batch), at_least=20)
    assert len({step.loss for step in repeated["Original"]}) == 2


def test_enough_neurons_are_measured_on_the_same_batches_in_all_rows(measured):
    *_, steps = measured
    assert list(steps) == list(DELTAS)
    # Four layers, one neuron in each of four images; four batches are the least for 50.
    for row in steps.values():
        assert [len(step.decrease) for step in row] == [16] * 4
        assert [len(step.update) for step in row] == [16] * 4
    rows = memel.summarize_updates(steps)
    assert {row.neurons for row in rows.values()} == {64}
    assert rows["Original"].decrease_beyond_original == Interval(0, 0, 0)
    assert rows["Naive (a)"].decrease_beyond_naive_a == Interval(0, 0, 0)
    for name, row in rows.items():
        assert row.loss_change.value == pytest.approx(
            np.mean([step.loss_change for step in steps[name]])
        )
    text = memel.format_update_effects(rows)
    assert [line.split("  ")[0] for line in text.splitlines()[1:5]] == list(DELTAS)
    assert "64 selected neurons a row" in text


def test_afterwards_the_model_is_as_it_was_and_so_are_random_numbers(measured):
    trial, before, random, _ = measured
    assert_same(trial.model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random)
    for layer in memel.inserted(trial.model).values():
        assert (layer.late_start, layer.delta) == (1000, 1.0)
    assert trial.optimizer.state_dict()["state"] == {}


def test_a_step_of_rate_zero_changes_exactly_nothing():
    """Both passes see the same random numbers: else dropped paths would move the neurons."""
    trial = swin_trial(learning_rate=0.0, top=2)
    for row in memel.measure_updates(trial, batches(), at_least=40).values():
        for step in row:
            assert not step.decrease.any()
            assert not step.update.any()
            assert step.loss_change == 0


def test_collecting_statistics_trains_nothing_and_sees_each_batch_once():
    trial = swin_trial(statistics=0)
    with pytest.raises(ValueError, match=r"layers\.0\.blocks\.0\.attn has collected no statistics"):
        memel.measure_updates(trial, batches())
    before, shown = state(trial.model), []
    trial.collect_statistics(batches(), 3, shown=lambda numbers: shown.extend(numbers) or numbers)
    assert shown == [0, 1, 2]
    layers = memel.inserted(trial.model)
    tokens = [14 * 14, 14 * 14, 7 * 7, 7 * 7]
    assert [int(layer.count) for layer in layers.values()] == [3 * 4 * n for n in tokens]
    assert {int(layer.calls) for layer in layers.values()} == {3}
    weights = memel.without_statistics(trial.model.state_dict())
    assert_same(weights, memel.without_statistics(before))
    # A second time they start anew.
    first = state(trial.model)
    trial.collect_statistics(batches(), 3)
    assert_same(trial.model.state_dict(), first)


def test_gradients_are_clipped_before_the_step():
    norms = []

    def clip():
        norms.append(nn.utils.clip_grad_norm_(trial.model.parameters(), 0.0))

    trial = swin_trial(clip_gradients=clip)
    step = trial.step(next(batches()), 1.0)
    assert len(norms) == 1
    assert norms[0] > 0
    assert not step.update.any()


class OneLayer(nn.Module):
    """z = x · weights; the loss is −z · pull, whose gradient in z is constant."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = nn.Parameter(torch.randn(6, 8, generator=generator, dtype=torch.float64))
        self.neurons = nn.Identity()

    def forward(self, x):
        return self.neurons(x @ self.weight)


@pytest.mark.parametrize("outward", [1.0, -1.0])
def test_a_step_of_gradient_descent_moves_the_selected_neuron_as_lemma_33_has_it(outward):
    """It moves by −rate · |x|² · gradient, the gradient of the selected one being −Δ times its own.

    Where the loss pulls it away from its mean, φ thus falls with Δ = 1 and rises with Δ = −1; with
    Δ = 0 it stays. One sample, so that no other moves the same weights.
    """
    model = OneLayer()
    layer = memel.insert(model, ["neurons"], late_start=0)["neurons"]
    generator = torch.Generator().manual_seed(5)
    model(torch.randn(200, 6, generator=generator, dtype=torch.float64))
    rate, x = 1e-3, torch.randn(1, 6, generator=generator, dtype=torch.float64)
    z = (x @ model.weight).detach()[0]
    phi = (z - layer.mean) ** 2 / (layer.variance + layer.epsilon * layer.variance.mean())
    chosen = int(phi.argmax())
    distance = float(abs(z - layer.mean)[chosen])
    pull = torch.linspace(0.5, 2, 8, dtype=torch.float64)
    pull[chosen] = outward * torch.sign(z - layer.mean)[chosen]
    trial = memel.UpdateTrial(
        model,
        torch.optim.SGD(model.parameters(), lr=rate),
        lambda batch: -(model(batch) * pull).sum(),
    )
    steps = {row: trial.step(x, delta) for row, delta in DELTAS.items()}
    for row, delta in DELTAS.items():
        slope = 1.0 if delta is None else -delta
        moved = slope * outward * rate * float((x * x).sum())
        assert steps[row].decrease == pytest.approx([1 - (1 + moved / distance) ** 2], rel=1e-9)
        assert steps[row].update == pytest.approx([abs(moved / float(z[chosen]))], rel=1e-9)
    decrease = {row: outward * float(step.decrease[0]) for row, step in steps.items()}
    assert decrease["Naive (b)"] < decrease["Naive (a)"] == 0 < decrease["Reverse deactivation"]
    assert decrease["Original"] == pytest.approx(decrease["Naive (b)"], rel=1e-9)


def test_an_interval_of_the_loss_rests_on_batches_of_different_sizes():
    """The last batch of a data loader is smaller; as many are taken as it takes."""
    trial = swin_trial(drop=0.0)
    sizes, bars = iter([4, 1, 1, 2, 4]), []

    def of_sizes():
        for size in sizes:
            yield next(batches(size=size))

    def show(numbers):
        bars.append(len(numbers))
        return numbers

    steps = memel.measure_updates(trial, of_sizes(), at_least=30, shown=show)
    # 16, 20, 24, 32: after the second, which was to be enough, two are missing.
    assert [len(step.decrease) for step in steps["Original"]] == [16, 4, 4, 8]
    assert bars == [1, 1, 1]


def test_what_cannot_be_measured_is_refused():
    trial = swin_trial()
    two = list(itertools.islice(batches(), 2))
    with pytest.raises(ValueError, match="found 2 batches, expected at least 3"):
        memel.measure_updates(trial, two, at_least=100)
    with pytest.raises(ValueError, match="found 2 batches, expected at least 3"):
        trial.collect_statistics(two, 3)
    model = nn.Linear(2, 2)
    trial = memel.UpdateTrial(model, torch.optim.SGD(model.parameters()), lambda x: model(x).sum())
    with pytest.raises(ValueError, match="no layers to probe"):
        memel.measure_updates(trial, [torch.ones(3, 2)])
    memel.insert(model := nn.Sequential(nn.Linear(2, 2)), ["0"], share=0.2)
    model(torch.randn(9, 2))
    trial = memel.UpdateTrial(model, torch.optim.SGD(model.parameters()), lambda x: model(x).sum())
    with pytest.raises(ValueError, match="nothing was selected in a batch; expected layers with a"):
        memel.measure_updates(trial, [torch.ones(3, 2)])


def test_the_bootstrap_interval_of_a_mean_is_that_of_its_standard_error():
    random = np.random.default_rng(3)
    values = [random.normal(2.0, 1.0, 50) + random.normal(0.0, 0.5) for _ in range(200)]
    interval = update_rows._bootstrap(values, np.mean)
    means = np.array([batch.mean() for batch in values])
    half = 1.96 * means.std(ddof=1) / np.sqrt(len(means))
    assert interval.value == pytest.approx(np.concatenate(values).mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)
