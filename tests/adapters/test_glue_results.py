"""Which finetunings a row shows, what they leave in files, and what is printed of them."""

import json
import math

import pytest

from nowcast.adapters.bert import Finetuning
from nowcast.adapters.experiment import Plan, carry_out, chosen
from nowcast.adapters.glue_results import tabulate_glue
from nowcast.adapters.runs import Outcome, Run, done, write_outcome
from nowcast.adapters.table import format_table, tabulate, write_table
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

TUNED = Plan(rows=("MEmeL", "MEmeL-Tune"), tune_tops=(5, 10), tune_deltas=(5.0,))
SCORES = {
    (1, 1.0, 1e-5): 0.6, (1, 1.0, 2e-5): 0.8, (1, 1.0, 3e-5): 0.7,
    (5, 5.0, 2e-5): 0.75, (10, 5.0, 2e-5): 0.9,
}  # fmt: skip


def outcome(score, loss=(0.5,)):
    return Outcome({"RTE": score}, {}, loss, 1, 1.0)


def carried_out(plan, scores, rates=(1e-5, 2e-5, 3e-5)):
    def finetune(run):
        return outcome(scores[run.inhibition.top, run.inhibition.delta, run.learning_rate])

    return carry_out(plan, "RTE", rates, ["RTE"], finetune)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (10, 5.0)),
        ({(10, 5.0, 2e-5): 0.79}, (1, 1.0)),
        ({(10, 5.0, 2e-5): 0.8}, (1, 1.0)),
        ({(10, 5.0, 2e-5): math.nan, (5, 5.0, 2e-5): 0.85}, (5, 5.0)),
    ],
)
def test_memel_tune_is_the_best_of_its_grid_and_memel_at_memels_learning_rate(changed, expected):
    """The grid is without MEmeL's own top and Δ; of equals, the first."""
    outcomes = carried_out(TUNED, SCORES | changed)
    assert len(outcomes) == TUNED.count([1e-5, 2e-5, 3e-5]) == 5
    assert TUNED.tuning == (Inhibition(), Inhibition(5, 5.0), Inhibition(10, 5.0))
    (run,) = chosen("MEmeL-Tune", outcomes, ["RTE"])
    assert ((run.inhibition.top, run.inhibition.delta), run.learning_rate) == (expected, 2e-5)


def test_a_grid_may_hold_memels_own_and_the_same_twice():
    plan = Plan(rows=("MEmeL-Tune",), tune_tops=(1, 5, 5), tune_deltas=(1.0,))
    assert plan.tuning == (Inhibition(), Inhibition(5))
    assert plan.count([1e-5, 2e-5]) == 3


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_what_diverged_is_written_as_json_and_read_as_it_was(tmp_path):
    run, settings = Run("RTE", None, 1e-5), {"clip": math.inf}
    write_outcome(run, tmp_path, settings, outcome(math.nan, (0.5, math.inf, math.nan)))
    text = (run.folder(tmp_path) / "outcome.json").read_text()
    json.loads(text, parse_constant=refuse_constant)
    found = done(run, tmp_path, settings)
    assert math.isnan(found.scores["RTE"])
    assert found.loss[0] == 0.5
    assert all(map(math.isnan, found.loss[1:]))
    assert (found.steps, found.seconds, found.scores_in_testing) == (1, 1.0, {})
    other = {Run("RTE", None, 1e-5, 1): outcome(0.5)}
    table = tabulate(
        "t", ["Original"], {"RTE": {run: found} | other}, {"RTE": ["RTE"]}, {"RTE": []}, {}, []
    )
    assert "nan ± nan" in format_table(table)
    write_table(tmp_path, table, settings)
    plain = json.loads((tmp_path / "table.json").read_text(), parse_constant=refuse_constant)
    score = plain["rows"]["Original"]["scores"]["RTE"]
    assert score == {"mean": None, "deviation": None, "values": {"0": None, "1": 0.5}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content["outcome"]["scores"].update(RTE="0.5"), "expected a number"),
        (lambda content: content["outcome"].pop("loss"), "missing 1 required"),
        (lambda content: content.update(settings=[1]), "delete it to do it again"),
        (lambda content: content["settings"]["layers"].update(per="batch"),
         "was made with layers.per=batch, now asked for sample; choose another folder"),
        (lambda content: content["settings"].update(data="f" * 64),
         f"was made with data={'f' * 8}…, now asked for {'0' * 8}…;"),
    ],
)  # fmt: skip
def test_an_outcome_of_something_else_is_refused(tmp_path, change, said):
    run = Run("RTE", Inhibition(), 1e-5)
    settings = {"data": "0" * 64, "layers": {"per": "sample", "layers": 4}}
    write_outcome(run, tmp_path, settings, outcome(0.5))
    assert done(run, tmp_path, settings) == outcome(0.5)
    path = run.folder(tmp_path) / "outcome.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as refusal:
        done(run, tmp_path, settings)
    assert str(refusal.value).startswith(f"{path}: ")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_papers_lines_are_there_where_it_has_values():
    made = {Run("RTE", None, 1e-5): outcome(0.6), Run("RTE", Inhibition(), 1e-5): outcome(0.7)}

    def lines(paper):
        table = tabulate(
            "t", ["Original", "MEmeL"], {"RTE": made}, {"RTE": ["RTE"]}, {"RTE": []}, paper, []
        )
        return format_table(table).rstrip("\n").splitlines()[2:]

    measured = ["measured  RTE", "Original  60.0", "MEmeL     70.0"]
    assert lines({}) == measured
    assert lines({"Original": {"QQP": 71.2}, "Naive (a)": {"RTE": 66.4}}) == measured
    found = lines({"Original": {"QQP": 71.2}, "MEmeL": {"RTE": 66.4}})
    assert found == [*measured, "paper", "MEmeL     66.4"]


@pytest.mark.parametrize(("epochs", "said"), [(1, "1 epoch, "), (3, "3 epochs, ")])
def test_the_title_counts_in_words(epochs, said):
    plan = Plan(rows=("MEmeL", "MEmeL-Tune"), tune_tops=(1,), tune_deltas=(1.0,))
    outcomes = carried_out(plan, SCORES)
    table = tabulate_glue("bert", plan, Finetuning(epochs=epochs), [1e-5], {"RTE": outcomes})
    assert said in table.title
    assert "the best of 1 pair of top" in " ".join(table.notes)
