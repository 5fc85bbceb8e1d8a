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
            first that is a tensor of floating-point numbers.
        module: what returned it, for messages.

    Raises:
        TypeError: if there are no such activations.
    """
    if isinstance(output, Tensor):
        return inhibit(output)
    place, z = _find(output, item, module)
    return _with(output, place, inhibit(z))


def activations(output: Any, item: int | str | None, module: str) -> Tensor:
    """The activations in what a module returned; see `replace_activations`."""
    return output if isinstance(output, Tensor) else _find(output, item, module)[1]


def _find(output: Any, item: int | str | None, module: str) -> tuple[int | str, Tensor]:
    """Place of the activations in an output that is no tensor, and they themselves."""
    items = _items(output)
    if items is None:
        raise TypeError(
            f"MEmeL: {module} returns {type(output).__name__}, expected a tensor, a tuple, a "
            "dataclass or a mapping"
        )
    place = item
    if item is None:
        place = next((name for name, value in items.items() if _is_float(value)), None)
    elif isinstance(item, int):
        place = list(items)[item] if -len(items) <= item < len(items) else item
    z = None if place is None else items.get(place)
    if place is None or not isinstance(z, Tensor):
        found = ", ".join(f"{name}: {type(value).__name__}" for name, value in items.items())
        wanted = "a floating-point tensor" if item is None else f"a tensor as {item!r}"
        raise TypeError(
            f"MEmeL: {module} returns {type(output).__name__} ({found}), expected {wanted} in it"
        )
    return place, z


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _items(output: Any) -> dict[int | str, Any] | None:
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
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
