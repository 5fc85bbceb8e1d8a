"""Networks that forecast change or decay, or along the flow: untrained, and what is where."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from torch.nn import functional

from nowcast.models.build import build_network
from nowcast.models.distribution import with_values_of
from nowcast.models.extrapolation import origins
from nowcast.models.flow import Flow
from nowcast.models.motion import estimate_motion
from nowcast.models.scales import SLOW, left_of_scales
from nowcast.models.settings import NetworkSettings

SMALL = NetworkSettings(hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6))
SIDE = 60


def moving_rain(seed, x=2.0, y=-1.0, times=5, side=SIDE):
    """Smooth rain (1, time, 1, y, x) that moves by (x, y) pixels a step, oldest first."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    frames = np.zeros((times, side, side))
    for centre in random.uniform(10, side - 10, (6, 2)):
        for time in range(times):
            back = times - 1 - time
            distance = (columns - centre[0] + back * x) ** 2 + (rows - centre[1] + back * y) ** 2
            frames[time] += 0.7 * np.exp(-distance / 40)
    return torch.from_numpy(frames.clip(0, 1)).float()[None, :, None]


def network(**changes):
    torch.manual_seed(0)
    return build_network(replace(SMALL, **changes), 5, 8)


def silenced(**changes):
    """A network whose last layer gives 0, whatever it sees."""
    net = network(**changes)
    for parameter in net.forecaster.head[2].parameters():
        torch.nn.init.zeros_(parameter)
    return net


@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_no_change_is_the_last_frame(recurrence):
    frames = moving_rain(0)
    found = silenced(recurrence=recurrence, forecasts="change")(frames, 8)
    assert torch.equal(found, frames[:, -1:].expand(-1, 8, -1, -1, -1))


def test_a_change_is_added_to_the_last_frame():
    frames = moving_rain(11)
    with_change = network(forecasts="change")(frames, 8)
    torch.testing.assert_close(with_change, network()(frames, 8) + frames[:, -1:])


