"""Table 3's experiment on a small trained ConvGRU."""

import pytest
from small_runs import INHIBITION, NETWORK, STEPS, data, run

from nowcast.errors import InputError
from nowcast.memel import format_update_effects
from nowcast.memel.update_rows import Interval
from nowcast.training.protocol import pretrain
from nowcast.training.update_effects import measure_update_effects

ROWS = ["Original", "Naive (a)", "Naive (b)", "Reverse deactivation"]


@pytest.fixture(scope="module")
def with_layers(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("with")
    return pretrain(NETWORK, data(store), STEPS, run(folder, valid_clips=0), INHIBITION)


@pytest.fixture(scope="module")
def without(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    return pretrain(NETWORK, data(store), STEPS, run(folder, valid_clips=0))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_all_four_rows_rest_on_enough_neurons_of_the_same_clips(store, with_layers, optimizer):
    rows = measure_update_effects(with_layers, data(store), at_least=400, optimizer=optimizer)
    assert list(rows) == ROWS
    # Four clips a batch; three levels, 5 calls in the encoder and 20 in the forecaster each.
    assert {row.neurons for row in rows.values()} == {600}
    for row in rows.values():
        for interval in vars(row).values():
            if isinstance(interval, Interval):
                assert interval.low <= interval.value <= interval.high
        assert row.update_mean.value > 0
        assert row.loss_change.value < 0  # The optimizer does its work, in all four.
    assert rows["Original"].decrease_beyond_original == Interval(0, 0, 0)
    assert rows["Naive (a)"].decrease_beyond_naive_a == Interval(0, 0, 0)
    text = format_update_effects(rows)
    assert [line.split("  ")[0] for line in text.splitlines()[1:5]] == ROWS


def test_the_gradient_alone_sets_reverse_deactivation_apart_from_the_naive_ways(store, with_layers):
    """φ falls with Δ, as Lemma 3.3 has it of plain gradient descent."""
    rows = measure_update_effects(
        with_layers, data(store), at_least=1500, optimizer="sgd", learning_rate=10.0
    )
    assert rows["Reverse deactivation"].decrease_beyond_naive_a.value > 1e-4
    assert rows["Naive (b)"].decrease_beyond_naive_a.value < -1e-4


def test_every_row_starts_from_the_same_weights_and_statistics(store, with_layers):
    """A rate of almost nothing changes almost nothing, batch after batch, in every row."""
    rows = measure_update_effects(
        with_layers, data(store), at_least=700, optimizer="sgd", learning_rate=1e-12
    )
    for row in rows.values():
        assert abs(row.decrease_mean.value) < 1e-6
        assert row.update_mean.value < 1e-6


def test_statistics_are_collected_where_the_checkpoint_has_none(store, without):
    rows = measure_update_effects(without, data(store), at_least=300, statistics_batches=3)
    assert rows["Original"].neurons == 600  # Two batches at least.


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"at_least": 0}, "at_least=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"top": 10**6}, "top=1000000 of"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "abacus"}, "device: found 'abacus'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(store, with_layers, wrong, said):
    with pytest.raises(InputError, match=said) as refused:
        measure_update_effects(with_layers, data(store), **wrong)
    assert "\n" not in str(refused.value)
