"""Pretrained weights for timm's models: which file holds them, and what becomes of their head."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nowcast.adapters.hub import from_hub
from nowcast.errors import InputError

log = logging.getLogger("nowcast")

PRETRAINED = "ms_in22k"
"""timm's name for the weights of Swin's authors, pretrained on ImageNet-22k."""

SWIN_22K = 21_841
"""Outputs of the authors' networks for ImageNet-22k."""

TEDDY = "n04399382"
TEDDY_IN_22K = "n03013580"
"""ImageNet-22k has no class for the toy. In their place the authors' map22kto1k.txt takes another
synset with the word "teddy", which is an undergarment; so does this."""


def architecture(name: str) -> str:
    """The name of a timm model without the tag of its weights.

    Raises:
        InputError: if timm knows no such model.
    """
    import timm

    base = name.partition(".")[0]
    if not timm.is_model(base):
        raise InputError(
            f"models: found {name!r}, expected a name of timm's, such as "
            "swin_tiny_patch4_window7_224"
        )
    return base


def find_weights(name: str, weights: Literal["none"] | Path | None, download: bool) -> Path | None:
    """File with a model's weights.

    Args:
        name: timm's, with the tag of its weights or without.
        weights: a file; a folder with model.safetensors, or with a .safetensors or .pth file whose
            name starts with the model's; None for the hub's; "none" for none.
        download: fetch from the hub what is missing.

    Raises:
        InputError: if there is no such file, or several.
    """
    import timm

    base = architecture(name)
    if weights == "none":
        return None
    if weights is not None:
        if not weights.is_dir():
            if not weights.is_file():
                raise InputError(
                    f"{weights}: found no file, expected weights of {name} (--weights)"
                )
            return weights
        own = sorted(weights.glob(f"{base}*"))
        found = [path for path in own if path.suffix in (".safetensors", ".pth")]
        found = found or [path for path in [weights / "model.safetensors"] if path.is_file()]
        if len(found) != 1:
            said = ", ".join(path.name for path in found) or "none"
            raise InputError(
                f"{weights}: found {said}, expected one file {base}*.safetensors or .pth, or "
                "model.safetensors"
            )
        return found[0]
    tagged = name if "." in name else f"{name}.{PRETRAINED}"
    known = timm.list_models(f"{base}.*", pretrained=True)
    if tagged not in known:
        raise InputError(
            f"{name}: found no pretrained weights {tagged}, expected "
            + (" or ".join(known) if known else "--weights with a file, or --weights none")
        )
    return from_hub(f"timm/{tagged}", ["model.safetensors"], download, "--weights") / (
        "model.safetensors"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file by name; nothing is unpickled.

    Raises:
        InputError: if it is neither.
    """
    import timm

    try:
        found: dict[str, Any] = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # Of safetensors, zipfile or pickle, by what is wrong with it.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: found no weights, expected a state dict ({reason})") from error
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: found no weights, expected a state dict of tensors")
    return found


def head_outputs(state: dict[str, Tensor], classifier: str, path: Path) -> int:
    """How many classes weights were trained for.

    Args:
        state: the weights, by timm's names or the authors'.
        classifier: timm's name of the head.
        path: of the file, for messages.

    Raises:
        InputError: if there is no head.
    """
    for name in (f"{classifier}.weight", f"{classifier.partition('.')[0]}.weight"):
        if name in state:
            return len(state[name])
    raise InputError(f"{path}: found no head, expected weights called {classifier}.weight")


def head_rows(name: str, classes: Sequence[str], outputs: int) -> list[int] | None:
    """Outputs of a pretrained head that stand for classes, or None if one has none.

    Swin's authors' outputs for ImageNet-22k are in the order of the synsets that timm lists as
    Google's, of which the last two are left out; timm itself takes them, by their number, for those
    of the fall 2011 release, which differ from n03931044 on. Their map22kto1k.txt (utils.py,
    load_pretrained) is reproduced; see the tests.

    Args:
        name: of the model.
        classes: synsets, such as "n01440764".
        outputs: of the head.
    """
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import infer_imagenet_subset

    if name.startswith("swin") and outputs == SWIN_22K:
        subset: str | None = "imagenet-21k-goog"
    else:
        subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return None
    synsets = ImageNetInfo(subset).label_names()[:outputs]
    places = {synset: place for place, synset in enumerate(synsets)}
    if TEDDY not in places and TEDDY_IN_22K in places:
        places[TEDDY] = places[TEDDY_IN_22K]
    rows = [places.get(synset) for synset in classes]
    return None if None in rows else rows  # type: ignore[return-value]


@torch.no_grad()
def replace_head(model: nn.Module, name: str, classes: Sequence[str], path: Path) -> None:
    """Give a pretrained timm model a head for other classes, from rows of its own where it can.

    Args:
        model: changed in place.
        name: of it.
        classes: of the new head.
        path: of the weights, for the log.
    """
    before: Any = model.get_classifier()  # type: ignore[operator]
    if not isinstance(before, nn.Linear):
        raise InputError(f"{name}: found a head of {type(before).__name__}, expected a linear one")
    rows = head_rows(name, classes, before.out_features)
    model.reset_classifier(len(classes))  # type: ignore[operator]
    head: Any = model.get_classifier()  # type: ignore[operator]
    if rows is None:
        head.weight.zero_()
        head.bias.zero_()
        log.info("%s: its head has no rows for these classes; the new head starts from 0", path)
        return
    head.weight.copy_(before.weight[rows])
    head.bias.copy_(before.bias[rows])
    log.info("%s: the head starts from %d of its %d rows", path, len(rows), before.out_features)
