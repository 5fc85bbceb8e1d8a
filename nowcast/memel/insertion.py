"""Putting MEmeL layers behind modules of any model, and taking them out again."""

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn

from nowcast.memel.arrangement import Neurons
from nowcast.memel.layer import MEmeL
from nowcast.memel.model_call import NAME, HandOutBatch, HandOutMask, TakeBack
from nowcast.memel.outputs import replace_activations
from nowcast.memel.regrouping import inhibit_together

CONTAINERS = nn.Sequential, nn.ModuleList, nn.ModuleDict
"""Modules that may call all their children, thus the layer too, though their hook does."""


def insert(
    model: nn.Module,
    at: Sequence[str],
    item: int | str | None = None,
    mask: str | None = None,
    regroup: bool = False,
    **settings: Any,
) -> dict[str, MEmeL]:
    """Put a MEmeL layer behind every module that a name or glob in `at` matches.

    A forward hook hands the module's output to the layer, each time the module is called, so in a
    recurrent cell z' takes z's place everywhere. The layer is a child of the module: it is trained,
    moved and saved with the model. A module that stands at several places of the model has one
    layer, with the statistics of all its calls. In a container (nn.Sequential, nn.ModuleList and
    their kin) it stands among the modules that the container holds.

    Args:
        model: any module; it is changed in place.
        at: names of submodules as `named_modules` gives them, or globs such as "encoder.*.cell",
            in which `*` matches dots, too.
        item: which index, field or key of the output is inhibited where a module returns a tuple, a
            dataclass or a mapping; None takes the first floating-point tensor.
        mask: name of an argument of the model's `forward` that is a padding mask (batch, token),
            such as "attention_mask": what is 0 or False there is neither selected nor taken into
            the statistics. "~" before the name turns the mask round: PyTorch's own
            "src_key_padding_mask" is True where padding is. A call without it has no padding.
        regroup: put together the rows that belong to one sample of the model where a module sees
            several of each after one another, such as the windows of an image in Swin: the layer
            sees (batch, k · …, feature) of (batch · k, …, feature), so that "per sample" selects
            once per image, not once per window; what the module hands on keeps its own shape. Only
            of `neurons="last"`, whose statistics it leaves as they are. The batch is the first
            dimension of the model's first floating-point argument (of its first tensor, where none
            is floating-point); in training, its modules may be called in its forward only.
        settings: of `MEmeL`.

    Returns:
        The inserted layers by the names of the modules that they follow.

    Raises:
        ValueError: if a name matches nothing that is called, a module has a layer already, the
            model's `forward` has no argument of the mask's name, `regroup` meets a mask or other
            neurons, or a setting of `MEmeL` is out of range; the model is then unchanged.
    """
    found = modules_at(model, at)
    taken = [name for name, module in found.items() if NAME in dict(module.named_children())]
    if taken:
        raise ValueError(f"MEmeL: there is a layer already at {', '.join(taken)}; remove it first")
    names = inspect.signature(model.forward).parameters
    if mask is not None and mask.removeprefix("~") not in names:
        raise ValueError(
            f"MEmeL: forward of {type(model).__name__} has no argument "
            f"{mask.removeprefix('~')!r}; it has {', '.join(names) or 'none'}"
        )
    if regroup:
        _check_regrouping(mask, **settings)
    layers = {
        name: (_InContainer if isinstance(module, CONTAINERS) else MEmeL)(**settings)
        for name, module in found.items()
    }
    for name, layer in layers.items():
        module = found[name]
        layer.train(module.training)
        module.add_module(NAME, layer)
        module.register_forward_hook(_InhibitOutput(item, regroup))
    names_of_layers = list(found)
    if mask is not None:
        model.register_forward_pre_hook(HandOutMask(mask, names_of_layers), with_kwargs=True)
    if regroup:
        model.register_forward_pre_hook(HandOutBatch(names_of_layers), with_kwargs=True)
    if mask is not None or regroup:
        model.register_forward_hook(TakeBack(names_of_layers), always_call=True)
    return layers


def modules_at(model: nn.Module, at: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of `model` that a name or glob in `at` matches, each under its first name.

    MEmeL layers are not among them, nor what only holds modules and is never called.

    Raises:
        ValueError: if a name matches nothing that is called.
    """
    if isinstance(at, str):
        at = [at]
    modules = {n: m for n, m in model.named_modules() if n and not isinstance(m, MEmeL)}
    first_name = {module: name for name, module in modules.items()}
    everywhere = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if module in first_name
    ]
    found: dict[str, nn.Module] = {}
    for pattern in at:
        matches = [module for name, module in everywhere if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"MEmeL: no module is called {pattern!r}; there is {_some(modules)}")
        called = [module for module in matches if _has_forward(module)]
        if not called:
            raise ValueError(
                f"MEmeL: {first_name[matches[0]]} is a {type(matches[0]).__name__} without a "
                "forward of its own, expected a module that is called"
            )
        found |= {first_name[module]: module for module in called}
    return found


def inserted(model: nn.Module) -> dict[str, MEmeL]:
    """The MEmeL layers of `model` by the names of the modules that they follow."""
    return {
        name: layer
        for name, module in model.named_modules()
        if isinstance(layer := module._modules.get(NAME), MEmeL)
        and any(isinstance(hook, _InhibitOutput) for hook in module._forward_hooks.values())
    }


def remove(model: nn.Module) -> None:
    """Take all inserted layers out; the model then computes bit for bit what it did before."""
    for name in inserted(model):
        delattr(model.get_submodule(name), NAME)
    ours = _InhibitOutput, HandOutMask, HandOutBatch, TakeBack
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


class _InContainer(MEmeL):
    """A layer that leaves all as it is when its container calls it among its other children."""

    def forward(self, z: Any, mask: Tensor | None = None) -> Any:
        return z

    def inhibit(self, z: Tensor) -> Tensor:
        """What the hook does."""
        return super().forward(z)


class _InhibitOutput:
    """Hook behind the module."""

    def __init__(self, item: int | str | None, regroup: bool) -> None:
        self.item, self.regroup = item, regroup

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        # Looked up in the module, not captured, so that a deep copy uses its own layer.
        layer: MEmeL = getattr(module, NAME)
        inhibit = layer.inhibit if isinstance(layer, _InContainer) else layer
        name = type(module).__name__
        if self.regroup:
            inhibit = partial(inhibit_together, layer, inhibit, module=name)
        if isinstance(output, Tensor):
            return inhibit(output)
        return replace_activations(output, inhibit, self.item, name)


def _check_regrouping(mask: str | None, neurons: Neurons = "element", **others: Any) -> None:
    if neurons != "last":
        raise ValueError(
            f"MEmeL: regroup=True puts rows of features together, found neurons={neurons!r}, "
            "expected 'last'; other neurons would not be the same any more"
        )
    if mask is not None:
        raise ValueError(
            f"MEmeL: found regroup=True and mask={mask!r}, expected one of them: a mask of tokens "
            "does not tell which row of a sample holds which of them"
        )


def _has_forward(module: nn.Module) -> bool:
    forward = module.forward
    return getattr(forward, "__func__", forward) is not nn.Module.forward


def _some(modules: Mapping[str, nn.Module]) -> str:
    names = list(modules)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
