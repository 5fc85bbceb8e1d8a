"""Windows of one image put together, `insert(..., regroup=True)`, in timm's own Swin."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
from timm.models.swin_transformer import window_reverse
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nowcast import memel

WINDOW = 7
AT = ["layers.*.blocks.*.attn"]
SIDES = {
    "layers.0.blocks.0.attn": 14,
    "layers.0.blocks.1.attn": 14,
    "layers.1.blocks.0.attn": 7,
    "layers.1.blocks.1.attn": 7,
}
"""Height and width of the tokens; 14 are four windows, shifted in every second block."""


def swin(**settings):
    torch.manual_seed(0)
    sizes = {"img_size": 56, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}
    name = "swin_tiny_patch4_window7_224"
    return timm.create_model(name, num_classes=5, drop_path_rate=0.0, **(sizes | settings)).double()


def vit():
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2, num_classes=5
    ).double()


class Windows(nn.Module):
    """Takes (batch, window, token, feature), and attends to each window for itself."""

    def __init__(self, checkpointed=False):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.checkpointed = checkpointed

    def block(self, windows):
        return torch.tanh(self.head(self.attention(windows)))

    def forward(self, x):
        windows = x.flatten(0, 1)
        if self.checkpointed:
            return checkpoint(self.block, windows, use_reentrant=False)
        return self.block(windows)


def with_layers(model=None, at=AT, regroup=True, **settings):
    model = swin() if model is None else model
    settings = {"late_start": 1, "neurons": "last"} | settings
    return model, memel.insert(model, at, regroup=regroup, **settings)


def images(count, seed=1, size=56):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


class Recorder:
    """What a module returns before its layer and after, and the statistics it was judged by."""

    def __init__(self, module, layer):
        self.before = self.after = self.mean = self.variance = None
        module.register_forward_hook(self.note_before, prepend=True)
        module.register_forward_hook(self.note_after)
        self.layer = layer

    def note_before(self, module, args, output):
        self.before = output.detach().clone()
        self.mean, self.variance = self.layer.mean.clone(), self.layer.variance.clone()

    def note_after(self, module, args, output):
        self.after = output.detach().clone()

    def phi(self):
        """Definition 3.1 with the compensation of D.2, each window for itself."""
        compensation = self.layer.epsilon * self.variance.mean()
        return (self.before - self.mean) ** 2 / (self.variance + compensation)


def as_images(windows, side):
    """(batch · windows, 49, feature) as (batch, y, x, feature), by timm's own inverse."""
    return window_reverse(windows.unflatten(1, (WINDOW, WINDOW)), (WINDOW, WINDOW), side, side)


@pytest.mark.parametrize("top", [1, 3])
def test_the_most_monosemantic_activations_of_each_image_are_set_to_their_means(top):
    model, layers = with_layers(top=top)
    recorders = {name: Recorder(model.get_submodule(name), layers[name]) for name in SIDES}
    model(images(6))
    model(images(4, seed=2))
    for name, side in SIDES.items():
        seen = recorders[name]
        before, after, phi = (as_images(t, side) for t in (seen.before, seen.after, seen.phi()))
        features = before.shape[-1]
        assert before.shape == (4, side, side, features)
        expected = before.flatten(1).clone()
        for image in range(4):
            places = phi[image].flatten().argsort(descending=True)[:top]
            expected[image, places] = seen.mean[places % features]
        assert torch.equal(after.flatten(1), expected)
        assert ((after != before).flatten(1).sum(1) == top).all()


