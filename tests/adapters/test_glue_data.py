"""GLUE from files of every form, and what is said of files that are not as they should be."""

import logging
import re
import shutil
import socket

import pytest
from made_up_glue import CLASSES, FOLDERS, FORMS, glue_content, write_glue

from nowcast.adapters.glue import COLUMNS, HUB, PAPER, TASKS, load_task, task_patterns
from nowcast.errors import InputError

SIZES = (13, 9, 7)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    place = tmp_path_factory.mktemp("glue")
    return {form: write_glue(place / form, form, sizes=SIZES) for form in FORMS}


def expected_columns(task, content):
    columns = {name: [texts[at] for texts, _ in content] for at, name in enumerate(task.texts)}
    labels = [label for _, label in content]
    columns |= {} if None in labels else {"label": labels}
    return columns | {"idx": list(range(len(content)))}


def loaded_columns(splits):
    return {name: split.to_dict() for name, split in splits.items()}


@pytest.mark.parametrize("name", TASKS)
def test_every_form_is_read_as_what_was_written(roots, name, monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    task = TASKS[name]
    expected = {
        split: expected_columns(task, content)
        for split, content in glue_content(name, SIZES).items()
    }
    for form in FORMS:
        splits = load_task(task, roots[form])
        assert loaded_columns(splits) == expected, form
        assert list(splits) == ["train", *task.dev.values(), *task.test.values()]
        for split in splits.values():
            types = {column: feature.dtype for column, feature in split.features.items()}
            label = types.pop("label", None)
            assert label in (None, "int64" if task.labels else "float32")
            assert types == dict.fromkeys(task.texts, "string") | {"idx": "int64"}
            assert split.cache_files == []
    assert expected["train"]["sentence1"][0].startswith('"')


def test_labels_have_the_hubs_order():
    assert {name: task.config for name, task in TASKS.items()} == FOLDERS
    for name, classes in CLASSES.items():
        assert TASKS[name].labels == classes
    assert TASKS["STS-B"].labels == ()
    assert {len(TASKS[name].labels) for name in ("QQP", "SST-2", "CoLA", "MRPC")} == {2}


def test_the_papers_tables_are_as_printed(shared):
    text = (shared / "paper" / "learning-from-emergence.md").read_text(encoding="utf-8")
    printed = {}
    for table in ("**Table 1:", "**Table 5:"):
        lines = text.split(table)[1].split("\n**Table")[0].split("\n")
        for line in lines:
            row, *cells = re.sub("</?b>| ", "", line).split("\t")
            if len(cells) == 9 and row != "Model":
                values = [float(value) for cell in cells for value in cell.split("/")]
                printed.setdefault(row, values)
    assert COLUMNS[:2] == ("MNLI-m", "MNLI-mm")
    assert len(printed) == 6
    for row, values in PAPER.items():
        assert tuple(values) == (*COLUMNS, "average")
        assert list(values.values()) == printed[row.replace(" ", "")]
        mean = sum(values[column] for column in COLUMNS) / 9
        assert values["average"] == pytest.approx(mean, abs=0.051)


def test_the_hubs_patterns_are_enough(roots, tmp_path):
    for name, task in TASKS.items():
        copy = tmp_path / name
        for pattern in task_patterns(task):
            for path in roots["parquet"].glob(pattern):
                (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy / path.parent.name)
        assert loaded_columns(load_task(task, copy)) == loaded_columns(
            load_task(task, roots["parquet"])
        )


@pytest.mark.parametrize("place", ["MNLI", "mnli", "glue_data/Mnli", "MNLI/MNLI", "."])
def test_folders_are_found_where_archives_put_them(roots, tmp_path, place):
    target = tmp_path / "data" / place if place != "." else tmp_path / "MNLI"
    shutil.copytree(roots["tsv"] / "MNLI", target)
    decoy = target.parent / "original" / "train.tsv"
    decoy.parent.mkdir()
    decoy.write_text("not what is looked for\n")
    root = target if place == "." else tmp_path / "data"
    expected = loaded_columns(load_task(TASKS["MNLI"], roots["tsv"]))
    assert loaded_columns(load_task(TASKS["MNLI"], root)) == expected


@pytest.mark.parametrize(
    "place", ["MNLI/diagnostic.tsv", "AX.tsv", "diagnostic/AX.tsv", "diagnostic/diagnostic.tsv"]
)
def test_the_diagnostic_set_is_found_where_it_is_given_out(roots, tmp_path, place):
    shutil.copytree(roots["tsv"] / "MNLI", tmp_path / "MNLI")
    given = (tmp_path / "MNLI" / "diagnostic.tsv").rename(tmp_path / "given")
    (tmp_path / "test.tsv").write_text("of something else\n")
    assert "test_ax" not in load_task(TASKS["MNLI"], tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    given.rename(tmp_path / place)
    content = expected_columns(TASKS["MNLI"], glue_content("MNLI", SIZES)["test_ax"])
    assert load_task(TASKS["MNLI"], tmp_path)["test_ax"].to_dict() == content


def test_test_splits_may_be_missing(roots, tmp_path):
    shutil.copytree(roots["jsonl"] / "rte", tmp_path / "rte")
    (tmp_path / "rte" / "test.jsonl").unlink()
    assert list(load_task(TASKS["RTE"], tmp_path)) == ["train", "validation"]


def test_json_lines_may_say_dev_and_labels_in_words(tmp_path):
    folder = tmp_path / "RTE"
    folder.mkdir()
    row = '{"sentence1": "a", "sentence2": "b", "label": %s, "idx": %d}\n'
    (folder / "train.jsonl").write_text(row % ('"not_entailment"', 7) + "\n" + row % ("0", 8))
    (folder / "dev.jsonl").write_text(row % ('"entailment"', 0))
    splits = load_task(TASKS["RTE"], tmp_path)
    assert splits["train"]["label"][:] == [1, 0]
    assert splits["train"]["idx"][:] == [7, 8]
    assert splits["validation"]["label"][:] == [0]


def test_mrpc_is_read_as_microsoft_gives_it_out(tmp_path):
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    rows = [f'{n % 2}\t{n}\t{n + 100}\t"first {n}\tsecond {n}\r\n' for n in range(6)]
    (tmp_path / "MRPC").mkdir()
    for split in ("train", "test"):
        path = tmp_path / "MRPC" / f"msr_paraphrase_{split}.txt"
        path.write_text(head + "".join(rows), encoding="utf-8", newline="")
    with pytest.raises(InputError, match=r"found msr_paraphrase_train.txt without dev_ids.tsv"):
        load_task(TASKS["MRPC"], tmp_path)
    # The third pair has a partner from another pair, so it stays in train.
    (tmp_path / "MRPC" / "dev_ids.tsv").write_text("1\t101\n4\t104\n3\t100\n")
    splits = load_task(TASKS["MRPC"], tmp_path)
    assert splits["train"].to_dict() == {
        "sentence1": [f'"first {n}' for n in (0, 2, 3, 5)],
        "sentence2": [f"second {n}" for n in (0, 2, 3, 5)],
        "label": [0, 0, 1, 1],
        "idx": [0, 2, 3, 5],
    }
    assert splits["validation"]["idx"][:] == [1, 4]
    assert splits["test"].column_names == ["sentence1", "sentence2", "idx"]
    assert splits["test"]["idx"][:] == list(range(6))


def test_mrpc_is_read_from_glues_own_files_where_both_are(roots, tmp_path):
    folder = shutil.copytree(roots["tsv"] / "MRPC", tmp_path / "MRPC")
    (folder / "msr_paraphrase_train.txt").write_text("what GLUE's files were made from\n")
    expected = loaded_columns(load_task(TASKS["MRPC"], roots["tsv"]))
    assert loaded_columns(load_task(TASKS["MRPC"], tmp_path)) == expected


def qqp(folder, train, test=None):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    (folder / "QQP").mkdir()
    (folder / "QQP" / "train.tsv").write_text(head + train)
    (folder / "QQP" / "dev.tsv").write_text(head + "9\t1\t2\tq\tr\t0\n")
    if test is not None:
        (folder / "QQP" / "test.tsv").write_text("id\tquestion1\tquestion2\n" + test)


def test_malformed_rows_are_skipped_as_by_the_hubs_reader(tmp_path, caplog):
    """Of a row broken in two both halves go; blank lines do not count; what is empty stays."""
    train = (
        "5\t1\t2\twhat is it ?\twhat ?\t1\n"
        "6\t1\t2\tthis one is\n"
        "broken ?\tas here\n"
        "\n"
        "7\t1\t2\twho ?\t\t0\n"
        "8\t1\t2\tno label ?\tnone\t\n"
        "9\t1\t2\twhen ?\tthen\t0\ttoo many\n"
    )
    qqp(tmp_path, train)
    with caplog.at_level(logging.WARNING, logger="nowcast"):
        splits = load_task(TASKS["QQP"], tmp_path)
    assert splits["train"].to_dict() == {
        "sentence1": ["what is it ?", "who ?", "when ?"],
        "sentence2": ["what ?", "", "then"],
        "label": [1, 0, 0],
        "idx": [0, 3, 5],
    }
    path = tmp_path / "QQP" / "train.tsv"
    assert caplog.messages == [
        f"{path}: skipped 3 of 6 rows without text or label, the first in line 3"
    ]


def test_test_rows_are_named_by_their_index(tmp_path):
    good = "1\t1\t2\tq\tr\t0\n"
    qqp(tmp_path, good, test="12\tq\tr\n3\ts\tt\n")
    assert load_task(TASKS["QQP"], tmp_path)["test"]["idx"][:] == [12, 3]
    shutil.rmtree(tmp_path / "QQP")
    qqp(tmp_path, good, test="0\tq\tr\n1\ts\n")
    with pytest.raises(InputError, match=r"test.tsv, line 3: found a row without text"):
        load_task(TASKS["QQP"], tmp_path)


def damage(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "file", "change", "said"),
    [
        ("RTE", "dev.tsv", None, r"RTE: found no validation, expected dev.tsv, validation.jsonl"),
        ("RTE", "train.tsv", None, r"found no folder rte with train.tsv.*--data.*--download"),
        (
            "RTE",
            "train.tsv",
            (b"entailment", b"maybe"),
            r"train.tsv, line \d+: found label '(not_)?maybe'",
        ),
        (
            "RTE",
            "train.tsv",
            (b"sentence2", b"text"),
            r"line 2: found columns .*expected sentence2",
        ),
        ("MNLI", "train.tsv", (b"gold_label", b"gold"), r"expected gold_label or label"),
        ("MNLI", "dev_matched.tsv", (b"\tcontradiction\n", b"\t-\n"), "found label '-', expected"),
        ("STS-B", "train.tsv", (b"3.000", b"7.000"), "found label '7.000', expected a number"),
        ("STS-B", "train.tsv", (b"3.000", b"three"), "found label 'three', expected a number"),
        ("STS-B", "train.tsv", (b"3.000", b"nan"), "found label 'nan', expected a number"),
        ("QNLI", "test.tsv", (b"\n4\t", b"\nfour\t"), r"line 6: found index 'four', expected a"),
        ("SST-2", "train.tsv", (b"the", b"\xff\xfe"), "train.tsv: found bytes that are no UTF-8"),
        ("CoLA", "train.tsv", (b"the", b"x" * 200_000), r"line 1: found no tab-separated fields"),
        ("QQP", "train.tsv", "", r"train.tsv: found no row with sentence1 and sentence2"),
    ],
)
def test_damaged_tab_separated_files_are_refused(roots, tmp_path, name, file, change, said):
    folder = shutil.copytree(roots["tsv"] / name, tmp_path / name)
    if change is None:
        (folder / file).unlink()
    elif change == "":
        (folder / file).write_text("")
    else:
        damage(folder / file, *change)
    with pytest.raises(InputError, match=said) as caught:
        load_task(TASKS[name], tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]\n", r"train.jsonl, line 1: found list, expected an object"),
        ('\n{"sentence1": \n', r"train.jsonl, line 2: found no JSON"),
        ('{"sentence1": 1, "sentence2": "a", "label": 0}\n', "found sentence1 1, expected text"),
        ('{"sentence1": "a", "label": 0}\n', "found columns sentence1, label, expected sentence2"),
        ('{"sentence1": "a", "sentence2": "b", "label": -1}\n', "found label -1, expected entail"),
        ('{"sentence1": "a", "sentence2": "b", "label": 2}\n', "found label 2, expected entail"),
        ('{"sentence1": null, "sentence2": "b", "label": 1}\n', "found no row with sentence1"),
    ],
)
def test_damaged_json_lines_are_refused(roots, tmp_path, text, said):
    folder = shutil.copytree(roots["jsonl"] / "rte", tmp_path / "rte")
    (folder / "train.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        load_task(TASKS["RTE"], tmp_path)


def test_damaged_parquet_is_refused(roots, tmp_path):
    folder = shutil.copytree(roots["parquet"] / "rte", tmp_path / "rte")
    shard = folder / "train-00001-of-00002.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=f"{shard}: found no Parquet file"):
        load_task(TASKS["RTE"], tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=r"found 1 of 2 files train-\*.parquet, expected all"):
        load_task(TASKS["RTE"], tmp_path)


def test_a_missing_folder_is_said_with_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as caught:
        load_task(TASKS["RTE"], tmp_path / "nowhere")
    assert str(caught.value) == (
        f"{tmp_path / 'nowhere'}: found no folder; give the folder of the GLUE files (--data) or "
        f"fetch {HUB} with --download"
    )
