"""`probe update`: Table 3 from the command line."""

import json

import pytest
import yaml
from as_user import EXPERIMENT, nowcast

ROWS = ["Original", "Naive (a)", "Naive (b)", "Reverse deactivation"]
DATA = EXPERIMENT["pretrain"]["data"]
UPDATE = {"checkpoint": "runs/pretrain/last.ckpt", "data": DATA, "at_least": 200}


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({"probe": {"update": UPDATE}}))
    return path


def test_the_table_has_all_four_rows_and_the_file_the_same_numbers(folder, experiment, tmp_path):
    out = tmp_path / "update.json"
    said = nowcast("probe", "update", "--config", experiment, "--out", out)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ROWS
    written = json.loads(out.read_text())
    assert list(written["rows"]) == ROWS
    # Two clips a batch; three levels, called 5 and 20 times.
    assert {row["neurons"] for row in written["rows"].values()} == {300}
    assert "300 selected neurons a row" in said.out
    for line, row in zip(lines[1:5], written["rows"].values(), strict=True):
        assert f"{100 * row['decrease_mean']['value']:.3g} (" in line
    assert written["settings"]["learning_rate"] == 1e-4
    assert written["settings"]["data"]["store"].endswith("rain.h5")


def test_the_same_command_gives_the_same_numbers(folder, experiment):
    first, second = (
        nowcast("probe", "update", "--config", experiment, "--optimizer=sgd", "--learning_rate=0.1")
        for _ in range(2)
    )
    assert first.status == 0, first.err
    assert first.out == second.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--checkpoint=none.ckpt"], "none.ckpt: found no file, expected a checkpoint"),
        (["--at_least=0"], "found at_least=0"),
        (["--optimizer=lion"], "optimizer"),
        (["--data.step_minutes=5"], "minutes"),
        (["--top=1000000"], "top=1000000 of"),
        (["--device=abacus"], "device: found 'abacus'"),
        (["--out=data/rain.h5/x.json"], "data/rain.h5"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(folder, experiment, options, said):
    outcome = nowcast("probe", "update", "--config", experiment, *options)
    assert outcome.status != 0
    assert outcome.out == ""
    assert said in outcome.err
    assert outcome.err.startswith("error: ")
    assert not (folder / "missing").exists()
