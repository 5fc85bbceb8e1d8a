"""What the benchmark of verification times: the same scores in two ways, in bounded memory."""

import numpy as np
import pytest

from nowcast.benchmarks.verification import (
    accumulators,
    measure_verification,
    plain_sums,
    synthetic_forecasts,
)
from nowcast.errors import InputError
from nowcast.verification.scores import COUNT_NAMES, Scores


def test_the_plain_way_of_the_benchmark_gives_the_same_scores():
    prediction, truth, mask = synthetic_forecasts(clips=2, lead_times=3, side=64)
    assert 0 < mask.mean() < 1
    assert not np.array_equal(prediction, truth)
    scores = Scores(3)
    scores.update(prediction, truth, mask)
    found, plain = scores.compute(), plain_sums(prediction, truth, mask)
    for name in COUNT_NAMES:
        np.testing.assert_array_equal(plain[name], found[name], err_msg=name)
    for name in plain.keys() - set(COUNT_NAMES):
        np.testing.assert_allclose(plain[name], found[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_the_benchmark_times_every_accumulator_and_its_memory_does_not_grow():
    report = measure_verification(
        side=64, lead_times=2, clips=2, memory_clips=(2, 200), repeats=2, warmup=0
    )
    rows = {row.name: row for row in report.rows}
    assert rows.keys() > accumulators(2, 64).keys()
    for row in report.rows:
        assert row.work * 1e6 == 2 * 2 * 64 * 64
        assert len(row.seconds) == 2
    facts = iter(report.facts.values())
    assert next(facts) < 1e-6
    assert next(facts).keys() == rows.keys()
    peaks = next(facts)
    if isinstance(peaks, dict):
        assert peaks["200"] < peaks["2"] + 5


@pytest.mark.parametrize("setting", ["side", "lead_times", "clips", "threads"])
def test_settings_of_the_benchmark_that_make_no_sense_are_refused(setting):
    with pytest.raises(InputError, match=f"{setting}=0"):
        measure_verification(**{setting: 0})