def test_without_it_one_is_selected_in_each_window_and_other_activations_are():
    selected = {}
    for regroup in (True, False):
        model, layers = with_layers(regroup=regroup, late_start=10**6)
        model(images(6))
        for layer in layers.values():
            layer.late_start = 0
        recorders = {name: Recorder(model.get_submodule(name), layers[name]) for name in SIDES}
        model(images(4, seed=2))
        selected[regroup] = {name: seen.before != seen.after for name, seen in recorders.items()}
        for name, side in SIDES.items():
            windows = (side // WINDOW) ** 2
            in_windows = selected[regroup][name].flatten(1).sum(1)
            in_images = in_windows.view(4, windows).sum(1)
            assert (in_images == (1 if regroup else windows)).all()
            if not regroup:
                assert (in_windows == 1).all()
    # What is selected of an image first differs in the first layer, and is one of the windows'.
    first = next(iter(SIDES))
    assert (selected[False][first] & selected[True][first]).sum() == 4
    assert (selected[False][first] & ~selected[True][first]).sum() == 12


@pytest.mark.parametrize("settings", [{}, {"share": 0.01}], ids=["top 1", "share"])
def test_the_statistics_are_bit_for_bit_those_without_it(settings):
    states = []
    for regroup in (True, False):
        model, layers = with_layers(regroup=regroup, late_start=10**6, **settings)
        for seed, count in enumerate((3, 1, 4)):
            model(images(count, seed))
        assert [int(layer.count) for layer in layers.values()] == [
            8 * n * n for n in SIDES.values()
        ]
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def trained(model, layers, per_step=1, sizes=(4, 2, 3, 4)):
    """Weights, statistics and losses after some steps; a step may make several calls."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(4):
        optimizer.zero_grad()
        calls = [model(images(sizes[(step + k) % 4], 10 * step + k)) for k in range(per_step)]
        loss = sum(out.square().mean() for out in calls)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*model.state_dict().values(), torch.stack(losses)]


@pytest.mark.parametrize(
    ("per_step", "sizes"), [(1, (4, 2, 3, 4)), (2, (4, 2, 3, 4)), (2, (4, 1, 4, 1))]
)
def test_training_with_checkpoints_is_identical_to_training_without(per_step, sizes):
    """Blocks are repeated in backward, where nobody tells how many images the windows are of."""
    results = []
    for checkpoints in (False, True):
        model, layers = with_layers()
        model.set_grad_checkpointing(checkpoints)
        results.append(trained(model, layers, per_step, sizes))
        assert {int(layer.calls) for layer in layers.values()} == {4 * per_step}
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)
    model, layers = with_layers(regroup=False)
    assert not torch.equal(trained(model, layers, per_step, sizes)[-1], results[0][-1])


def test_where_two_calls_have_as_many_windows_each_is_repeated_by_its_own_images():
    """Two images of four windows, then eight of one: all the same to the module."""

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 5, 6, generator=generator)
    gradients = []
    for checkpointed in (False, True):
        model = Windows(checkpointed)
        layer = memel.insert(model, ["attention"], regroup=True, neurons="last", late_start=1)
        model(torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(2)))
        loss = model(x).sum() + model(x.view(8, 1, 5, 6)).square().sum() + model(x).square().sum()
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
        assert layer["attention"].calls == 4
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_deactivation_in_evaluation_is_per_image_too(checkpoints):
    model, layers = with_layers(in_evaluation=True)
    model(images(4))
    model.eval()
    model.set_grad_checkpointing(checkpoints)
    statistics = [layer.mean.clone() for layer in layers.values()]
    recorders = {name: Recorder(model.get_submodule(name), layers[name]) for name in SIDES}
    x = images(3, seed=2).requires_grad_()
    model(x).sum().backward()
    for name, side in SIDES.items():
        changed = as_images(recorders[name].before != recorders[name].after, side)
        assert (changed.flatten(1).sum(1) == 1).all()
    assert all(
        torch.equal(layer.mean, m) for layer, m in zip(layers.values(), statistics, strict=True)
    )
    twin, _ = with_layers(in_evaluation=True)
    twin.load_state_dict(model.state_dict())
    expected = x.detach().clone().requires_grad_()
    twin.eval()(expected).sum().backward()
    assert torch.equal(x.grad, expected.grad)


def test_a_resting_layer_asks_nobody_for_the_batch():
    model, _ = with_layers()
    plain = swin()
    x = images(2)
    expected = plain.eval().forward_features(x)
    assert torch.equal(model.eval().forward_features(x), expected)
    assert torch.equal(model(x), plain(x))


def test_compiled_and_uncompiled_agree_batch_after_batch():
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model, layers = with_layers(Windows().double(), ["attention"])
        # Statistics at hand: one compilation for the first batch, one for all others.
        model(torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(9)).double())
        call = torch.compile(model, fullgraph=True, backend="eager") if compiled else model
        outputs = []
        for seed, count in enumerate((3, 2, 4)):
            generator = torch.Generator().manual_seed(seed)
            model.zero_grad()
            out = call(torch.randn(count, 4, 5, 6, generator=generator, dtype=torch.float64))
            out.square().sum().backward()
            outputs += [out.detach(), *(p.grad for p in model.parameters())]
        assert layers["attention"].calls == 4
        results.append([*outputs, *model.buffers()])
    torch._dynamo.reset()
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-12, atol=1e-12)


def test_where_each_row_is_a_sample_it_changes_nothing():
    results = []
    for regroup in (True, False):
        model, layers = with_layers(vit(), ["blocks.*.attn"], regroup, top=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for seed, count in enumerate((4, 1, 3)):
            optimizer.zero_grad()
            out = model(images(count, seed, size=32))
            out.square().sum().backward()
            optimizer.step()
        assert [int(layer.calls) for layer in layers.values()] == [3, 3]
        results.append([out, *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_deep_copy_tells_its_own_layers():
    model, layers = with_layers()
    twin = copy.deepcopy(model)
    twin(images(2))
    assert [int(layer.calls) for layer in layers.values()] == [0] * 4
    assert [int(layer.calls) for layer in memel.inserted(twin).values()] == [1] * 4
    memel.remove(model)
    twin(images(2))


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_a_model_of_distributed_data_parallel_is_told_too(tmp_path):
    model, layers = with_layers()
    expected = trained(model, layers)
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        model, layers = with_layers()
        results = trained(DistributedDataParallel(model), layers)
    finally:
        dist.destroy_process_group()
    for got, wanted in zip(results, expected, strict=True):
        assert torch.equal(got, wanted)


def test_an_update_is_probed_by_the_activations_of_images():
    model, _ = with_layers()
    model(images(4))
    x, probe = images(3, seed=2), memel.UpdateProbe(model)
    with probe.before_step():
        model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    with probe.after_step(), torch.no_grad():
        model(x)
    effect = probe.effect()
    assert effect.layer.bincount().tolist() == [3] * 4
    assert (effect.update_ratio > 0).all()


def test_after_remove_the_model_is_bit_for_bit_what_it_was():
    plain, x = swin(), images(2)
    hooks = [name for name in vars(plain) if "hooks" in name]
    assert len(hooks) > 6
    model, _ = with_layers()
    changed = [model(x) for _ in range(2)][-1]
    memel.remove(model)
    assert torch.equal(model(x), plain(x))
    assert not torch.equal(changed, plain(x))
    assert model.state_dict().keys() == plain.state_dict().keys()
    for module in model.modules():
        assert all(not getattr(module, name) for name in hooks)


class Model(nn.Module):
    """Returns as many rows as it is asked for."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Identity()

    def forward(self, step, tokens, windows=None, fail=False):
        out = self.attention(torch.ones(6, 2, 4) if windows is None else windows)
        if fail:
            raise KeyError("a failure of the model's own")
        return out


def called(*arguments, **keywords):
    model = Model()
    layer = memel.insert(model, ["attention"], regroup=True, neurons="last")["attention"]
    seen = []
    layer.observer = lambda z, decision: seen.append(tuple(z.shape))
    try:
        model(*arguments, **keywords)
    finally:
        assert layer.batch is None  # Nothing outlives the call.
    return seen[0]


def test_the_batch_is_that_of_the_first_floating_point_tensor_else_of_the_first():
    number, tokens, others = torch.tensor(0.5), torch.ones(3, 2).long(), torch.ones(2, 2).long()
    assert called(1, tokens) == (3, 4, 4)
    assert called(number, tokens) == (3, 4, 4)
    assert called(others, tokens) == (2, 6, 4)
    assert called(1, tokens=tokens, windows=torch.ones(6, 2, 4)) == (6, 2, 4)
    assert called(torch.ones(1), tokens, windows=torch.ones(6, 4)) == (1, 6, 4)
    assert called(1, torch.ones(2), windows=torch.ones(6, 2, 3, 4)) == (2, 18, 4)


def test_what_has_no_sample_of_the_model_is_refused():
    with pytest.raises(ValueError, match="Identity returns 6 rows in a call of the model with 4"):
        called(1, torch.ones(4))
    with pytest.raises(ValueError, match="Identity returns 6 rows in a call of the model with 0"):
        called(1, torch.ones(0))
    with pytest.raises(ValueError, match="Model was called without a tensor, expected one whose"):
        called(1, 2)
    with pytest.raises(KeyError):
        called(1, torch.ones(3), fail=True)


def test_a_module_called_outside_of_the_model_is_refused():
    model, _ = with_layers()
    model(images(2))
    message = "WindowAttention was called outside of the model's forward"
    with pytest.raises(ValueError, match=message):
        model.layers[0](torch.randn(1, 14, 14, 24).double())
    loss = model(images(2)).sum()
    model.patch_embed.proj.weight.register_hook(
        lambda gradient: model.layers[0](torch.randn(1, 14, 14, 24).double())
    )
    with pytest.raises(RuntimeError, match="during backward with activations that no earlier"):
        loss.backward()


@pytest.mark.parametrize("neurons", [{}, {"neurons": "element"}, {"neurons": "channel"}])
def test_other_neurons_would_change_their_meaning_and_are_refused(neurons):
    model = Model()
    with pytest.raises(ValueError, match=r"regroup=True puts .* found neurons='\w+', expected"):
        memel.insert(model, ["attention"], regroup=True, **neurons)
    assert not memel.inserted(model)


def test_a_mask_of_tokens_is_refused():
    model = Model()
    with pytest.raises(ValueError, match="regroup=True and mask='tokens', expected one of them"):
        memel.insert(model, ["attention"], regroup=True, mask="tokens", neurons="last")
    assert not memel.inserted(model)
    assert not model._forward_pre_hooks
