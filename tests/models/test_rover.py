"""ROVER: the transform, the flow against a direct solution of its equations, and what moves."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.persistence import Persistence
from nowcast.models.rover import Rover, arctangent, inverse_arctangent
from nowcast.models.variational_flow import variational_flow
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel

TRANSFORMS = ("linear", "arctangent")


def blobs(x, y):
    """A smooth analytic field of pixel values in [0, 0.9], to be sampled anywhere."""
    places = ((40, 40, 14, 0.9), (80, 60, 18, 0.7), (55, 90, 12, 0.8), (95, 100, 15, 0.6))
    fields = [
        height * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / width**2)
        for cx, cy, width, height in places
    ]
    return np.maximum.reduce(fields)


def grid(side=128):
    y, x = np.mgrid[:side, :side].astype(np.float64)
    return x, y


def as_batch(frames):
    return torch.from_numpy(np.stack(frames).astype(np.float32))[None, :, None]


def test_the_transform_is_the_benchmarks():
    # dBZ = 70 p − 10; arctan((dBZ − 33) / 4), rescaled by what 0 and 1 give.
    pixel = np.linspace(0, 1, 1001)
    ends = np.arctan((np.array([-10.0, 60.0]) - 33) / 4)
    expected = (np.arctan((70 * pixel - 43) / 4) - ends[0]) / (ends[1] - ends[0])
    np.testing.assert_allclose(arctangent(pixel), expected, atol=1e-14)
    np.testing.assert_allclose(arctangent(pixel.astype(np.float32)), expected, atol=5e-7)
    assert arctangent(pixel)[[0, -1]] == pytest.approx([0, 1], abs=1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_the_inverse_gives_pixel_values_back(dtype, tolerance):
    pixel = np.linspace(0, 1, 1001).astype(dtype)
    back = inverse_arctangent(arctangent(pixel))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, pixel, atol=tolerance)
    assert back[0] == 0


def solved(first, second):
    """Flow (2, y, x) that solves the discrete equations of CLG exactly, in float64."""

    def blurred(image, sigma):
        # OpenCV's window for float images: four standard deviations to each side.
        return ndimage.gaussian_filter(image, sigma, mode="nearest", radius=round(4 * sigma))

    before, after = blurred(255 * first, 4.5), blurred(255 * second, 4.5)
    stencil = np.array([1, -8, 0, 8, -1]) / 12
    along_x, along_y = (
        ndimage.correlate1d(before, stencil, axis=axis, mode="mirror") for axis in (1, 0)
    )
    in_time = after - before
    tensor = {
        name: blurred(a * b, 1.5).ravel() / 2000
        for name, a, b in (
            ("11", along_x, along_x), ("12", along_x, along_y), ("22", along_y, along_y),
            ("13", along_x, in_time), ("23", along_y, in_time),
        )
    }  # fmt: skip
    height, width = first.shape

    def second_difference(number):
        chain = sparse.diags_array([np.ones(number - 1)] * 2, offsets=[-1, 1])
        return sparse.diags_array(chain.sum(axis=1)) - chain

    laplacian = sparse.kron(second_difference(height), sparse.eye_array(width)) + sparse.kron(
        sparse.eye_array(height), second_difference(width)
    )
    diagonal = {name: sparse.diags_array(values) for name, values in tensor.items()}
    matrix = sparse.block_array(
        [[laplacian + diagonal["11"], diagonal["12"]], [diagonal["12"], laplacian + diagonal["22"]]]
    )
    right = -np.concatenate([tensor["13"], tensor["23"]])
    return spsolve(matrix.tocsc(), right).reshape(2, height, width)


def test_the_flow_is_near_the_minimum_of_the_clg_functional():
    x, y = grid(96)
    first, second = blobs(x, y), blobs(x - 1.5, y + 1)
    exact = solved(first, second)
    flow = variational_flow(first.astype(np.float32), second.astype(np.float32))
    assert np.hypot(*exact).mean() == pytest.approx(np.hypot(1.5, 1), rel=0.05)
    # Sweeps from coarse to fine do not reach it, but come near: where it rains and where not.
    assert np.hypot(*(flow - exact)).mean() < 0.005
    assert np.hypot(*(flow - exact)).max() < 0.05


@pytest.mark.parametrize(("motion_x", "motion_y"), [(2, 0), (0, -3), (-2, 1.5)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_translating_field_is_forecast_where_it_will_be(motion_x, motion_y, transform):
    x, y = grid()
    before, last, future = (blobs(x - motion_x * t, y - motion_y * t) for t in (0, 1, 6))
    forecast = Rover(transform).forecast(as_batch([before, last]), 5)[0, -1, 0].numpy()
    inside = np.s_[24:-24, 24:-24]
    rain = [np.where(field[inside] >= 0.28, field[inside], 0) for field in (forecast, future, last)]
    assert np.abs(rain[0] - rain[1]).mean() < 0.35 * np.abs(rain[2] - rain[1]).mean()
    centres = [ndimage.center_of_mass(field) for field in rain[:2]]
    assert centres[0] == pytest.approx(centres[1], abs=1.5)


def test_each_step_interpolates_the_one_before_it():
    # One frame that stands still between two equal ones has no flow; the forecast is the frame.
    x, y = grid()
    frames = as_batch([blobs(x, y)] * 2)
    kept = torch.where(frames[:, -1:] >= 0.28, frames[:, -1:], 0.0)
    still = Rover("linear").forecast(frames, 3)
    torch.testing.assert_close(still, kept.expand_as(still), atol=0, rtol=0)
    # In motion by half a pixel it blurs with every step: what is in the peaks goes down.
    spots = np.where(np.hypot(x % 16 - 8, y % 16 - 8) < 2, 0.9, 0.3)
    drift = Rover("linear").forecast(as_batch([spots, ndimage.shift(spots, (0, 0.5), order=1)]), 12)
    highest = drift[0, :, 0, 32:-32, 32:-32].amax(dim=(1, 2))
    assert (highest.diff() <= 1e-6).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_noise_moves_nothing_and_is_not_forecast(transform):
    x, y = grid()
    noise = np.random.default_rng(2).uniform(0.01, 0.279, (2, 128, 128))
    noisy = Rover(transform).forecast(as_batch(noise), 4)
    assert torch.equal(noisy, torch.zeros_like(noisy))
    rain = [np.where(blobs(x - 2 * t, y) >= 0.28, blobs(x - 2 * t, y), 0) for t in range(2)]
    among_noise = [np.where(field > 0, field, own) for field, own in zip(rain, noise, strict=True)]
    assert torch.equal(
        Rover(transform).forecast(as_batch(among_noise), 4),
        Rover(transform).forecast(as_batch(rain), 4),
    )


def test_pixels_that_never_count_neither_move_nor_steer():
    x, y = grid()
    frames = [blobs(x - 3 * t, y) for t in range(2)]
    clutter = np.random.default_rng(0).random(x.shape) < 0.02
    cluttered = [np.where(clutter, 0.9, frame) for frame in frames]
    without = [np.where(clutter, 0.0, frame) for frame in frames]
    found = Rover("linear", clutter).forecast(as_batch(cluttered), 3)
    assert torch.equal(found, Rover("linear").forecast(as_batch(without), 3))
    assert not torch.equal(found, Rover("linear").forecast(as_batch(cluttered), 3))
    with pytest.raises(InputError, match=r"found frames of \(128, 128\), expected \(2, 2\)"):
        Rover("linear", clutter[:2, :2]).forecast(as_batch(frames), 3)


def test_the_bound_of_noise_is_open():
    # 0.28 itself counts, 71/255 is noise, 72/255 is rain: as the archive's rule on stored values.
    frame = np.zeros((16, 16))
    frame[4, 4], frame[8, 8], frame[12, 12] = 71 / 255, 72 / 255, np.float32(0.28)
    forecast = Rover("linear").forecast(as_batch([frame, frame]), 1)[0, 0, 0]
    assert forecast[4, 4] == 0
    assert forecast[8, 8] == np.float32(72 / 255)
    assert forecast[12, 12] == np.float32(0.28)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_dry_past_has_a_dry_future(transform):
    forecast = Rover(transform).forecast(torch.zeros(2, 5, 1, 30, 17), 6)
    assert torch.equal(forecast, torch.zeros(2, 6, 1, 30, 17))


@given(
    frames=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 2), st.integers(2, 4), st.just(1), st.integers(2, 40),
                  st.integers(2, 40)),
        elements=st.floats(-2, 2, width=32) | st.just(np.nan),
    ),
    transform=st.sampled_from(TRANSFORMS),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_whatever_comes_in_pixel_values_come_out(frames, transform):
    forecast = Rover(transform).forecast(torch.from_numpy(frames), 3)
    assert forecast.shape == (len(frames), 3, *frames.shape[2:])
    assert torch.isfinite(forecast).all()
    assert ((forecast >= 0) & (forecast <= 1)).all()


def test_a_batch_is_each_alone_and_dtype_is_kept():
    x, y = grid(64)
    frames = torch.cat([as_batch([blobs(x, y), blobs(x - dx, y)]) for dx in (1, -2)]).double()
    together = Rover("arctangent").forecast(frames, 2)
    assert together.dtype == torch.float64
    for own, alone in zip(together, frames.split(1), strict=True):
        assert torch.equal(own[None], Rover("arctangent").forecast(alone, 2))
    assert isinstance(Rover("linear"), NowcastMethod)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 24, 24), (1, 2, 2, 24, 24), (2, 1, 24, 24), (1, 2, 1, 1, 24)]
)
def test_unfit_frames_are_refused_in_one_line(shape):
    with pytest.raises(InputError) as refused:
        Rover("linear").forecast(torch.zeros(shape), 2)
    assert "\n" not in str(refused.value)
    assert str(shape) in str(refused.value)


def test_another_transform_is_refused():
    with pytest.raises(InputError, match="'log', expected linear or arctangent"):
        Rover("log")


def test_it_beats_persistence_on_a_real_rain_band(shared):
    # FMI 2016-09-28 16:00 UTC, averaged to 2 km, 20 lead times of 5 minutes.
    with xr.open_dataset(shared / "real-radar/events/fmi_20160928.nc") as event:
        relation = ZRRelation(event.attrs["zr_a"], event.attrs["zr_b"])
        reflectivity_dbz = event["reflectivity"][14:36].values.astype(np.float64)
    rate_mm_h = relation.dbz_to_rain_rate(reflectivity_dbz).reshape(22, 613, 2, 380, 2).mean((2, 4))
    observed = np.isfinite(rate_mm_h)
    pixels = np.nan_to_num(rain_rate_to_pixel(np.where(observed, rate_mm_h, 0)).clip(0, 1))

    def csi(method):
        forecast = method.forecast(as_batch(pixels[:2]), 20)[0, :, 0].double().numpy()
        said = (pixel_to_rain_rate(forecast) >= 0.5) & observed[2:]
        was = rate_mm_h[2:] >= 0.5
        return ((said & was).sum((1, 2)) / (said | was).sum((1, 2))).mean()

    persistence = csi(Persistence())
    assert csi(Rover("linear")) > persistence + 0.05
    assert csi(Rover("arctangent")) > persistence + 0.02
