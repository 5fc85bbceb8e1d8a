"""What `glue` refuses before any work is done: settings that cannot be, layers that cannot work."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from nowcast.adapters.bert import Execution, Finetuning, Tokens, insert_into
from nowcast.adapters.experiment import Plan
from nowcast.adapters.glue import TASKS
from nowcast.adapters.pretrained import open_network
from nowcast.adapters.processes import processes
from nowcast.adapters.rows import LayerSettings, layer_refusals
from nowcast.adapters.setting_checks import check_learning_rates
from nowcast.device import choose_device
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

log = logging.getLogger("nowcast")


def check_settings(
    tasks: Sequence[str],
    learning_rates: Sequence[float],
    plan: Plan,
    finetuning: Finetuning,
    execution: Execution,
) -> None:
    """Refuse settings that cannot be.

    Raises:
        InputError: naming the setting.
    """
    plan.check()
    unknown = [name for name in tasks if name not in TASKS]
    if unknown or not tasks or len(set(tasks)) < len(tasks):
        found = ", ".join(unknown or tasks) or "none"
        raise InputError(f"tasks: found {found}, expected some of {', '.join(TASKS)}, each once")
    check_learning_rates(learning_rates)
    for name, value, fits, expected in (
        ("batch_size", finetuning.batch_size, finetuning.batch_size >= 1, "at least 1"),
        ("batch_size", finetuning.batch_size, finetuning.batch_size % processes() == 0,
         f"a multiple of the {processes()} processes"),
        ("epochs", finetuning.epochs, finetuning.epochs >= 1, "at least 1"),
        ("warmup", finetuning.warmup, 0 <= finetuning.warmup < 1, "a share, from 0 to below 1"),
        ("weight_decay", finetuning.weight_decay, finetuning.weight_decay >= 0, "0 or more"),
        ("adam_epsilon", finetuning.adam_epsilon, finetuning.adam_epsilon > 0, "more than 0"),
        ("clip", finetuning.clip, finetuning.clip > 0, "more than 0"),
        ("checkpoint_every", execution.checkpoint_every,
         execution.checkpoint_every is None or execution.checkpoint_every >= 1, "at least 1"),
    ):  # fmt: skip
        if not fits:
            raise InputError(f"{name}: found {value}, expected {expected}")
    choose_device(execution.device)


class LayerTrial:
    """A network with layers, to be called once with a single sentence: cheaper than a training.

    Args:
        network: folder of the network.
        settings: of the layers.

    Raises:
        InputError: for a network that cannot be opened, or layers that it cannot have.
    """

    def __init__(self, network: Path, settings: LayerSettings) -> None:
        self.model = open_network(network, 2, seed=0).train()
        self.layers = insert_into(self.model, Inhibition(), settings, steps=1)
        log.info("MEmeL layers behind %s", ", ".join(self.layers))

    def call(self, top: int, words: Sequence[int]) -> None:
        """Deactivate `top` activations of a sentence, given as the network's numbers.

        Raises:
            InputError: if there are fewer.
        """
        for layer in self.layers.values():
            layer.top = top
        sentence = torch.tensor([words])
        with torch.no_grad(), layer_refusals():
            self.model(input_ids=sentence, attention_mask=torch.ones_like(sentence))

    def check_shortest(self, top: int, tokens: Tokens) -> None:
        """Refuse a top that the shortest sample of a task does not have.

        In a batch with longer ones, all of it would be deactivated; a batch of none but such
        would be refused, perhaps after hours. Thus a top is for all samples or for none.

        Raises:
            InputError: naming the task.
        """
        samples = (words for split in tokens.splits.values() for words in split[:]["input_ids"])
        shortest = min(samples, key=len)
        try:
            self.call(top, shortest)
        except InputError as error:
            raise InputError(
                f"{tokens.task.name}: {error}, found in a sample of {len(shortest)} tokens; "
                "choose a smaller top (--tune_tops)"
            ) from error
