"""Finding the activations in what a module returns, and putting others in their place."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def replace_activations(
    output: Any, inhibit: Callable[[Tensor], Tensor], item: int | str | None, module: str
) -> Any:
    """What a module returned, with its activations inhibited.

    Args:
        output: a tensor; a tuple, named or not, or a list; a dataclass; a mapping.
        inhibit: makes z' of z.
        item: index, field or key of the activations where `output` is no tensor; None takes the
            first that is a tensor.
        module: what returned it, for messages.

    Raises:
        TypeError: if there are no such activations.
    """
    if isinstance(output, Tensor):
        return inhibit(output)
    items = _items(output)
    if items is None:
        raise TypeError(
            f"MEmeL: {module} returns {type(output).__name__}, expected a tensor, a tuple, a "
            "dataclass or a mapping"
        )
    if item is None:
        item = next((name for name, value in items.items() if isinstance(value, Tensor)), None)
    elif isinstance(item, int):
        item = list(items)[item] if -len(items) <= item < len(items) else item
    z = items.get(item)
    if not isinstance(z, Tensor):
        found = ", ".join(f"{name}: {type(value).__name__}" for name, value in items.items())
        wanted = "a tensor" if item is None else f"a tensor as {item!r}"
        raise TypeError(
            f"MEmeL: {module} returns {type(output).__name__} ({found}), expected {wanted} in it"
        )
    return _with(output, item, inhibit(z))


def _items(output: Any) -> dict[int | str | None, Any] | None:
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    if isinstance(output, Mapping):
        return dict(output)
    return None


def _with(output: Any, item: Any, z: Tensor) -> Any:
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return dataclasses.replace(output, **{item: z})
    if isinstance(output, tuple) and hasattr(output, "_replace"):
        return output._replace(**{item: z})
    if isinstance(output, tuple | list):
        return type(output)([z if i == item else value for i, value in enumerate(output)])
    return type(output)({**output, item: z})
