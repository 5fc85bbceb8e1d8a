"""What modules return: the inhibited activations stand in it, all else is as it was."""

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from nowcast import memel
from nowcast.memel.outputs import replace_activations


class Typed(NamedTuple):
    states: Tensor
    weights: Any = None


Untyped = namedtuple("Untyped", ["states", "weights"])


class OwnTuple(tuple):
    """Of another type than tuple, without names."""


@dataclass
class Record:
    states: Tensor
    weights: Any = None


@dataclass(frozen=True)
class FrozenRecord:
    weights: Any
    states: Tensor
    history: list = field(default_factory=list, kw_only=True)


class ModelOutput(OrderedDict):
    """As transformers' own: a dataclass that is also a mapping of the fields that are not None."""

    def __post_init__(self):
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                self[each.name] = value

    def __getitem__(self, key):
        if isinstance(key, str):
            return dict(self.items())[key]
        return self.to_tuple()[key]

    def __setattr__(self, name, value):
        if name in self and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __delitem__(self, key):
        raise TypeError("an output loses no field")

    def update(self, *args, **kwargs):
        raise TypeError("an output is not updated")

    def to_tuple(self):
        return tuple(self[key] for key in self)


@dataclass
class EncoderOutput(ModelOutput):
    states: Tensor = None
    past: Any = None
    weights: Any = None


