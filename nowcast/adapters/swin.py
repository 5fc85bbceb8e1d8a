"""timm's Swin, and what MEmeL adds to it.

Where weights come from is `swin_weights`, how it is trained `swin_training`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nowcast import memel
from nowcast.adapters.imagenet import view_of
from nowcast.adapters.rows import LayerSettings, insert_layers, layer_refusals
from nowcast.adapters.swin_recipe import DROP_PATH
from nowcast.adapters.swin_weights import architecture, head_outputs, read_weights, replace_head
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition


def build_model(
    name: str,
    classes: Sequence[str],
    weights: Path | None = None,
    drop_path: float | None = None,
    **config: Any,
) -> nn.Module:
    """Build a model of timm with a head for some classes.

    Args:
        name: timm's, with the tag of its weights or without.
        classes: names of the classes, synsets where the head is to start from a pretrained one.
        weights: .safetensors or .pth file; None leaves the initial weights.
        drop_path: see `Recipe`.
        config: further arguments of the model, such as `img_size`.

    Raises:
        InputError: for an unknown model or argument, or weights that do not fit.
    """
    import timm

    base = architecture(name)
    drop_path = DROP_PATH.get(base) if drop_path is None else drop_path
    if drop_path is not None:
        config["drop_path_rate"] = drop_path
    try:
        if weights is None:
            return timm.create_model(name, num_classes=len(classes), **config)
        state = read_weights(weights)
        known = timm.get_pretrained_cfg(name)
        outputs = head_outputs(state, str(known and known.classifier), weights)
        model: Any = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": state, "num_classes": outputs},
            num_classes=outputs,
            **config,
        )
    except (AssertionError, RuntimeError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        place = name if weights is None else f"{weights}: as weights of {name}"
        raise InputError(f"{place}: {' '.join(str(error).split())[:300]}") from error
    model.pretrained_cfg.pop("state_dict")  # Else the model would keep a second copy of itself.
    replace_head(model, name, classes, weights)
    return model


def side_in(config: Mapping[str, Any]) -> int | None:
    """Side of the images that further arguments of a timm model ask for, in pixels.

    Raises:
        InputError: if it is not one number.
    """
    side = config.get("img_size")
    if side is not None and (not isinstance(side, int) or side < 1):
        raise InputError(f"model_settings: found img_size={side}, expected one number, the side")
    return side


def insert(
    model: nn.Module, inhibition: Inhibition, layers: LayerSettings, steps: int
) -> dict[str, memel.MEmeL]:
    """Insert MEmeL layers behind the attentions of the 4 middle blocks (E.1).

    The windows of an image are put together: one selection for each image, not each window.

    Args:
        model: of timm; changed in place.
        inhibition: of the row.
        layers: settings of the layers.
        steps: of the training.

    Raises:
        InputError: for a setting that is out of range, a name that matches no module, or windows
            that do not divide the image.
    """
    inserted = insert_layers(model, inhibition, layers, attention="attn", steps=steps, regroup=True)
    try:
        _refuse_padding(model, inserted)
    except InputError:
        memel.remove(model)
        raise
    return inserted


def _refuse_padding(model: nn.Module, names: Iterable[str]) -> None:
    """Refuse windows that timm pads: what it adds would be counted, and might be selected."""
    padded = []
    image = getattr(getattr(model, "patch_embed", None), "img_size", None) or ()
    for name, tokens, windows in _in_windows(model, names):
        for stage in getattr(model, "feature_info", ()):
            multiple = stage["reduction"] if name.startswith(f"{stage['module']}.") else 1
            if any(side % multiple for side in image):  # More tokens than the block tells.
                raise InputError(
                    f"{name}: found images of {_by(image)} pixels, which timm pads, expected "
                    f"multiples of {multiple} (--model_settings)"
                )
        if any(side % window for side, window in zip(tokens, windows, strict=True)):
            padded.append((name, tokens, windows))
    if not padded:
        return
    name, tokens, windows = padded[0]
    common = math.gcd(*(side for _, sides, _ in padded for side in sides))
    divisors = [side for side in range(2, common + 1) if common % side == 0]
    nearest = min(divisors, key=lambda side: abs(side - windows[0]), default=None)
    example = "another img_size" if nearest is None else f"for example window_size={nearest}"
    raise InputError(
        f"{name}: found windows of {_by(windows)} in {_by(tokens)} tokens, which timm pads, "
        f"expected windows that divide them; give {example} (--model_settings)"
    )


def _in_windows(
    model: nn.Module, names: Iterable[str]
) -> Iterator[tuple[str, Sequence[int], Sequence[int]]]:
    """Modules in a windowed attention of timm's: name, sides of the tokens, of the windows."""
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            block: Any = model.get_submodule(".".join(parts[:depth]))
            windows = getattr(getattr(block, parts[depth]), "window_size", None)
            tokens = getattr(block, "input_resolution", None)
            if windows is not None and tokens is not None:
                yield name, tokens, windows


def _by(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))


def try_out(
    model: nn.Module,
    name: str,
    side: int | None,
    inhibition: Inhibition | None,
    layers: LayerSettings,
) -> None:
    """Show a model two black images, so that what it refuses is known before any work.

    Args:
        model: of timm; changed in place.
        name: of it, for messages.
        side: of the images in pixels, where it is not the model's usual one.
        inhibition: the largest that is planned; None for none.
        layers: settings of the layers.

    Raises:
        InputError: for settings of model or layers that do not fit.
    """
    if inhibition is not None:
        if layers.per == "batch":  # Of which these two images are a part.
            inhibition = replace(inhibition, top=1)
        insert(model, inhibition, layers, steps=1)
    side = view_of(model, side).size
    try:
        with torch.no_grad(), layer_refusals():
            model.train()(torch.zeros(2, 3, side, side))
    except (AssertionError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: refuses images of {side} × {side} pixels: {said}") from error
