"""What layers are told of the model's present call: its padding mask, how many samples it brings.

Hooks before the model hand it out, a hook behind the model takes it back. They keep nothing of a
call themselves, so that a deep copy of the model, or a part of it, tells its own layers.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nowcast.memel.layer import MEmeL

NAME = "memel"
"""Under this name the layer becomes a child of the module that it follows."""


class HandOutMask:
    """Hook before the model: its layers learn of the padding of the present call.

    Args:
        argument: of the model's forward; "~" before it turns the mask round.
        names: of the modules that the layers follow.
    """

    def __init__(self, argument: str, names: Sequence[str]) -> None:
        self.argument, self.names = argument.removeprefix("~"), names
        self.turned = argument.startswith("~")

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hand out the mask among the arguments."""
        mask = kwargs.get(self.argument)
        if mask is None and args:
            given = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
            mask = given.get(self.argument)
        if mask is not None:
            if mask.is_floating_point():
                raise ValueError(
                    f"MEmeL: {self.argument} is of {mask.dtype}, expected bool or integers"
                )
            mask = mask.bool() ^ self.turned
        for layer in _layers_at(model, self.names):
            layer.mask = mask


class HandOutBatch:
    """Hook before the model: its layers learn how many samples the present call brings.

    Args:
        names: of the modules that the layers follow.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hand out the number of samples in the arguments."""
        layers = [layer for layer in _layers_at(model, self.names) if not layer.rests()]
        batch = _samples([*args, *kwargs.values()])
        if layers and batch is None:
            raise ValueError(
                f"MEmeL: {type(model).__name__} was called without a tensor, expected one whose "
                "first dimension is the sample"
            )
        for layer in layers:
            layer.batch = batch


class TakeBack:
    """Hook behind the model: no call inherits what another was told.

    Args:
        names: of the modules that the layers follow.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __call__(self, model: nn.Module, args: Any, output: Any) -> None:
        """Take mask and number back."""
        for layer in _layers_at(model, self.names):
            layer.mask = layer.batch = None


def _samples(arguments: Sequence[Any]) -> int | None:
    """Length of the first floating-point tensor, or of the first tensor where none is."""
    tensors = [value for value in arguments if isinstance(value, Tensor) and value.ndim]
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    if first is None and not tensors:
        return None
    return (tensors[0] if first is None else first).shape[0]


def _layers_at(model: nn.Module, names: Sequence[str]) -> list[MEmeL]:
    """Layers behind modules of these names, where they have not been removed."""
    layers = (getattr(model.get_submodule(name), NAME, None) for name in names)
    return [layer for layer in layers if isinstance(layer, MEmeL)]