class Returning(nn.Module):
    """A module that wraps its activations."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


def wrap_as_max(x):
    # A tuple whose names belong to torch: values and indices.
    return torch.max(torch.stack([x, x - 1]), 0)


STATES = {
    "tuple": lambda x: (x, "weights"),
    "a tuple of own type": lambda x: OwnTuple((x, "weights")),
    "list": lambda x: [x, "weights"],
    "later in a tuple": lambda x: (None, "weights", x),
    "named tuple": lambda x: Typed(x, "weights"),
    "another named tuple": lambda x: Untyped(weights="weights", states=x),
    "torch's tuple": wrap_as_max,
    "dict": lambda x: {"weights": "weights", "states": x},
    "ordered dict": lambda x: OrderedDict(states=x, weights="weights"),
    "mapping": lambda x: UserDict(states=x),
    "dataclass": lambda x: Record(x, "weights"),
    "frozen dataclass": lambda x: FrozenRecord("weights", x, history=[1]),
    "dataclass and mapping": lambda x: EncoderOutput(states=x, weights="weights"),
}


def parts(output):
    """All that an output holds, in order."""
    if isinstance(output, dict | UserDict):
        return list(output.values())
    if isinstance(output, tuple | list):
        return list(output)
    return [getattr(output, each.name) for each in fields(output)]


@pytest.mark.parametrize("wrap", STATES.values(), ids=STATES)
def test_the_first_tensor_is_inhibited_and_all_else_stays(wrap):
    torch.manual_seed(0)
    module = Returning(wrap)
    model = nn.ModuleDict({"block": module})
    layer = memel.insert(model, ["block"], late_start=0)["block"]
    module(torch.randn(8, 5))
    mean = layer.mean.clone()
    x = torch.randn(8, 5, requires_grad=True)
    expected, output = wrap(x), module(x)
    assert type(output) is type(expected)
    inhibited = 0
    for got, wanted in zip(parts(output), parts(expected), strict=True):
        if not (isinstance(got, Tensor) and got.is_floating_point()):
            assert got is wanted or torch.equal(torch.as_tensor(got), torch.as_tensor(wanted))
            continue
        changed = got != wanted
        assert (changed.sum(1) == 1).all()
        assert torch.equal(got[changed], mean.expand(8, 5)[changed])
        got.sum().backward()
        assert torch.equal(x.grad[changed], torch.full((8,), -1.0))
        inhibited += 1
    assert inhibited == 1


def test_an_output_that_is_dataclass_and_mapping_is_the_same_by_field_key_and_place():
    z, doubled = torch.randn(2, 3), lambda z: 2 * z
    output = EncoderOutput(states=z, weights="weights")
    new = replace_activations(output, doubled, None, "Encoder")
    for states in (new.states, new["states"], new[0], new.to_tuple()[0], next(iter(new.values()))):
        assert torch.equal(states, 2 * z)
    assert list(new) == ["states", "weights"]
    assert new.past is None
    assert new is not output
    assert output.states is output["states"] is z


@pytest.mark.parametrize(
    ("output", "item", "place"),
    [
        (lambda a, b: (a, b), 1, 1),
        (lambda a, b: (a, b), -1, 1),
        (lambda a, b: [a, b], 1, 1),
        (lambda a, b: Typed(a, b), "weights", 1),
        (lambda a, b: Typed(a, b), 1, 1),
        (lambda a, b: {"a": a, "b": b}, "b", 1),
        (lambda a, b: {"a": a, "b": b}, -2, 0),
        (lambda a, b: Record(a, b), "weights", 1),
        (lambda a, b: FrozenRecord(a, b), "states", 1),
        (lambda a, b: FrozenRecord(a, b), 1, 1),
        (lambda a, b: EncoderOutput(states=a, weights=b), "weights", 2),
    ],
)
def test_the_item_is_found_by_place_and_by_name(output, item, place):
    a, b = torch.randn(2, 4, 3)
    new = replace_activations(output(a, b), lambda z: z + 1, item, "Block")
    if isinstance(new, EncoderOutput):
        assert torch.equal(new.weights, b + 1)
        assert new.states is a
        return
    values = parts(new)
    assert torch.equal(values[place], (a, b)[place] + 1)
    assert values[1 - place] is (a, b)[1 - place]


def test_without_an_item_tensors_of_integers_are_passed_over():
    tokens, z = torch.arange(3), torch.randn(2, 3)
    new = replace_activations((tokens, tokens > 1, z), lambda z: z + 1, None, "Block")
    assert new[0] is tokens
    assert torch.equal(new[2], z + 1)


def test_a_tensor_needs_no_item():
    z = torch.randn(2, 3)
    assert torch.equal(replace_activations(z, lambda z: z + 1, 1, "Block"), z + 1)


@pytest.mark.parametrize(
    ("output", "item", "message"),
    [
        (
            None,
            None,
            "Block returns NoneType, expected a tensor, a tuple, a dataclass or a mapping",
        ),
        (3.0, 0, "Block returns float, expected a tensor, a tuple, a dataclass or a mapping"),
        (Record, 0, "Block returns type, expected a tensor, a tuple, a dataclass or a mapping"),
        (
            ("text", None),
            None,
            "Block returns tuple (0: str, 1: NoneType), expected a floating-point tensor in it",
        ),
        ((), None, "Block returns tuple (), expected a floating-point tensor in it"),
        (
            (torch.zeros(1), "text"),
            1,
            "Block returns tuple (0: Tensor, 1: str), expected a tensor as 1 in it",
        ),
        (
            (torch.zeros(1), "text"),
            2,
            "Block returns tuple (0: Tensor, 1: str), expected a tensor as 2 in it",
        ),
        (
            Typed(torch.zeros(1)),
            "attention",
            "Block returns Typed (states: Tensor, weights: NoneType), expected a tensor as "
            "'attention' in it",
        ),
        (
            EncoderOutput(states=torch.zeros(1)),
            "past",
            "Block returns EncoderOutput (states: Tensor, past: NoneType, weights: NoneType), "
            "expected a tensor as 'past' in it",
        ),
        (
            {"a": torch.arange(3)},
            None,
            "Block returns dict (a: Tensor), expected a floating-point tensor in it",
        ),
        (
            {"a": [torch.zeros(1)]},
            None,
            "Block returns dict (a: list), expected a floating-point tensor in it",
        ),
    ],
)
def test_an_output_without_such_activations_is_refused_in_one_line(output, item, message):
    with pytest.raises(TypeError) as refusal:
        replace_activations(output, lambda z: z, item, "Block")
    assert str(refusal.value) == f"MEmeL: {message}"


def test_the_item_is_told_to_every_layer_of_an_insertion():
    torch.manual_seed(0)
    model = nn.ModuleList([Returning(lambda x: {"a": x, "b": 2 * x}) for _ in range(2)])
    memel.insert(model, ["*"], item="b", late_start=0)
    for block in model:
        block(torch.randn(6, 3))
        x = torch.randn(6, 3)
        output = block(x)
        assert torch.equal(output["a"], x)
        assert ((output["b"] != 2 * x).sum(1) == 1).all()
