"""Putting MEmeL layers behind modules of any model, and taking them out again."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from nowcast.memel.layer import MEmeL

NAME = "memel"
"""Under this name the layer becomes a child of the module that it follows."""


def insert(model: nn.Module, at: Sequence[str], **settings: Any) -> dict[str, MEmeL]:
    """Put a MEmeL layer behind every module that a name or glob in `at` matches.

    A forward hook hands the module's output (a tensor, or the first item of a tuple) to the layer,
    each time the module is called, so in a recurrent cell z' takes z's place everywhere. The layer
    is a child of the module: it is trained, moved and saved with the model.

    Args:
        model: any module; it is changed in place.
        at: names of submodules as `named_modules` gives them, or globs such as "encoder.*.cell".
        settings: of `MEmeL`.

    Returns:
        The inserted layers by the names of the modules that they follow.

    Raises:
        ValueError: if a name matches nothing, or a module has a layer already, or a setting of
            `MEmeL` is out of range; the model is then unchanged.
    """
    found: dict[str, nn.Module] = {}
    modules = {name: module for name, module in model.named_modules() if name}
    for pattern in at:
        matches = {name: m for name, m in modules.items() if fnmatchcase(name, pattern)}
        if not matches:
            raise ValueError(f"MEmeL: no module is called {pattern!r}; there is {_some(modules)}")
        found |= matches
    taken = [name for name, module in found.items() if NAME in dict(module.named_children())]
    if taken:
        raise ValueError(f"MEmeL: there is a layer already at {', '.join(taken)}; remove it first")
    layers = {name: MEmeL(**settings) for name in found}
    for name, layer in layers.items():
        module = found[name]
        layer.train(module.training)
        module.add_module(NAME, layer)
        module.register_forward_hook(_inhibit_output)
    return layers


def inserted(model: nn.Module) -> dict[str, MEmeL]:
    """The MEmeL layers of `model` by the names of the modules that they follow."""
    return {
        name.removesuffix(NAME).removesuffix("."): module
        for name, module in model.named_modules()
        if isinstance(module, MEmeL) and name.split(".")[-1] == NAME
    }


def remove(model: nn.Module) -> None:
    """Take all inserted layers out; the model then computes bit for bit what it did before."""
    for name in inserted(model):
        module = model.get_submodule(name)
        for key, hook in list(module._forward_hooks.items()):
            if hook is _inhibit_output:
                del module._forward_hooks[key]
        delattr(module, NAME)


def _inhibit_output(module: nn.Module, args: Any, output: Any) -> Any:
    # Looked up in the module, not captured, so that a deep copy uses its own layer.
    layer: MEmeL = getattr(module, NAME)
    if isinstance(output, Tensor):
        return layer(output)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return (layer(output[0]), *output[1:])
    raise TypeError(
        f"MEmeL: {type(module).__name__} returns {type(output).__name__}, "
        "expected a tensor or a tuple that begins with one"
    )


def _some(modules: dict[str, nn.Module]) -> str:
    names = list(modules)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
