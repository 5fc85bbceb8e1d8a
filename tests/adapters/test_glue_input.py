"""`nowcast glue` and the network, and what it refuses: one line, nothing left behind."""

import shutil
import socket

import huggingface_hub
import pytest
from made_up_glue import write_glue
from safetensors.torch import load_file, save_file
from tiny_bert import write_bert

from nowcast.commands import main


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("input")
    write_glue(root / "data", "tsv", tasks=["RTE"], sizes=(8, 4, 4))
    write_bert(root / "bert", (root / "data" / "RTE" / "train.tsv").open(), layers=4)
    return root


@pytest.fixture
def refused(places, tmp_path, capsys):
    """What is said to arguments that are refused."""

    def run(*arguments, data=places / "data", model=places / "bert"):
        out = tmp_path / "out"
        given = [f"--data={data}", f"--model={model}", f"--out={out}", "--tasks=[RTE]",
                 "--device=cpu", "--max_length=48", *arguments]  # fmt: skip
        status = main(["glue", *(argument for argument in given if not argument.endswith("=None"))])
        said = capsys.readouterr()
        assert status == 2, said
        assert said.out == ""
        assert len(said.err.splitlines()) == 1, said.err
        assert said.err.startswith("error: ")
        assert not out.exists()
        return said.err

    return run


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--tasks=[RTE, WNLI]", ("tasks", "WNLI", "SST-2")),
        ("--tasks=[]", ("tasks", "none")),
        ("--rows=[Original, Memel]", ("rows", "Memel", "MEmeL-Tune")),
        ("--seeds=[1, 1]", ("seeds", "[1, 1]")),
        ("--learning_rates=[]", ("learning_rates", "[]")),
        ("--learning_rates=[1e-5, -1e-5]", ("learning_rates", "-1e-05")),
        ("--tune_deltas=[1, -1]", ("tuning", "-1.0")),
        ("--batch_size=0", ("batch_size", "0")),
        ("--epochs=0", ("epochs", "0")),
        ("--warmup=1", ("warmup", "1.0")),
        ("--clip=0", ("clip", "0.0")),
        ("--checkpoint_every=0", ("checkpoint_every", "0")),
        ("--max_length=65", ("max_length", "65", "64")),
        ("--layers.at=[bert.encoder.layer.*.attend]", ("attend",)),
        ("--layers.layers=5", ("found 4 modules called 'attention'", "--layers.at")),
        ("--layers.late_start=2", ("late_start", "2")),
        ("--layers.epsilon=-1", ("epsilon", "-1")),
        ("--device=tpu", ("device", "tpu")),
        ("--precision=fp16", ("precision", "fp16")),
        ("--dropout=0.1", ("dropout",)),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(refused, argument, words):
    said = refused(argument)
    assert all(word in said for word in words), said


def test_a_batch_must_be_shared_out_evenly(refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "multiple of the 3 processes" in refused("--batch_size=32")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", ("config.json",)),
        ("model.safetensors", ("model.safetensors", "google-bert/bert-base-uncased")),
        ("tokenizer.json", ("vocab.txt", "--download")),
    ],
)
def test_a_network_without_one_of_its_files(refused, places, tmp_path, missing, words):
    model = shutil.copytree(places / "bert", tmp_path / "bert")
    (model / missing).rename(model / "pytorch_model.bin")
    if missing == "tokenizer.json":
        (model / "vocab.txt").unlink()
    said = refused(model=model)
    assert all(word in said for word in (str(model), "--model", *words)), said
    assert ("pytorch_model.bin is not read" in said) == (missing == "model.safetensors")


def test_a_damaged_network_is_named(refused, places, tmp_path):
    model = shutil.copytree(places / "bert", tmp_path / "bert")
    for name, content in (("config.json", "{"), ("config.json", '{"model_type": "none"}')):
        (model / name).write_text(content)
        assert str(model) in refused(model=model)


@pytest.mark.parametrize("damage", ["cut", "layer"])
def test_weights_that_are_missing_or_cut_are_named(places, tmp_path, capsys, damage):
    model = shutil.copytree(places / "bert", tmp_path / "bert")
    path = model / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        weights = {n: w for n, w in load_file(path).items() if "layer.2." not in n}
        save_file(weights, path, metadata={"format": "pt"})
    status = main(["glue", f"--data={places / 'data'}", f"--model={model}", "--tasks=[RTE]",
                   f"--out={tmp_path / 'out'}", "--device=cpu", "--max_length=48"])  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert status == 2
    assert said[-1].startswith(f"error: {model}: found no ")
    assert ("encoder.layer.2." in said[-1]) == (damage == "layer")
    assert not list(tmp_path.rglob("outcome.json"))


