"""One finetuning step of BERT or Swin in full size, to be timed, and how much it computes."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from nowcast import memel
from nowcast.adapters.extras import require
from nowcast.adapters.rows import LayerSettings
from nowcast.benchmarks.machine import wait_for
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

Model = Literal["bert-base", "swin-T", "swin-S", "swin-B"]

CLASSES = {"bert-base": 2, "swin-T": 1000, "swin-S": 1000, "swin-B": 1000}
"""That the models tell apart, as in most tasks of GLUE and in ImageNet-1k."""

SWINS = {
    "swin-T": "swin_tiny_patch4_window7_224",
    "swin-S": "swin_small_patch4_window7_224",
    "swin-B": "swin_base_patch4_window7_224",
}
"""Names that timm has for the models."""


@dataclass(frozen=True)
class Sizes:
    """What a training step works on; see `measure_adapters`."""

    sentences: int
    tokens: int
    images: int
    side: int

    def __post_init__(self) -> None:
        for name in ("sentences", "tokens", "images", "side"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if self.side % 32:
            raise InputError(f"side: found {self.side}, expected a multiple of 32")
        if self.tokens > 512:
            raise InputError(f"tokens: found {self.tokens}, expected at most BERT's 512")

    def batch(self, model: str) -> dict[str, Tensor]:
        """Made-up arguments of the model's forward."""
        random = torch.Generator().manual_seed(0)
        if model != "bert-base":
            return {"x": torch.randn(self.images, 3, self.side, self.side, generator=random)}
        shape = self.sentences, self.tokens
        lengths = torch.randint(1, self.tokens + 1, (self.sentences, 1), generator=random)
        lengths[0] = self.tokens
        return {
            "input_ids": torch.randint(1000, 30_000, shape, generator=random),
            "attention_mask": (torch.arange(self.tokens) < lengths).long(),
        }


class FinetuningStep:
    """Forward, cross-entropy, backward and AdamW.

    Args:
        model: its name.
        sizes: of what it works on.
        device: where it runs.
        precision: "bf16" autocasts to bfloat16.
        top: activations that MEmeL layers deactivate per sample; None inserts none.
    """

    def __init__(
        self, model: str, sizes: Sizes, device: torch.device, precision: str, top: int | None
    ) -> None:
        torch.manual_seed(0)
        self.device, self.bf16 = device, precision == "bf16"
        self.network = build(model, sizes.side, top).to(device).train()
        self.batch = {name: value.to(device) for name, value in sizes.batch(model).items()}
        samples = len(next(iter(self.batch.values())))
        self.labels = torch.arange(samples, device=device) % CLASSES[model]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-5)

    def __call__(self) -> None:
        """Take one step and return when it is done."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.network(**self.batch)
            logits = output if isinstance(output, Tensor) else output.logits
            loss = cross_entropy(logits, self.labels)
        loss.backward()
        self.optimizer.step()
        wait_for(self.device)

    def gflop(self) -> float:
        """10⁹ floating-point operations of a step's matrix products and convolutions.

        Takes one. A multiplication and an addition are two operations.
        """
        with FlopCounterMode(display=False) as counter:
            self()
        return counter.get_total_flops() / 1e9


class LayersAlone:
    """Forward and backward of a step's MEmeL layers, without the network around them.

    Args:
        step: with layers; it is taken once to see what they are called with.
    """

    def __init__(self, step: FinetuningStep) -> None:
        self.device = step.device
        layers = memel.inserted(step.network).values()
        self.calls: list[tuple[memel.MEmeL, Tensor, Tensor | None]] = []
        for layer in layers:
            layer.observer = lambda z, _, layer=layer: self.calls.append((layer, z, layer.mask))
        step()
        for layer in layers:
            layer.observer = None

    def __call__(self) -> None:
        """Call each layer once and return when it is done."""
        for layer, z, mask in self.calls:
            inhibited = layer(z.requires_grad_(), mask)
            torch.autograd.grad(inhibited, z, torch.ones_like(inhibited))
        wait_for(self.device)


def build(model: str, side: int, top: int | None) -> nn.Module:
    """A model of the same random weights each time the generator stands where it stood.

    Args:
        model: its name.
        side: pixels along each side of the images it sees.
        top: activations that MEmeL layers deactivate per sample, from the second call on; None
            inserts none.

    Raises:
        InputError: where transformers or timm are missing.
    """
    network: nn.Module
    inhibition = None if top is None else Inhibition(top)
    layers = LayerSettings(late_start=0.0)
    if model == "bert-base":
        require("benchmark adapters", "glue", "transformers")
        from transformers import BertConfig, BertForSequenceClassification

        from nowcast.adapters import bert

        network = BertForSequenceClassification(BertConfig())
        if inhibition is not None:
            bert.insert_into(network, inhibition, layers, steps=1)
    else:
        require("benchmark adapters", "imagenet", "timm", "torchvision")
        from nowcast.adapters import swin

        classes = [str(number) for number in range(CLASSES[model])]
        network = swin.build_model(SWINS[model], classes, img_size=side)
        if inhibition is not None:
            swin.insert(network, inhibition, layers, steps=1)
    return network
