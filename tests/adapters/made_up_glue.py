"""GLUE's files in each of the forms in which they are around, with made-up content to learn.

Every task can be learned from words alone: its labels show in single words, or in how many words
two sentences share. Some texts have what readers stumble over: a lone quote, letters outside
ASCII, a text that looks like a missing value. Test splits carry no labels.
"""

import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

FORMS = ("tsv", "jsonl", "parquet")

FOLDERS = {
    "MNLI": "mnli", "QQP": "qqp", "QNLI": "qnli", "SST-2": "sst2",
    "CoLA": "cola", "STS-B": "stsb", "MRPC": "mrpc", "RTE": "rte",
}  # fmt: skip
"""Official folders, and the hub's."""

CLASSES = {
    "MNLI": ("entailment", "neutral", "contradiction"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
}
"""Of the tasks whose official files have words for labels."""

HUB_TEXTS = {
    "MNLI": ("premise", "hypothesis"), "QQP": ("question1", "question2"),
    "QNLI": ("question", "sentence"), "SST-2": ("sentence",), "CoLA": ("sentence",),
    "STS-B": ("sentence1", "sentence2"), "MRPC": ("sentence1", "sentence2"),
    "RTE": ("sentence1", "sentence2"),
}  # fmt: skip

# Official columns of train, and those that only test has in their place. ”{}” stands for what
# nobody reads.
TSV_COLUMNS = {
    "MNLI": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse "
            "sentence1_parse sentence2_parse sentence1 sentence2 label1 gold_label",
    "QQP": "id qid1 qid2 question1 question2 is_duplicate",
    "QNLI": "index question sentence label",
    "SST-2": "sentence label",
    "CoLA": "source label star sentence",
    "STS-B": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "MRPC": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "RTE": "index sentence1 sentence2 label",
}  # fmt: skip
TSV_TEST_COLUMNS = {
    "QQP": "id question1 question2",
    "SST-2": "index sentence",
    "CoLA": "index sentence",
    "MRPC": "index|#1 ID|#2 ID|#1 String|#2 String",
}
TSV_TEXTS = HUB_TEXTS | {
    "MNLI": ("sentence1", "sentence2"), "MRPC": ("#1 String", "#2 String"),
}  # fmt: skip
TSV_LABELS = {
    "MNLI": "gold_label", "QQP": "is_duplicate", "STS-B": "score", "MRPC": "Quality",
}  # fmt: skip

PEOPLE = ("man", "woman", "boy", "girl", "teacher", "farmer", "doctor", "child")
ACTS = ("cooks rice", "reads a book", "plays the guitar", "rides a horse", "feeds a dog",
        "paints a house", "sells fruit", "repairs a car")  # fmt: skip
PLACES = ("in the park", "at the market", "near the river", "in the café", "on the street")
FILMS = ("film", "story", "movie", "plot", "acting", "script", "ending", "music")
GOOD = ("wonderful", "charming", "brilliant", "touching", "funny", "fresh")
BAD = ("dull", "awful", "boring", "clumsy", "tedious", "stale")
RIGHT = ("went", "ate", "sang", "ran", "slept", "wrote")
WRONG = ("goed", "eated", "singed", "runned", "sleeped", "writed")
MATTERS = ("learn english", "lose weight", "save money", "cook fish", "find work", "sleep well")
OTHER = ("storm", "bridge", "senate", "planet", "engine", "harbour", "treaty", "violin")


def write_glue(root, form="tsv", tasks=None, sizes=(64, 32, 16), seed=0):
    """Write files below `root`; MNLI has the diagnostic set beside.

    Args:
        root: folder.
        form: one of FORMS; official TSV, or JSON Lines or Parquet with the hub's columns.
        tasks: names, such as "RTE"; all eight if None.
        sizes: rows of train, of each dev and of each test split.
        seed: of the content, which is the same in all forms.
    """
    for task in tasks or FOLDERS:
        for split, content in glue_content(task, sizes, seed).items():
            {"tsv": _write_tsv, "jsonl": _write_jsonl, "parquet": _write_parquet}[form](
                root, task, split, content
            )
    return root


def glue_content(task, sizes=(64, 32, 16), seed=0):
    """Rows of a task by split: texts, and the label (number, or value), None in test."""
    splits = ("train", "validation", "test")
    names = dict(zip(splits, sizes, strict=True))
    if task == "MNLI":
        names = {
            f"{name}{part}": size
            for name, size in names.items()
            for part in ([""] if name == "train" else ["_matched", "_mismatched"])
        } | {"test_ax": sizes[2]}
    content = {}
    for number, (split, size) in enumerate(names.items()):
        rng = np.random.default_rng([seed, list(FOLDERS).index(task), number])
        rows = [_ROW[task](rng, index) for index in rng.permutation(size).tolist()]
        rows[0][0][0] = '"' + rows[0][0][0]
        if size > 2:
            rows[2][0][-1] = "null"
        content[split] = [
            (texts, None if split.startswith("test") else label) for texts, label in rows
        ]
    return content


def _person(rng):
    return f"the {rng.choice(PEOPLE)} {rng.choice(ACTS)} {rng.choice(PLACES)}"


def _mnli(rng, index):
    premise, label = _person(rng), index % 3
    hypothesis = ("somebody is there", "{} because it is his birthday", "nobody is there")[label]
    return [premise, hypothesis.format(premise)], label


def _qqp(rng, index):
    matter, label = rng.choice(MATTERS), index % 2
    again = f"what is the best way to {matter} ?" if label else f"why do people {matter} ?"
    return [f"how can i {matter} ?", again], label


def _qnli(rng, index):
    who, what, label = rng.choice(PEOPLE), rng.choice(OTHER), index % 2
    told = f"on a {rng.choice(GOOD)} day" if label else f"in {rng.integers(1900, 2000)}"
    return [f"when did the {who} see the {what} ?", f"the {who} saw the {what} {told} ."], label


def _sst2(rng, index):
    label = index % 2
    words = GOOD if label else BAD
    return [f"the {rng.choice(FILMS)} is {rng.choice(words)} and {rng.choice(words)}"], label


def _cola(rng, index):
    label = index % 2
    return [f"the {rng.choice(PEOPLE)} {rng.choice(RIGHT if label else WRONG)} today ."], label


def _stsb(rng, index):
    same = index % 6
    first = _person(rng).split()[:5]
    second = first[:same] + [str(word) for word in rng.choice(OTHER, 5 - same)]
    return [" ".join(first), " ".join(second)], float(same)


def _mrpc(rng, index):
    what, label = _person(rng), index % 2
    again = f"on monday , police said that {what} ." if label else f"police denied that {what} ."
    return [f"police said on monday that {what} .", again], label


def _rte(rng, index):
    what, label = _person(rng), index % 2
    return [f"{what} .", "nobody was seen ." if label else "somebody was seen ."], label


_ROW = {
    "MNLI": _mnli, "QQP": _qqp, "QNLI": _qnli, "SST-2": _sst2,
    "CoLA": _cola, "STS-B": _stsb, "MRPC": _mrpc, "RTE": _rte,
}  # fmt: skip


def _write_tsv(root, task, split, content):
    test = split.startswith("test")
    columns = TSV_TEST_COLUMNS.get(task, TSV_COLUMNS[task]) if test else TSV_COLUMNS[task]
    columns = columns.split("|" if "|" in columns else None)
    if test and task not in TSV_TEST_COLUMNS:
        columns = [
            name for name in columns if name not in ("label1", "gold_label", "label", "score")
        ]
    if split.startswith("validation_"):
        columns[-1:] = ["label2", "label3", "label4", "label5", "gold_label"]
    if split == "test_ax":
        columns = ["index", "sentence1", "sentence2"]
    lines = []
    for number, (texts, label) in enumerate(content):
        row = dict.fromkeys(columns, f"x{number}")
        row |= dict(zip(TSV_TEXTS[task], texts, strict=True))
        row[columns[0] if test else None] = number
        word = CLASSES[task][label] if task in CLASSES and label is not None else label
        row |= {name: "neutral" for name in columns if name.startswith("label")}
        row[TSV_LABELS.get(task, "label")] = f"{word:.3f}" if task == "STS-B" and not test else word
        lines.append([row[name] for name in columns])
    if not (task == "CoLA" and not test):
        lines.insert(0, columns)
    name = "diagnostic" if split == "test_ax" else split.replace("validation", "dev")
    path = root / task / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = task == "MRPC" and not test
    text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8-sig" if marked else "utf-8")


def _hub_rows(task, content):
    return [
        {**dict(zip(HUB_TEXTS[task], texts, strict=True)),
         "label": -1 if label is None else label, "idx": number}
        for number, (texts, label) in enumerate(content)
    ]  # fmt: skip


def _hub_place(root, task, split):
    folder, name = ("ax", "test") if split == "test_ax" else (FOLDERS[task], split)
    (root / folder).mkdir(parents=True, exist_ok=True)
    return root / folder / name


def _write_jsonl(root, task, split, content):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _hub_rows(task, content)]
    place = _hub_place(root, task, split)
    place.with_name(f"{place.name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_parquet(root, task, split, content):
    number = pa.float32() if task == "STS-B" else pa.int64()
    columns = [(name, pa.string()) for name in HUB_TEXTS[task]]
    schema = pa.schema([*columns, ("label", number), ("idx", pa.int32())])
    rows = _hub_rows(task, content)
    # As the hub has the largest of them, train is in two shards.
    cut = len(rows) // 2
    shards = [rows[:cut], rows[cut:]] if split == "train" else [rows]
    place = _hub_place(root, task, split)
    for shard, some in enumerate(shards):
        name = f"{place.name}-{shard:05d}-of-{len(shards):05d}.parquet"
        parquet.write_table(pa.Table.from_pylist(some, schema), place.with_name(name))
