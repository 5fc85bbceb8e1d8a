"""BERT with MEmeL layers: where they sit, that padding does not count, and one finetuning."""

import math

import numpy as np
import pytest
import torch
from made_up_glue import write_glue
from safetensors.torch import save_file
from tiny_bert import write_bert

from nowcast import memel
from nowcast.adapters import bert, trainer
from nowcast.adapters.glue import TASKS, load_task
from nowcast.adapters.glue_checks import LayerTrial
from nowcast.adapters.pretrained import fingerprint, open_network, open_tokenizer
from nowcast.adapters.rows import LayerSettings
from nowcast.adapters.runs import Run
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

transformers = pytest.importorskip("transformers", reason="the extra `glue` is not installed")
pytestmark = pytest.mark.usefixtures("quick")

EXECUTION = bert.Execution(device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT and QQP, whose labels show in how many words two questions share."""
    root = tmp_path_factory.mktemp("bert")
    write_glue(root / "data", "tsv", tasks=["QQP"], sizes=(96, 48, 8))
    write_bert(root / "bert", (root / "data" / "QQP" / "train.tsv").open())
    return root


@pytest.fixture(scope="module")
def tokens(folder):
    task = TASKS["QQP"]
    tokenizer = open_tokenizer(folder / "bert", 48)
    return bert.tokenize(task, load_task(task, folder / "data"), tokenizer, 48)


def network(kind, layers, **settings):
    """A network of transformers with random weights."""
    config = getattr(transformers, f"{kind}Config")(num_hidden_layers=layers, **settings)
    return getattr(transformers, f"{kind}ForSequenceClassification")(config)


TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 100}


def test_in_bert_base_the_layers_follow_the_attention_of_the_four_middle_layers():
    with torch.device("meta"):
        model = network("Bert", 12)
    plain = {name for name, _ in model.named_modules()}
    layers = bert.insert_into(model, Inhibition(), LayerSettings(late_start=0), steps=100)
    assert list(layers) == [f"bert.encoder.layer.{i}.attention" for i in (4, 5, 6, 7)]
    added = {name for name, _ in model.named_modules()} - plain
    assert added == {f"bert.encoder.layer.{i}.attention.memel" for i in (4, 5, 6, 7)}
    assert sum(p.numel() for p in model.parameters()) == 109_483_778  # BERT-base with its head.


def test_a_network_as_deep_as_bert_base_trains_with_its_layers():
    torch.manual_seed(0)
    model = network("Bert", 12, **TINY)
    layers = bert.insert_into(model, Inhibition(), LayerSettings(late_start=0), steps=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    words = torch.randint(0, 100, (2, 16))
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 10:] = 0
    model.train()
    before = model.classifier.weight.detach().clone()
    loss = model(input_ids=words, attention_mask=mask, labels=torch.tensor([0, 1])).loss
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item())
    assert not torch.equal(before, model.classifier.weight)
    for layer in layers.values():
        assert (layer.neurons, layer.top, layer.mean.shape) == ("last", 1, (16,))
        assert (int(layer.calls), int(layer.count)) == (1, 26)


@pytest.mark.parametrize(
    ("kind", "at", "expected"),
    [
        ("Roberta", None, [f"roberta.encoder.layer.{i}.attention" for i in (1, 2, 3, 4)]),
        ("Roberta", ("roberta.encoder.layer.[02].attention.output",),
         ["roberta.encoder.layer.0.attention.output", "roberta.encoder.layer.2.attention.output"]),
        ("Electra", None, [f"electra.encoder.layer.{i}.attention" for i in (1, 2, 3, 4)]),
        ("DistilBert", ("distilbert.transformer.layer.[1-4].sa_layer_norm",),
         [f"distilbert.transformer.layer.{i}.sa_layer_norm" for i in (1, 2, 3, 4)]),
    ],
)  # fmt: skip
def test_other_networks_take_layers_by_the_names_of_their_modules(kind, at, expected):
    own = {"dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 6, "vocab_size": 100}
    torch.manual_seed(0)
    model = network(kind, 6, **(own if kind == "DistilBert" else TINY))
    settings = LayerSettings(at=at, late_start=0)
    layers = bert.insert_into(model, Inhibition(), settings, steps=10)
    assert list(layers) == expected
    model.train()
    words, mask = torch.randint(5, 100, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[0, 4:] = 0
    for _ in range(2):
        model(input_ids=words, attention_mask=mask, labels=torch.tensor([0, 1, 1])).loss.backward()
    assert {int(layer.count) for layer in layers.values()} == {2 * mask.sum().item()}


def test_padding_is_neither_counted_nor_selected(folder, tokens):
    """Statistics are those of the unpadded tokens of all batches, restated in float64."""
    model = open_network(folder / "bert", 2, seed=0).eval()
    layers = bert.insert_into(model, Inhibition(top=3), LayerSettings(late_start=0), steps=1)
    seen = {name: [] for name in layers}
    collate = transformers.DataCollatorWithPadding(tokens.tokenizer)
    columns = ["input_ids", "token_type_ids", "attention_mask"]
    rows = tokens.splits["train"].select_columns(columns)
    padding = changed = 0
    for first in range(0, 48, 16):
        batch = collate([rows[i] for i in range(first, first + 16)])
        mask = batch["attention_mask"].bool()
        padding += int((~mask).sum())
        hooks = []
        for name, layer in layers.items():

            def watch(module, args, output, name=name, mask=mask, first=first):
                nonlocal changed
                different = (args[0] != output).any(-1)
                assert not (different & ~mask).any()
                # Nothing is known in the first call; then 3 activations of each sentence.
                assert ((args[0] != output).sum((1, 2)) == (3 if first else 0)).all()
                changed += int(different.sum())
                seen[name].append(args[0][mask].detach().double())

            layer.train()
            hooks.append(layer.register_forward_hook(watch))
        model(**batch)
        for hook in hooks:
            hook.remove()
    assert padding > 50
    assert changed > 0
    for name, layer in layers.items():
        z = torch.cat(seen[name])
        assert int(layer.count) == len(z) == sum(map(len, rows[:48]["input_ids"]))
        torch.testing.assert_close(layer.mean.double(), z.mean(0), rtol=0, atol=2e-6)
        torch.testing.assert_close(layer.variance.double(), z.var(0), rtol=2e-5, atol=1e-7)


@pytest.fixture(scope="module")
def learned(folder, tokens, tmp_path_factory):
    """A finetuning long enough to learn, its network and what it left."""
    left = tmp_path_factory.mktemp("run")
    run = Run("QQP", Inhibition(), 1e-3)
    finetuning = bert.Finetuning(batch_size=16, epochs=6, max_length=48)
    networks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bert, "open_network", lambda *a: networks.append(open_network(*a)) or networks[-1]
        )
        outcome = bert.finetune(
            run, left, folder / "bert", tokens, finetuning, LayerSettings(), EXECUTION
        )
    return outcome, networks[0], left


@pytest.mark.slow
def test_training_lowers_the_loss_and_is_better_than_a_guess(learned):
    outcome, _, _ = learned
    assert outcome.steps == 36
    assert len(outcome.loss) == 6
    assert outcome.loss[-1] < 0.5 * outcome.loss[0]
    assert outcome.scores["QQP (accuracy)"] > 0.8
    assert outcome.scores_in_testing["QQP (accuracy)"] > 0.7
    assert outcome.seconds > 0


@pytest.mark.slow
def test_after_a_finetuning_the_statistics_are_of_every_token_once_an_epoch(learned, tokens):
    _, model, _ = learned
    layers = memel.inserted(model)
    words = sum(map(len, tokens.splits["train"][:]["input_ids"]))
    assert len(layers) == 4
    for layer in layers.values():
        assert (int(layer.calls), int(layer.count)) == (36, 6 * words)
        assert layer.late_start == 4  # A tenth of 36 steps.


@pytest.mark.slow
def test_predictions_are_those_of_the_network_with_and_without_deactivation(learned, tokens):
    _, model, left = learned
    model.eval()
    for in_testing in (False, True):
        for layer in memel.inserted(model).values():
            layer.in_evaluation = in_testing
        name = f"dev_QQP{'_in_testing' if in_testing else ''}.tsv"
        found = np.loadtxt(left / name, skiprows=1, dtype=int)
        rows = tokens.splits["validation"]
        assert found[:, 0].tolist() == rows["label"][:]
        for row, (_, prediction) in zip(rows, found, strict=True):
            alone = {
                key: torch.tensor([row[key]])
                for key in ("input_ids", "token_type_ids", "attention_mask")
            }
            with torch.no_grad():
                logits = model(**alone).logits[0]
            assert logits.argmax() == prediction or (logits[0] - logits[1]).abs() < 1e-4
    assert {path.name for path in left.iterdir() if path.is_file()} == {
        "dev_QQP.tsv", "dev_QQP_in_testing.tsv", "test_QQP.tsv", "test_QQP_in_testing.tsv"
    }  # fmt: skip


def test_a_top_is_of_every_sample_or_refused(folder, tokens, tmp_path):
    """The shortest sample has as many activations as tokens times features."""
    most = 32 * min(len(words) for s in tokens.splits.values() for words in s[:]["input_ids"])
    trial = LayerTrial(folder / "bert", LayerSettings())
    trial.check_shortest(most, tokens)
    with pytest.raises(InputError, match=rf"QQP: MEmeL: top={most + 1} of {most} activations"):
        trial.check_shortest(most + 1, tokens)
    run = Run("QQP", Inhibition(top=32 * 48 + 1), 1e-3)
    finetuning = bert.Finetuning(max_length=48)
    with pytest.raises(InputError, match=r"MEmeL: top=1537 of \d+ activations per sample"):
        bert.finetune(
            run, tmp_path, folder / "bert", tokens, finetuning, LayerSettings(), EXECUTION
        )


def make(folder, tokens, out):
    model = open_network(folder / "bert", 2, seed=0)
    finetuning = bert.Finetuning(max_length=48)
    return trainer.make_trainer(
        model, tokens.tokenizer, tokens.splits["train"], out, 2e-5, 0, finetuning, EXECUTION
    )


def test_the_optimizer_is_that_of_bert_s_authors(folder, tokens, tmp_path):
    made = make(folder, tokens, tmp_path)
    made.create_optimizer_and_scheduler(num_training_steps=100)
    names = {id(p): name for name, p in made.model.named_parameters()}
    decays = {}
    for group in made.optimizer.param_groups:
        assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-6)
        decays |= {names[id(p)]: group["weight_decay"] for p in group["params"]}
    assert decays.keys() == set(names.values())
    for name, decay in decays.items():
        assert decay == (0.0 if "LayerNorm" in name or "bias" in name else 0.01), name
    rates = []
    for _ in range(101):
        rates.append(made.lr_scheduler.get_last_lr()[0])
        made.optimizer.step()
        made.lr_scheduler.step()
    expected = [2e-5 * (k / 10 if k < 10 else (100 - k) / 90) for k in range(101)]
    assert rates == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert made.args.max_grad_norm == 1.0


def test_without_torchrun_several_gpus_are_one(folder, tokens, tmp_path, monkeypatch):
    """nn.DataParallel would lose the statistics; only the count of GPUs is made up."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # Lightning, where another test has imported it, lets PyTorch believe in GPUs by their count.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(trainer, "choose_device", lambda wanted: torch.device("cuda"))
    made = make(folder, tokens, tmp_path)
    assert transformers.TrainingArguments(output_dir=str(tmp_path)).n_gpu == 2  # Its own choice.
    assert made.args.n_gpu == 1
    assert made.args.train_batch_size == 32
    assert made._wrap_model(made.model) is made.model


def test_of_several_processes_each_takes_its_share_of_the_batch(
    folder, tokens, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "processes", lambda: 4)
    assert make(folder, tokens, tmp_path).args.per_device_train_batch_size == 8


def test_the_seed_decides_the_head_and_nothing_else(folder):
    first, again, other = (
        open_network(folder / "bert", 3, seed).state_dict() for seed in (1, 1, 2)
    )
    for name in first:
        assert torch.equal(first[name], again[name])
        assert torch.equal(first[name], other[name]) == (name != "classifier.weight")


def test_a_fingerprint_is_of_what_decides_the_outcome(folder, tmp_path):
    before = fingerprint(folder / "bert")
    (folder / "bert" / "README.md").write_text("about it")
    assert fingerprint(folder / "bert") == before
    other = write_bert(tmp_path / "bert", (folder / "data/QQP/train.tsv").open(), seed=1)
    assert fingerprint(other) != before


def write_checkpoint(path):
    path.mkdir()
    (path / "trainer_state.json").write_text("{}")
    save_file({"weight": torch.ones(300)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.ones(300)}, path / name)


@pytest.mark.parametrize("damage", [lambda content: None, lambda content: b"",
                                    lambda content: content[: len(content) // 2]],
                         ids=["gone", "empty", "cut"])  # fmt: skip
@pytest.mark.parametrize("name", ["trainer_state.json", "model.safetensors", "optimizer.pt",
                                  "scheduler.pt", "rng_state.pth"])  # fmt: skip
def test_the_newest_complete_checkpoint_is_found(tmp_path, name, damage):
    assert trainer.last_checkpoint(tmp_path) is None
    for step in (8, 64, 128):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    assert trainer.last_checkpoint(tmp_path) == tmp_path / "checkpoint-128"
    path = tmp_path / "checkpoint-128" / name
    left = damage(path.read_bytes())
    path.unlink() if left is None else path.write_bytes(left)
    assert trainer.last_checkpoint(tmp_path) == tmp_path / "checkpoint-64"


def test_a_head_for_other_classes_is_replaced_but_nothing_else(tmp_path):
    written = write_bert(tmp_path / "bert", ["a premise and what follows"], layers=1)
    of_three = open_network(written, 3, seed=0)
    of_three.save_pretrained(written)
    of_two = open_network(written, 2, seed=0)
    assert of_two.classifier.out_features == 2
    for name, value in of_three.bert.state_dict().items():
        assert torch.equal(of_two.bert.state_dict()[name], value)
    config = written / "config.json"
    config.write_text(
        config.read_text().replace('"intermediate_size": 64', '"intermediate_size": 48')
    )
    with pytest.raises(
        InputError, match=r"intermediate\.dense\.bias in the shape \(64,\), .*\(48,\)"
    ):
        open_network(written, 2, seed=0)


def test_more_tokens_than_the_network_takes_are_refused(folder):
    with pytest.raises(InputError, match="max_length: found 65, expected 3 to 64"):
        open_tokenizer(folder / "bert", 65)