def steady(x, recurrence="ConvGRU", **changes):
    """A network that gives these numbers for the scales, the same everywhere and at all times."""
    net = silenced(recurrence=recurrence, forecasts="decay", **changes)
    with torch.no_grad():
        bias = net.forecaster.head[2].bias
        bias.copy_(torch.tensor(x).repeat(len(bias) // len(x)))
    return net.double()


@pytest.mark.parametrize("head_sees_last", [False, True])
@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_each_scale_of_the_last_frame_decays(recurrence, head_sees_last):
    """What is finer than 4 pixels is gone at once; of the coarser 1 / (1 + lead time) is left."""
    frames = moving_rain(16).double()
    gone, slow = SLOW + 40.0, SLOW
    found = steady([gone, gone, gone, slow, slow], recurrence, head_sees_last=head_sees_last)
    smoothed = gaussian_filter(frames[0, -1, 0].numpy(), 4, truncate=3, mode="nearest")
    expected = [smoothed / (1 + lead_time) for lead_time in range(1, 9)]
    np.testing.assert_allclose(found(frames, 8).detach()[0, :, 0], expected, atol=1e-7)


def test_decay_is_along_the_flow():
    frames = moving_rain(17).double()
    found = steady([SLOW] * 5, along_flow=True)(frames, 8)
    moved = silenced(forecasts="change", along_flow=True).double()(frames, 8)
    left = 1 / torch.arange(2.0, 10.0, dtype=torch.float64)
    torch.testing.assert_close(found, moved * left[:, None, None, None], rtol=0, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_with_decay_no_scale_grows(seed):
    """Whatever the weights, each place has between none and all of each scale."""
    net = silenced(forecasts="decay", head_sees_last=True)
    torch.manual_seed(seed)
    torch.nn.init.normal_(net.forecaster.head[2].weight, std=30.0)
    frames = moving_rain(seed)
    last = frames[0, -1, 0].double().numpy()
    smoothed = [gaussian_filter(last, s, truncate=3, mode="nearest") for s in (1, 2, 4, 8)]
    scales = -np.diff([last, *smoothed, np.zeros_like(last)], axis=0)
    found = net(frames, 8).detach().numpy()[0, :, 0]
    assert (found <= np.maximum(scales, 0).sum(0) + 1e-5).all()
    assert (found >= np.minimum(scales, 0).sum(0) - 1e-5).all()
    # At each place they are these scales, with the shares that the network gives.
    shares = left_of_scales(net.predict(frames, 8)).detach().numpy()[0]
    np.testing.assert_allclose(found, (shares * scales).sum(1), atol=1e-5)


@pytest.mark.parametrize("forecasts", ["change", "decay"])
@pytest.mark.parametrize("along_flow", [False, True])
def test_an_untrained_network_changes_next_to_nothing(along_flow, forecasts):
    frames = moving_rain(12)
    settings = NetworkSettings(forecasts=forecasts, along_flow=along_flow, coordinates=False)
    torch.manual_seed(0)
    with torch.no_grad():
        found = build_network(settings, 5, 8)(frames, 8)
    expected = silenced(forecasts=forecasts, along_flow=along_flow)(frames, 8)
    assert (found - expected).abs().mean() < 0.01


def test_decay_begins_slowly():
    frames = moving_rain(19)
    found = silenced(forecasts="decay", along_flow=True)(frames, 8)
    moved = silenced(forecasts="change", along_flow=True)(frames, 8)
    left = 1 / (1 + torch.arange(1.0, 9.0) * math.exp(-SLOW))
    torch.testing.assert_close(found, moved * left[:, None, None, None], rtol=0, atol=1e-6)
    assert left.min() > 0.87


def test_a_head_sees_the_scales_that_decay():
    frames = moving_rain(18)
    net = network(forecasts="decay", head_sees_last=True)
    assert net.forecaster.head[0].in_channels == SMALL.up_features[0] + 5
    torch.testing.assert_close(
        net.seen_by_head(frames).sum(dim=1), frames[:, -1, 0], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("side", [SIDE, SIDE + 1])
@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_no_change_along_the_flow_is_the_last_frame_moved_on(recurrence, side):
    """And air from outside brings what the edge has, whether the levels divide the grid or not."""
    frames = torch.cat([moving_rain(1, side=side), moving_rain(2, x=-1.5, y=0.5, side=side)])
    found = silenced(recurrence=recurrence, forecasts="change", along_flow=True)(frames, 8)
    for sequence, forecast in zip(frames[:, :, 0].numpy(), found[:, :, 0], strict=True):
        motion = estimate_motion(sequence)
        for place, field in zip(origins(motion, 8), forecast.detach().numpy(), strict=True):
            exact = map_coordinates(sequence[-1], place[::-1], order=1, mode="nearest")
            np.testing.assert_allclose(field, exact, atol=2e-5)


@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
@pytest.mark.parametrize("head_sees_last", [False, True])
def test_rain_that_comes_in_over_an_edge_comes_in_on_any_grid(recurrence, head_sees_last):
    """From the east and the south, where a grid that the levels do not divide is filled up."""
    seen = {"recurrence": recurrence, "head_sees_last": head_sees_last}
    net = network(forecasts="decay", along_flow=True, keeps_distribution=True, **seen)
    rows, columns = np.mgrid[:67, :71]
    frames = [0.5 + 0.3 * np.sin((columns + 3 * t) / 5) * np.cos((rows + 2 * t) / 7)
              for t in range(5)]  # fmt: skip
    found = net.forecast(torch.from_numpy(np.array(frames)).float()[None, :, None], 8)
    assert found[..., -15:, :].min() > 0.15
    assert found[..., :, -20:].min() > 0.15


def test_frames_are_moved_on_to_where_their_rain_is_at_last():
    frames = moving_rain(3)
    moved = Flow.of(frames, 4).to_the_last(frames)
    inside = (..., slice(15, -15), slice(15, -15))
    before = (frames[:, :1] - frames[:, -1:])[inside].abs().mean()
    after = (moved[:, :1] - moved[:, -1:])[inside].abs().mean()
    assert after < 0.1 * before
    assert torch.equal(moved[:, -1], frames[:, -1])


def test_what_is_forecast_to_grow_grows_where_the_rain_goes():
    """A change of 0.1 everywhere is one on every path, wherever it comes from."""
    frames = moving_rain(4)
    plain, grown = (network(forecasts="change", along_flow=True) for _ in range(2))
    with torch.no_grad():
        grown.forecaster.head[2].bias.fill_(0.1)
    difference = (grown(frames, 8) - plain(frames, 8)).detach()
    assert difference.sub(0.1).abs().max() < 1e-6


def test_frames_are_forecast_along_the_flow_too():
    """What the inner network gives for frames moved on is moved on to its time."""
    frames = moving_rain(5)
    along = network(along_flow=True)
    inner = network()
    flow = Flow.of(frames, 8)
    expected = flow.to_their_times(inner(flow.to_the_last(frames), 8))
    assert torch.equal(along(frames, 8), expected)
    assert not torch.equal(inner(frames, 8), expected)


def test_rain_that_stands_still_is_seen_as_it_is():
    frames = moving_rain(6, x=0.0, y=0.0)
    along, plain = network(along_flow=True)(frames, 8), network()(frames, 8)
    torch.testing.assert_close(along, plain, atol=1e-4, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_each_sequence_has_its_own_motion(seed, lead_times):
    first, second = moving_rain(seed), moving_rain(seed + 1, x=-2.0, y=1.5)
    net = network(along_flow=True, forecasts="change")
    together = net(torch.cat([first, second]), lead_times)
    for alone, found in zip((first, second), together, strict=True):
        torch.testing.assert_close(net(alone, lead_times)[0], found, atol=1e-6, rtol=0)


def test_the_gradient_goes_through_the_paths():
    frames = moving_rain(7, side=24).double()
    flow = Flow.of(frames, 3)
    fields = torch.rand(1, 3, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flow.to_their_times, (fields,))
    past = torch.rand(1, 3, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flow.to_the_last, (past,))


def test_it_has_the_same_weights_by_the_same_names():
    plain, other = network(), network(forecasts="change", along_flow=True)
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in other.named_parameters()
    }


@pytest.mark.parametrize("recurrence", ["ConvGRU", "TrajGRU", "none"])
def test_a_head_sees_the_last_frame_at_full_resolution(recurrence):
    """With features silenced it is two convolutions of that frame alone, at every lead time."""
    frames = torch.rand(2, 5, 1, SIDE, SIDE)
    net = network(recurrence=recurrence, head_sees_last=True)
    first, _, last = net.forecaster.head
    torch.nn.init.zeros_(first.weight.data[:, :-1])
    found = net(frames, 8)
    hidden = functional.conv2d(frames[:, -1], first.weight[:, -1:], first.bias, padding=1)
    expected = functional.conv2d(functional.leaky_relu(hidden, 0.2), last.weight, last.bias)
    expected = expected[:, :, None] if recurrence == "none" else expected[:, None]
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-5, rtol=1e-5)


def test_along_the_flow_a_head_sees_what_the_network_sees():
    frames = moving_rain(13)
    along, inner = network(along_flow=True, head_sees_last=True), network(head_sees_last=True)
    flow = Flow.of(frames, 8)
    expected = flow.to_their_times(inner(flow.to_the_last(frames), 8))
    assert torch.equal(along(frames, 8), expected)


def test_recomputed_in_parts_it_computes_the_same():
    frames = moving_rain(14)
    gradients = []
    for every in (0, 3):
        net = network(forecasts="change", along_flow=True, head_sees_last=True)
        net.recompute(every)
        net(frames, 8).square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for once, again in zip(*gradients, strict=True):
        torch.testing.assert_close(once, again, rtol=1e-4, atol=1e-5)


def test_one_frame_has_no_motion():
    frames = moving_rain(8)[:, -1:]
    found = silenced(forecasts="change", along_flow=True)(frames, 3)
    torch.testing.assert_close(found, frames.expand(-1, 3, -1, -1, -1), atol=1e-5, rtol=0)


def test_in_bfloat16_paths_stay_precise():
    frames = moving_rain(9)
    net = network(forecasts="change", along_flow=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(frames, 8)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, net(frames, 8), atol=4e-3, rtol=0)


@pytest.mark.slow
def test_compiled_it_computes_the_same():
    frames = moving_rain(10)
    net = network(forecasts="change", along_flow=True)
    with torch.no_grad():
        net.forecaster.head[2].weight.normal_(0, 0.1)
        compiled = torch.compile(net, dynamic=False)(frames, 3)
        torch.testing.assert_close(compiled, net(frames, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("recurrence", ["ConvGRU", "none"])
def test_the_distribution_of_the_last_frame_is_kept(recurrence):
    """Its values, none lost, in the order of the forecast without."""
    frames = moving_rain(20).float()
    plain = network(recurrence=recurrence, forecasts="decay")
    keeping = network(recurrence=recurrence, forecasts="decay", keeps_distribution=True)
    before, after = plain.forecast(frames, 8), keeping.forecast(frames, 8)
    assert torch.equal(keeping(frames, 8), plain(frames, 8))  # Training goes without.
    assert not torch.equal(before, after)
    last = frames[0, -1].flatten().sort().values
    for smooth, sharp in zip(before[0], after[0], strict=True):
        torch.testing.assert_close(sharp.flatten().sort().values, last, rtol=0, atol=1e-6)
        assert (sharp.flatten()[smooth.flatten().argsort(stable=True)].diff() >= 0).all()


def test_along_the_flow_it_is_that_of_the_frame_moved_on():
    frames = moving_rain(21).float()
    net = network(forecasts="decay", along_flow=True, keeps_distribution=True)
    moved = silenced(forecasts="change", along_flow=True).forecast(frames, 8)
    found = net.forecast(frames, 8)
    for sharp, reference in zip(found[0], moved[0], strict=True):
        torch.testing.assert_close(
            sharp.flatten().sort().values, reference.flatten().sort().values, rtol=0, atol=1e-6
        )


def test_each_field_gets_the_values_of_its_own():
    reference, forecast = torch.rand(2, 3, 4, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    found = with_values_of(reference, forecast)
    for sample in range(3):
        for time in range(4):
            values = np.sort(reference[sample, time].numpy().ravel())
            expected = values[forecast[sample, time].numpy().ravel().argsort().argsort()]
            assert (found[sample, time].numpy().ravel() == expected).all()


def test_forecasts_that_are_no_numbers_do_not_become_dry():
    frames = moving_rain(22).float()
    net = network(forecasts="decay", keeps_distribution=True)
    with torch.no_grad():
        net.forecaster.head[2].bias.fill_(torch.nan)
    assert net.forecast(frames, 2).isnan().all()
    one, other = torch.rand(2, 1, 1, 2, 3)
    one[..., 0, 0] = torch.nan
    both = with_values_of(torch.stack([other, other], 1), torch.stack([one, other], 1))
    torch.testing.assert_close(both[:, 0], one, equal_nan=True)
    torch.testing.assert_close(both[:, 1], other)


def test_where_nothing_is_forecast_nothing_is_placed():
    reference = torch.tensor([0.9, 0.5, 0.2, 0.1, 0.0, 0.0]).view(1, 1, 1, 2, 3)
    forecast = torch.tensor([0.0, 0.3, 0.0, 0.4, 0.0, 0.1]).view(1, 1, 1, 2, 3)
    expected = torch.tensor([0.0, 0.5, 0.0, 0.9, 0.0, 0.2]).view(1, 1, 1, 2, 3)
    assert torch.equal(with_values_of(reference, forecast), expected)