def test_data_of_a_task_that_is_not_there(refused, places):
    said = refused("--tasks=[RTE, CoLA]")
    assert all(word in said for word in (str(places / "data"), "cola", "--download")), said


def test_a_place_that_cannot_be_written(places, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status = main(["glue", f"--data={places / 'data'}", f"--model={places / 'bert'}",
                   f"--out={tmp_path / 'file' / 'out'}"])  # fmt: skip
    assert status == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_finetuning_asks_nothing_of_the_network(places, tmp_path, monkeypatch):
    """As for a user, who has not set HF_HUB_OFFLINE."""
    asked = []

    def refuse(*arguments, **settings):
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with pytest.raises(Exception, match="no network"):
        huggingface_hub.model_info("google-bert/bert-base-uncased")
    assert asked  # Thus a request would be seen.
    asked.clear()
    status = main(["glue", f"--data={places / 'data'}", f"--model={places / 'bert'}",
                   f"--out={tmp_path / 'out'}", "--tasks=[RTE]", "--rows=[MEmeL]", "--epochs=1",
                   "--learning_rates=[1e-4]", "--device=cpu", "--max_length=48"])  # fmt: skip
    assert status == 0
    assert list(tmp_path.rglob("outcome.json"))
    assert not asked


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """What is asked of the hub; this machine has no copy of anything."""
    asked = []
    download = huggingface_hub.snapshot_download

    def ask(repository, **how):
        asked.append((repository, how["local_files_only"], how["repo_type"]))
        return download(repository, cache_dir=tmp_path / "cache", **how)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    return asked


def test_without_download_the_network_is_not_asked(refused, hub):
    said = refused(model=None)
    assert all(w in said for w in ("google-bert/bert-base-uncased", "--download", "--model")), said
    said = refused(data=None)
    assert all(w in said for w in ("nyu-mll/glue", "--download", "--data")), said
    said = refused(data="data/glue")
    assert all(w in said for w in ("data/glue", "--download", "--data")), said
    assert hub == [
        ("google-bert/bert-base-uncased", True, "model"),
        ("nyu-mll/glue", True, "dataset"),
        ("data/glue", True, "dataset"),
    ]


def test_what_was_fetched_before_is_taken_from_this_machine_s_copy(refused, hub, places, tmp_path):
    copy = tmp_path / "cache" / "models--google-bert--bert-base-uncased"
    (copy / "refs").mkdir(parents=True)
    (copy / "refs" / "main").write_text("0" * 40)
    shutil.copytree(places / "bert", copy / "snapshots" / ("0" * 40))
    said = refused(model=None, data=None)
    assert "nyu-mll/glue" in said
    assert [asked[0] for asked in hub] == ["google-bert/bert-base-uncased", "nyu-mll/glue"]
    (copy / "snapshots" / ("0" * 40) / "model.safetensors").unlink()
    said = refused(model=None)
    assert "fetch what is missing of google-bert/bert-base-uncased with --download" in said
    assert "without --model" not in said


def test_a_place_that_is_neither_folder_nor_name_is_said_so(refused, hub, places):
    file = places / "bert" / "config.json"
    assert f"{file}: found a file, expected a local folder (--model)" in refused(model=file)
    assert "nowhere: found no such folder, expected a local folder" in refused(data="nowhere")
    assert not hub


def test_with_download_what_is_missing_is_asked_for(refused, hub):
    said = refused("--download", model=None)
    assert all(w in said for w in ("google-bert/bert-base-uncased", "could not")), said
    assert hub == [("google-bert/bert-base-uncased", False, "model")]


def test_a_missing_package_is_named_with_its_extra(refused, monkeypatch):
    monkeypatch.setattr("nowcast.adapters.extras.find_spec", lambda name: None)
    assert "pip install 'nowcast[glue]'" in refused()


def test_a_top_above_the_activations_of_a_sample_is_refused_before_any_work(refused):
    """Of 32 features; the shortest sample of the task has 15 tokens, its batches perhaps more."""
    said = refused("--rows=[MEmeL-Tune]", "--tune_tops=[1, 100000]")
    assert all(w in said for w in ("RTE", "top=100000 of", "--tune_tops")), said
