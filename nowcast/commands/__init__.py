"""The command line: `nowcast X` and `scripts/X.py` are the same function."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "prepare_data": "radar archives and events to a frame store; synthetic rain",
    "pretrain": "train a network from its initial weights, with MEmeL or without",
    "finetune": "train a pretrained network on",
    "forecast": "the next two hours from the latest files of radar",
    "evaluate": "score networks beside persistence and optical flow",
    "render": "animate observed and forecast rain side by side",
    "probe": "look into networks: how monosemantic their neurons are",
    "export": "a trained network as a file to pass on",
    "reproduce": "the paper's precipitation experiments (Tables 2, 4, 7, E.3) on any radar",
    "glue": "finetune BERT on GLUE, with MEmeL or without (Table 1 of the paper)",
    "imagenet": "finetune Swin on ImageNet, with MEmeL or without (Tables 2 and 3)",
    "benchmark": "measure how fast it is",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return int(import_module(f"nowcast.commands.{given[0]}").main(given[1:]))
    wanted_help = given[:1] in (["-h"], ["--help"])
    stream = sys.stdout if wanted_help else sys.stderr
    if given and not wanted_help:
        print(f"error: found no command {given[0]!r}, expected {', '.join(COMMANDS)}", file=stream)
        return 2
    print("usage: nowcast COMMAND [--help] …\n", file=stream)
    for name, purpose in COMMANDS.items():
        print(f"  {name:<14}{purpose}", file=stream)
    return 0 if wanted_help else 2
