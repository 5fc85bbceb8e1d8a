"""Models with inserted layers: shared and nested modules, containers, state dicts, removal."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from nowcast import memel


class Shared(nn.Module):
    """One module at two places, as tied blocks are."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.again(torch.tanh(self.first(x)))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.ModuleDict({"cell": nn.Linear(4, 4)})

    def forward(self, x):
        return torch.tanh(self.rnn["cell"](x))


class Nested(nn.Module):
    """Blocks in stages in an encoder in a model."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList([Block(), Block(), Block()])
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for stage in self.encoder.stages:
            x = stage(x)
        return self.head(x)


def seeded(kind):
    torch.manual_seed(0)
    return kind()


def steps(model, count=4):
    generator = torch.Generator().manual_seed(1)
    return [model(torch.randn(6, 4, generator=generator)) for _ in range(count)]


@pytest.mark.parametrize("at", [["first"], ["again"], "again", ["first", "again"], ["a*", "*st"]])
def test_a_shared_module_has_one_layer_under_its_first_name(at):
    model = seeded(Shared)
    memel.insert(model, at, late_start=0)
    layers = memel.inserted(model)
    assert list(layers) == ["first"]
    assert model.first.memel is model.again.memel is layers["first"]
    steps(model, 3)
    assert layers["first"].calls == 6
    memel.remove(model)
    assert not model.first._forward_hooks
    assert not hasattr(model.again, "memel")


def test_a_single_name_or_glob_may_be_given_as_a_string():
    assert list(memel.insert(Nested(), "head")) == ["head"]
    cells = [f"encoder.stages.{i}.rnn.cell" for i in range(3)]
    assert list(memel.insert(Nested(), "encoder.stages.*.cell")) == cells
    assert list(memel.insert(Nested(), "encoder.stages.[02].rnn.cell")) == cells[::2]


def test_a_part_of_a_model_can_be_inserted_into_and_removed_from_by_itself():
    model = seeded(Nested)
    expected = steps(model)
    inner = memel.insert(model.encoder, "stages.1", late_start=0)
    outer = memel.insert(model, ["head", "encoder.stages.0.rnn.cell"], late_start=0)
    assert list(inner) == ["stages.1"]
    assert list(memel.inserted(model)) == ["encoder.stages.0.rnn.cell", "encoder.stages.1", "head"]
    assert not torch.equal(steps(model)[-1], expected[-1])
    assert [int(layer.calls) for layer in (*inner.values(), *outer.values())] == [4, 4, 4]
    memel.remove(model.encoder)
    assert list(memel.inserted(model)) == ["head"]
    memel.remove(model)
    assert all(torch.equal(a, b) for a, b in zip(steps(model), expected, strict=True))


class OwnSequential(nn.Sequential):
    """Goes through its children by itself."""

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


class Collecting(nn.ModuleDict):
    """Goes through its children and returns what each gives, as feature extractors do."""

    def forward(self, x):
        features = OrderedDict()
        for name, module in self.items():
            features[name] = x = module(x)
        return features


@pytest.mark.parametrize("container", [nn.Sequential, OwnSequential])
def test_a_container_that_calls_all_its_children_inhibits_once(container):
    torch.manual_seed(0)
    block = container(nn.Linear(4, 5), nn.Tanh())
    model = nn.Sequential(block, nn.Linear(5, 1))
    plain = copy.deepcopy(block)
    layer = memel.insert(model, "0", late_start=0)["0"]
    assert isinstance(layer, memel.MEmeL)
    assert memel.inserted(model) == {"0": layer}
    history = []
    for call in range(4):
        x = torch.randn(8, 4)
        z = plain(x)
        changed = block(x) != z
        assert torch.equal(changed.sum(1), torch.full((8,), int(call > 0)))
        history.append(z.detach())
        assert layer.calls == call + 1
    torch.testing.assert_close(layer.mean, torch.cat(history).mean(0))
    twin = copy.deepcopy(model)
    twin(torch.randn(3, 4))
    assert [memel.inserted(m)["0"].calls.item() for m in (twin, model)] == [5, 4]
    assert set(model.state_dict()) - set(nn.Sequential(plain, model[1]).state_dict()) == {
        f"0.memel.{name}" for name in ("mean", "variance", "calls", "count")
    }
    memel.remove(model)
    assert torch.equal(block(x), z)
    assert len(block) == 2


def test_a_container_of_named_outputs_inhibits_the_one_asked_for():
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": Collecting({"a": nn.Linear(4, 5), "b": nn.Tanh()})})
    layer = memel.insert(model, "body", item="b", late_start=0)["body"]
    body = model["body"]
    body(torch.randn(8, 4))
    x = torch.randn(8, 4)
    features = body(x)
    assert torch.equal(features["a"], body["a"](x))
    assert ((features["b"] != torch.tanh(body["a"](x))).sum(1) == 1).all()
    assert layer.calls == 2


@pytest.mark.parametrize("at", ["encoder.stages", "encoder", "encoder.stages.1.rnn"])
def test_a_module_that_is_never_called_is_refused(at):
    model = Nested()
    kind = type(model.get_submodule(at)).__name__
    with pytest.raises(ValueError, match=f"{at} is a {kind} without a forward of its own"):
        memel.insert(model, ["head", at])
    assert not memel.inserted(model)


def test_statistics_are_left_out_to_load_into_a_model_without_layers():
    trained = seeded(Nested)
    memel.insert(trained, ["encoder.stages.*.cell", "head"], late_start=0, share=0.1)
    steps(trained)
    plain = Nested()
    with pytest.raises(RuntimeError, match="memel"):
        plain.load_state_dict(trained.state_dict())
    plain.load_state_dict(memel.without_statistics(trained.state_dict()), strict=True)
    memel.remove(trained)
    assert all(torch.equal(a, b) for a, b in zip(steps(plain), steps(trained), strict=True))


def test_a_state_dict_without_statistics_leaves_those_of_the_layers():
    plain, model = Nested(), seeded(Nested)
    layers = memel.insert(model, ["encoder.stages.*.cell", "head"], late_start=0)
    steps(model)
    before = copy.deepcopy({name: layer.state_dict() for name, layer in layers.items()})
    model.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(model.head.weight, plain.head.weight)
    for name, layer in layers.items():
        assert layer.calls == 4
        for key, value in layer.state_dict().items():
            assert torch.equal(value, before[name][key])


def test_a_whole_state_dict_restores_training_where_it_was():
    model = seeded(Nested)
    memel.insert(model, "encoder.stages.*.cell", late_start=2)
    steps(model)
    restored = Nested()
    memel.insert(restored, "encoder.stages.*.cell", late_start=2)
    restored.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(steps(restored), steps(model), strict=True))


def test_a_model_of_which_layers_were_removed_is_as_one_never_touched():
    untouched, model = seeded(Nested), seeded(Nested)
    memel.insert(model, ["encoder.stages.*.cell", "head"], late_start=0)
    steps(model)
    memel.remove(model)
    for (name, module), (other_name, other) in zip(
        model.named_modules(), untouched.named_modules(), strict=True
    ):
        assert name == other_name
        assert vars(module).keys() == vars(other).keys()
        for attribute, value in vars(other).items():
            if "hooks" in attribute:
                assert not value
                assert not getattr(module, attribute), attribute
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(steps(model), steps(untouched), strict=True))
    memel.remove(model)


def test_hooks_of_others_survive_removal():
    model = seeded(Nested)
    seen = []
    model.head.register_forward_hook(lambda *arguments: seen.append("after"))
    model.register_forward_pre_hook(lambda *arguments, **kwargs: seen.append("before"))
    memel.insert(model, "head", late_start=0)
    memel.remove(model)
    steps(model, 1)
    assert seen == ["before", "after"]


def test_layers_follow_the_model_into_another_precision():
    model = seeded(Nested)
    layer = memel.insert(model, "head", late_start=0)["head"]
    steps(model)
    mean = layer.mean.clone()
    model.to(torch.bfloat16)
    assert model.head.weight.dtype == torch.bfloat16
    assert layer.mean.dtype == layer.variance.dtype == torch.float32
    assert torch.equal(layer.mean, mean)
    assert model(torch.randn(6, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    model.half()
    assert layer.mean.dtype == torch.float32
    assert layer.calls.dtype == torch.int64
    model.double()
    assert layer.mean.dtype == layer.variance.dtype == torch.float64
    assert model(torch.randn(6, 4, dtype=torch.float64)).dtype == torch.float64
    assert layer.calls == 6
    model.to("meta")
    assert layer.mean.device.type == layer.calls.device.type == "meta"


def test_layers_train_and_rest_with_the_module_that_they_follow():
    model = seeded(Nested).eval()
    layer = memel.insert(model, "head", late_start=0)["head"]
    steps(model)
    assert layer.calls == 0
    model.train()
    steps(model)
    assert layer.calls == 4
    model.head.eval()
    steps(model)
    assert layer.calls == 4


def test_autocast_activations_have_statistics_in_float32():
    model = seeded(Nested)
    layers = memel.insert(model, ["encoder.stages.*.cell"], late_start=1, top=2)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(6, 4)).float().square().mean()
        loss.backward()
    for layer in layers.values():
        assert layer.calls == 3
        assert layer.mean.dtype == torch.float32
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
