"""Putting MEmeL layers behind modules of any model, and taking them out again."""

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from nowcast.memel.layer import MEmeL
from nowcast.memel.outputs import replace_activations

NAME = "memel"
"""Under this name the layer becomes a child of the module that it follows."""


def insert(
    model: nn.Module,
    at: Sequence[str],
    item: int | str | None = None,
    mask: str | None = None,
    **settings: Any,
) -> dict[str, MEmeL]:
    """Put a MEmeL layer behind every module that a name or glob in `at` matches.

    A forward hook hands the module's output to the layer, each time the module is called, so in a
    recurrent cell z' takes z's place everywhere. The layer is a child of the module: it is trained,
    moved and saved with the model. A module that stands at several places of the model has one
    layer, with the statistics of all its calls.

    Args:
        model: any module; it is changed in place.
        at: names of submodules as `named_modules` gives them, or globs such as "encoder.*.cell".
        item: which index, field or key of the output is inhibited where a module returns a tuple, a
            dataclass or a mapping; None takes the first that is a tensor.
        mask: name of an argument of the model's `forward` that is a padding mask (batch, token),
            such as "attention_mask": what is 0 there is neither selected nor taken into the
            statistics. A call without it has no padding.
        settings: of `MEmeL`.

    Returns:
        The inserted layers by the names of the modules that they follow.

    Raises:
        ValueError: if a name matches nothing, a module has a layer already, the model's `forward`
            has no argument of the mask's name, or a setting of `MEmeL` is out of range; the model
            is then unchanged.
    """
    if isinstance(at, str):
        at = [at]
    found: dict[str, nn.Module] = {}
    modules = dict(model.named_modules())
    first_name = {module: name for name, module in modules.items()}
    everywhere = dict(model.named_modules(remove_duplicate=False))
    del everywhere[""]
    for pattern in at:
        matches = {n: m for n, m in everywhere.items() if fnmatchcase(n, pattern)}
        if not matches:
            raise ValueError(f"MEmeL: no module is called {pattern!r}; there is {_some(modules)}")
        found |= {first_name[module]: module for module in matches.values()}
    taken = [name for name, module in found.items() if NAME in dict(module.named_children())]
    if taken:
        raise ValueError(f"MEmeL: there is a layer already at {', '.join(taken)}; remove it first")
    if mask is not None and mask not in (names := inspect.signature(model.forward).parameters):
        raise ValueError(
            f"MEmeL: forward of {type(model).__name__} has no argument {mask!r}; it has "
            f"{', '.join(names) or 'none'}"
        )
    layers = {name: MEmeL(**settings) for name in found}
    for name, layer in layers.items():
        module = found[name]
        layer.train(module.training)
        module.add_module(NAME, layer)
        module.register_forward_hook(_InhibitOutput(item))
    if mask is not None:
        hand_out = _HandOutMask(mask, [first_name[module] for module in found.values()])
        model.register_forward_pre_hook(hand_out, with_kwargs=True)
        model.register_forward_hook(_TakeMaskBack(hand_out.names), always_call=True)
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
        delattr(model.get_submodule(name), NAME)
    ours = _InhibitOutput, _HandOutMask, _TakeMaskBack
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, ours)]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_always_called.pop(key, None)


def without_statistics(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without what inserted layers have in it: to load into a model without them.

    The other way needs nothing: a layer of which a state dict knows nothing keeps what it has.
    """
    return {name: value for name, value in state.items() if NAME not in name.split(".")[:-1]}


class _InhibitOutput:
    """Hook behind the module."""

    def __init__(self, item: int | str | None) -> None:
        self.item = item

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        # Looked up in the module, not captured, so that a deep copy uses its own layer.
        layer: MEmeL = getattr(module, NAME)
        if isinstance(output, Tensor):
            return layer(output)
        return replace_activations(output, layer, self.item, type(module).__name__)


class _HandOutMask:
    """Hook before the model: its layers learn of the padding of the present call."""

    def __init__(self, argument: str, names: list[str]) -> None:
        self.argument, self.names = argument, names

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get(self.argument)
        if mask is None and args:
            given = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
            mask = given.get(self.argument)
        for name in self.names:
            layer: MEmeL = model.get_submodule(f"{name}.{NAME}")  # type: ignore[assignment]
            layer.mask = None if mask is None else mask.bool()


class _TakeMaskBack:
    """Hook behind the model: no call inherits the mask of another."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, model: nn.Module, args: Any, output: Any) -> None:
        for name in self.names:
            layer: MEmeL = model.get_submodule(f"{name}.{NAME}")  # type: ignore[assignment]
            layer.mask = None


def _some(modules: Mapping[str, nn.Module]) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
