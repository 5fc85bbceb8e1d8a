"""Two processes that finetune together, as torchrun starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_glue import write_glue
from tiny_bert import write_bert

from nowcast.commands.glue import main

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("quick")]

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_learn_what_one_does(tmp_path):
    """Without dropout, which each draws for itself, and with batches that can be shared out."""
    write_glue(tmp_path / "data", tasks=["RTE"], sizes=(64, 16, 8))
    texts = (tmp_path / "data" / "RTE" / "train.tsv").open()
    write_bert(tmp_path / "bert", texts, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    given = [f"--data={tmp_path / 'data'}", f"--model={tmp_path / 'bert'}", "--epochs=2",
             "--tasks=[RTE]", "--rows=[MEmeL, MEmeL-T]", "--batch_size=16", "--max_length=48",
             "--learning_rates=[5e-4]", "--device=cpu"]  # fmt: skip
    assert main([*given, f"--out={tmp_path / 'one'}"]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, ROOT / "scripts" / "glue.py", *given, f"--out={tmp_path / 'two'}"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bert on GLUE") == 1
    run = "runs/RTE/top1_delta1/lr0.0005_seed0"
    one, two = (
        json.loads((tmp_path / out / run / "outcome.json").read_text()) for out in ("one", "two")
    )
    assert (one["settings"].pop("processes"), two["settings"].pop("processes")) == (1, 2)
    assert one["settings"] == two["settings"]
    assert two["outcome"]["steps"] == 2 * 4
    assert two["outcome"]["loss"] == pytest.approx(one["outcome"]["loss"], rel=0, abs=1e-5)
    for name in ("dev_RTE.tsv", "dev_RTE_in_testing.tsv", "test_RTE.tsv"):
        assert (tmp_path / "two" / run / name).read_bytes() == (
            tmp_path / "one" / run / name
        ).read_bytes()
    assert (tmp_path / "two" / "submission" / "MEmeL.zip").exists()
