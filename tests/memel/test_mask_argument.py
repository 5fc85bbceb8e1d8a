"""A model's own padding mask, handed to its layers: `insert(..., mask="attention_mask")`."""

import copy

import pytest
import torch
from torch import nn

from nowcast import memel


class Block(nn.Module):
    """Attention and what follows, in the smallest form."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Linear(6, 6)
        self.output = nn.Linear(6, 6)

    def forward(self, x):
        x = self.attention(x)
        return self.output(torch.relu(x))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        for block in self.layer:
            x = block(x)
        return x


class Transformer(nn.Module):
    """Tokens, the mask second, as in transformers' models."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(10, 6)
        self.encoder = Encoder()

    def forward(self, input_ids=None, attention_mask=None, fail=False):
        x = self.encoder(self.embeddings(input_ids))
        if fail:
            raise KeyError("a failure of the model's own")
        return x


class Classifier(nn.Module):
    """A model around the model."""

    def __init__(self):
        super().__init__()
        self.bert = Transformer()

    def forward(self, tokens, padding):
        return self.bert(input_ids=tokens, attention_mask=padding)


AT = ["encoder.layer.*.attention"]
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
"""As tokenizers give it: int64, 1 counts."""


def model_with_layers(**settings):
    torch.manual_seed(0)
    model = Transformer()
    layers = memel.insert(model, AT, mask="attention_mask", neurons="last", **settings)
    return model, layers


def states_of_tokens_that_count(model):
    """Inputs and outputs of the first attention for the tokens that are not padding."""
    plain = copy.deepcopy(model)
    memel.remove(plain)
    return plain.encoder.layer[0].attention(plain.embeddings(TOKENS[MASK.bool()]))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model(TOKENS, MASK),
        lambda model: model(TOKENS, attention_mask=MASK),
        lambda model: model(input_ids=TOKENS, attention_mask=MASK),
        lambda model: model(attention_mask=MASK.bool(), input_ids=TOKENS),
    ],
)
def test_the_mask_is_found_by_position_and_by_keyword(call):
    model, layers = model_with_layers()
    call(model)
    known = states_of_tokens_that_count(model)
    first, second = layers.values()
    assert first.count == second.count == len(known) == 9
    torch.testing.assert_close(first.mean, known.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first.variance, known.var(0), rtol=1e-5, atol=1e-6)


def test_padding_is_not_selected():
    model, layers = model_with_layers(late_start=0, top=2)
    seen = []
    for name in layers:
        model.get_submodule(name).register_forward_hook(lambda m, i, o: seen.append(o))
    plain = nn.functional.linear(
        model.embeddings(TOKENS), *model.encoder.layer[0].attention.parameters()
    )
    model(TOKENS, MASK)
    seen.clear()
    model(TOKENS, MASK)
    changed = seen[0] != plain
    assert (changed.flatten(1).sum(1) == 2).all()
    assert not changed[~MASK.bool()].any()


@pytest.mark.parametrize("arguments", [(TOKENS,), (TOKENS, None)])
def test_a_call_without_a_mask_has_no_padding(arguments):
    model, layers = model_with_layers()
    model(TOKENS, MASK)
    model(*arguments)
    assert [int(layer.count) for layer in layers.values()] == [9 + 12] * 2


def test_no_mask_outlives_its_call_even_if_the_model_fails():
    model, layers = model_with_layers()
    handed = []
    model.encoder.register_forward_pre_hook(
        lambda module, args: handed.extend(layer.mask for layer in layers.values())
    )
    model(TOKENS, MASK)
    assert [layer.mask for layer in layers.values()] == [None, None]
    with pytest.raises(KeyError):
        model(TOKENS, MASK, fail=True)
    assert [layer.mask for layer in layers.values()] == [None, None]
    assert all(torch.equal(mask, MASK.bool()) for mask in handed)
    assert len(handed) == 4
    # A part of the model that is called by itself has no mask.
    model.encoder(torch.randn(2, 3, 6))
    assert [int(layer.count) for layer in layers.values()] == [9 + 9 + 6] * 2


def test_a_mask_that_does_not_fit_is_refused_and_does_not_stay():
    model, layers = model_with_layers()
    with pytest.raises(ValueError, match=r"the mask is of shape \(3, 2\)"):
        model(TOKENS, MASK[:, :2])
    assert [layer.mask for layer in layers.values()] == [None, None]


def test_the_model_with_the_mask_may_be_part_of_another():
    torch.manual_seed(0)
    model = Classifier()
    layers = memel.insert(model.bert, AT, mask="attention_mask", neurons="last")
    model(TOKENS, MASK)
    assert [int(layer.count) for layer in layers.values()] == [9, 9]
    outer = Classifier()
    layers = memel.insert(outer, ["bert." + AT[0]], mask="padding", neurons="last")
    outer(TOKENS, MASK)
    assert [int(layer.count) for layer in layers.values()] == [9, 9]
    for whole in (model, outer):
        memel.remove(whole)
        for module in whole.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_a_deep_copy_hands_its_masks_to_its_own_layers():
    model, layers = model_with_layers()
    twin = copy.deepcopy(model)
    twin(TOKENS, MASK)
    assert [int(layer.count) for layer in memel.inserted(twin).values()] == [9, 9]
    assert [int(layer.count) for layer in layers.values()] == [0, 0]


def test_remove_takes_the_hooks_of_the_mask_out():
    model, _ = model_with_layers(late_start=0)
    model(TOKENS, MASK)
    memel.remove(model)
    untouched = Transformer()
    hooks = [name for name in vars(untouched) if "hooks" in name]
    assert len(hooks) > 6
    for module in model.modules():
        assert all(not getattr(module, name) for name in hooks)
    untouched.load_state_dict(model.state_dict())
    assert torch.equal(model(TOKENS, MASK), untouched(TOKENS, MASK))


def test_a_mask_that_the_model_does_not_take_is_refused_and_nothing_inserted():
    model = Transformer()
    with pytest.raises(
        ValueError,
        match=r"forward of Transformer has no argument 'padding'; it has input_ids, attention_mask",
    ):
        memel.insert(model, AT, mask="padding")
    assert not memel.inserted(model)
    assert not model._forward_pre_hooks


def test_a_tilde_turns_round_a_mask_that_is_true_at_padding():
    """PyTorch's own layers have it so."""
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True),
        num_layers=2,
        enable_nested_tensor=False,
    ).double()
    layer = memel.insert(
        model,
        at=["layers.0.self_attn"],
        mask="~src_key_padding_mask",
        neurons="last",
        late_start=10,
    )["layers.0.self_attn"]
    seen = []
    layer.observer = lambda z, decision: seen.append(z)
    padding = torch.tensor([[False] * 4 + [True], [False] * 2 + [True] * 3])
    model(torch.randn(2, 5, 6, dtype=torch.float64), src_key_padding_mask=padding)
    torch.testing.assert_close(layer.mean, seen[0][~padding].mean(0), rtol=1e-12, atol=1e-14)
    assert layer.count == 6
    with pytest.raises(ValueError, match=r"src_key_padding_mask is of torch\.float64, expected"):
        model(torch.randn(2, 5, 6).double(), src_key_padding_mask=torch.zeros(2, 5).double())
