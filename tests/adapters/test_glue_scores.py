"""Scores of Table 1 against scikit-learn and SciPy on the same predictions."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from nowcast.adapters.glue import COLUMNS, TASKS, answers, further_columns, scores

CLASSIFIED = [column for column in COLUMNS if column != "STS-B"]


def task_of(column):
    return next(task for task in TASKS.values() if column in task.dev)


def expected(column, labels, found):
    """Printed score and the further one."""
    accuracy = metrics.accuracy_score(labels, found)
    if column in ("QQP", "MRPC"):
        f1 = metrics.f1_score(labels, found, pos_label=1, zero_division=0)
        return {column: f1, f"{column} (accuracy)": accuracy}
    if column == "CoLA":
        return {"CoLA": metrics.matthews_corrcoef(labels, found), "CoLA (accuracy)": accuracy}
    return {column: accuracy}


@pytest.mark.parametrize("column", CLASSIFIED)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_classification_scores_are_scikit_learns(column, data):
    """Few values make ties between logits, few rows make constant labels and predictions."""
    task = task_of(column)
    rows, classes = data.draw(st.integers(1, 40)), len(task.labels)
    value = st.integers(-2, 2)
    logits = np.array(
        data.draw(st.lists(value, min_size=rows * classes, max_size=rows * classes)), np.float32
    ).reshape(rows, classes)
    label = st.integers(0, classes - 1)
    labels = np.array(data.draw(st.lists(label, min_size=rows, max_size=rows)))
    # Of equal logits the first, as np.argmax and as the server gets it.
    found = [max(range(classes), key=lambda number: row[number]) for row in logits.tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        true = expected(column, labels, found)
    assert scores(column, logits, labels) == pytest.approx(true, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-20, 70), st.integers(0, 50)), min_size=8, max_size=60),
    digits=st.sampled_from((1, 10)),
)
def test_regression_scores_are_scipys(rows, digits):
    """Values are rounded, so that both sides have ties."""
    values, labels = (np.array(side) // digits * digits / 10 for side in zip(*rows, strict=True))
    found = scores("STS-B", values[:, None].astype(np.float32), labels.astype(np.float32))
    if np.ptp(values) == 0 or np.ptp(labels) == 0:
        assert found == {"STS-B": 0, "STS-B (Pearson)": 0}
        return
    assert found["STS-B"] == pytest.approx(stats.spearmanr(values, labels)[0], abs=1e-6)
    assert found["STS-B (Pearson)"] == pytest.approx(stats.pearsonr(values, labels)[0], abs=1e-6)


def test_scores_of_as_many_rows_as_glue_has():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40_430)
    logits = rng.normal(size=(labels.size, 2)) + 0.5 * np.eye(2)[labels]
    for column in ("QQP", "CoLA", "MRPC", "RTE"):
        found = scores(column, logits, labels)
        assert found == pytest.approx(expected(column, labels, logits.argmax(1)), abs=1e-6)
    values = np.round(rng.normal(2.5, 1, 1500), 1)
    noisy = values + rng.normal(size=1500)
    found = scores("STS-B", noisy, values)
    assert found["STS-B"] == pytest.approx(stats.spearmanr(noisy, values)[0], abs=1e-6)
    assert found["STS-B (Pearson)"] == pytest.approx(stats.pearsonr(noisy, values)[0], abs=1e-6)


def test_constant_predictions_have_finite_scores():
    """All ones for labels of which three in four are ones, worked out by hand."""
    labels, ones = np.array([1, 1, 1, 0]), np.tile([0.0, 1.0], (4, 1))
    assert scores("CoLA", ones, labels) == {"CoLA": 0, "CoLA (accuracy)": 0.75}
    assert scores("MRPC", ones, labels) == pytest.approx(
        {"MRPC": 2 * 0.75 * 1 / 1.75, "MRPC (accuracy)": 0.75}
    )
    assert scores("MRPC", -ones, labels) == {"MRPC": 0, "MRPC (accuracy)": 0.25}
    # Where all labels are ones, too, Matthews is still undefined.
    assert scores("CoLA", ones, np.ones(4)) == {"CoLA": 0, "CoLA (accuracy)": 1}
    assert scores("STS-B", np.full((4, 1), 2.7), labels) == {"STS-B": 0, "STS-B (Pearson)": 0}
    assert scores("STS-B", [1.0, 2.0, 3.0, 4.0], np.ones(4))["STS-B"] == 0


@pytest.mark.parametrize("column", COLUMNS)
def test_a_network_that_diverged_scores_as_one_that_answers_all_alike(column):
    task, labels = task_of(column), np.array([0, 1, 1, 0, 1])
    outputs = np.zeros((5, len(task.labels) or 1))
    diverged = np.full_like(outputs, np.nan)
    assert scores(column, diverged, labels) == scores(column, outputs, labels)
    diverged[0], diverged[1] = np.inf, -np.inf
    assert scores(column, diverged, labels) == scores(column, outputs, labels)
    assert np.isfinite(list(scores(column, diverged, labels).values())).all()


def test_columns_are_those_that_are_scored():
    for task in TASKS.values():
        outputs, labels = np.eye(4)[:, : len(task.labels) or 1], np.array([0, 1, 1, 0])
        keys = [key for column in task.dev for key in scores(column, outputs, labels)]
        assert sorted(keys) == sorted((*task.dev, *further_columns(task)))
    assert [column for task in TASKS.values() for column in further_columns(task)] == [
        "QQP (accuracy)", "CoLA (accuracy)", "STS-B (Pearson)", "MRPC (accuracy)",
    ]  # fmt: skip


def test_values_come_in_one_column_or_in_none():
    values = np.array([0.5, 4.0, 2.0])
    assert np.array_equal(answers(TASKS["STS-B"], values), values)
    assert np.array_equal(answers(TASKS["STS-B"], values[:, None]), values)
