"""timm's Swin, and what MEmeL adds to it.

Where weights come from is `swin_weights`, how it is trained `swin_training`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nowcast import memel
from nowcast.adapters.rows import Inhibition, LayerSettings, insert_layers
from nowcast.adapters.swin_recipe import DROP_PATH
from nowcast.adapters.swin_weights import architecture, head_outputs, read_weights, replace_head
from nowcast.errors import InputError


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
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        place = name if weights is None else f"{weights}: as weights of {name}"
        raise InputError(f"{place}: {' '.join(str(error).split())[:300]}") from error
    model.pretrained_cfg.pop("state_dict")  # Else the model would keep a second copy of itself.
    replace_head(model, name, classes, weights)
    return model


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
        InputError: for a setting that is out of range, or a name that matches no module.
    """
    return insert_layers(model, inhibition, layers, attention="attn", steps=steps, regroup=True)
