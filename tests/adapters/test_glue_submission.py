"""The files that gluebenchmark.com takes."""

import csv
import zipfile

import numpy as np
import pytest
from made_up_glue import write_glue

from nowcast.adapters.glue import TASKS, load_task
from nowcast.adapters.submission import FILES, predictions, write_predictions, write_submission
from nowcast.errors import InputError

SERVERS_FILES = (
    "AX", "CoLA", "MNLI-m", "MNLI-mm", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B", "WNLI",
)  # fmt: skip
"""jiant, GLUE_NAME_MAP: "Exact file names per task required by the GLUE evaluation server"."""

ANSWERS = {
    "MNLI": ["contradiction", "entailment", "neutral"],
    "QNLI": ["entailment", "not_entailment"],
    "RTE": ["entailment", "not_entailment"],
    "QQP": ["0", "1"],
    "SST-2": ["0", "1"],
    "CoLA": ["0", "1"],
    "MRPC": ["0", "1"],
}


def test_the_files_are_the_servers():
    assert sorted(FILES) == sorted(SERVERS_FILES)


@pytest.mark.parametrize("name", ANSWERS)
def test_classes_are_said_as_the_server_wants_them(name):
    task = TASKS[name]
    logits = np.eye(len(task.labels))
    assert sorted(predictions(task, logits)) == ANSWERS[name]
    words = dict(enumerate(predictions(task, logits)))
    assert words[0] in ("0", task.labels[0])
    assert words[1] in ("1", task.labels[1])


def test_values_stay_in_the_range_of_the_labels():
    outputs = np.array([[-0.4], [2.25], [5.3], [np.nan]])
    assert predictions(TASKS["STS-B"], outputs) == [0.0, 2.25, 5.0, 0.0]


def test_a_submission_has_the_servers_form(tmp_path):
    """From the test splits of all tasks to the zip, read back as the server would."""
    root = write_glue(tmp_path / "data", sizes=(4, 4, 12))
    rng = np.random.default_rng(0)
    files = {}
    expected = {}
    for task in TASKS.values():
        splits = load_task(task, root)
        for name, split in task.test.items():
            # Out of order, as an evaluation that sorts by length leaves it.
            idx = rng.permutation(splits[split]["idx"][:])
            found = predictions(task, rng.normal(2, 2, (idx.size, len(task.labels) or 1)))
            files[name] = tmp_path / "runs" / task.name / f"{name}.tsv"
            write_predictions(files[name], idx, found)
            expected[name] = dict(zip(idx.tolist(), found, strict=True))
    assert write_submission(tmp_path / "out" / "submission.zip", files) == ()
    with zipfile.ZipFile(tmp_path / "out" / "submission.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [f"{name}.tsv" for name in SERVERS_FILES]
        read = {name: archive.read(f"{name}.tsv").decode("ascii") for name in SERVERS_FILES}
    placeholder = [["index", "prediction"], *([str(index), "0"] for index in range(146))]
    assert list(csv.reader(read.pop("WNLI").splitlines(), delimiter="\t")) == placeholder
    for name, text in read.items():
        assert "\r" not in text
        assert text.endswith("\n")
        head, *rows = csv.reader(text.splitlines(), delimiter="\t")
        assert head == ["index", "prediction"]
        assert [int(index) for index, _ in rows] == list(range(12))
        for index, value in rows:
            if name == "STS-B":
                assert float(value) == pytest.approx(expected[name][int(index)], abs=5.1e-4)
                assert len(value.split(".")[1]) == 3
            else:
                assert value == expected[name][int(index)]
    words = set("".join(read["AX"].split("\n")[1:]).translate(str.maketrans("", "", "0123456789")))
    assert words <= set("\tentailmentneutralcontradiction")


def test_what_is_missing_is_named(tmp_path):
    write_predictions(tmp_path / "RTE.tsv", [0], ["entailment"])
    missing = write_submission(tmp_path / "some.zip", {"RTE": tmp_path / "RTE.tsv"})
    assert sorted(missing) == [name for name in SERVERS_FILES if name not in ("RTE", "WNLI")]
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert archive.namelist() == ["RTE.tsv", "WNLI.tsv"]
    own = tmp_path / "WNLI.tsv"
    write_predictions(own, [0, 1], ["1", "1"])
    write_submission(tmp_path / "some.zip", {"WNLI": own})
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert archive.read("WNLI.tsv") == own.read_bytes()


def test_what_cannot_be_submitted_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"RTE.tsv: found 3 predictions for 2 indices"):
        write_predictions(tmp_path / "RTE.tsv", [0, 1, 0], ["entailment"] * 3)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"RTE.tsv: found no file, expected predictions for RTE"):
        write_submission(tmp_path / "some.zip", {"RTE": tmp_path / "RTE.tsv"})
    with pytest.raises(InputError, match=r"found the name 'MNLI', expected MNLI-m, MNLI-mm, AX"):
        write_submission(tmp_path / "some.zip", {"MNLI": tmp_path / "MNLI.tsv"})
    assert not list(tmp_path.iterdir())
