"""Motion is recovered, extrapolation is exact where theory says so, and skill on real rain."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nowcast.errors import InputError
from nowcast.method import NowcastMethod
from nowcast.models.optical_flow import OpticalFlow, estimate_motion, extrapolate
from nowcast.models.persistence import Persistence
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel

SIDE = 96


def rain_like(x, y):
    """A smooth analytic field of pixel values in [0.2, 0.8], to be sampled anywhere."""
    waves = (
        np.sin(0.31 * x + 0.13 * y)
        + np.sin(-0.17 * x + 0.29 * y + 1)
        + np.sin(0.11 * x - 0.23 * y + 2)
        + np.sin(0.07 * x + 0.19 * y + 3)
    )
    return (0.5 + 0.075 * waves).astype(np.float32)


def grid(side=SIDE):
    y, x = np.mgrid[:side, :side].astype(np.float64)
    return x, y


def as_batch(frames):
    return torch.from_numpy(np.stack(frames))[None, :, None]


@pytest.mark.parametrize(
    ("motion_x", "motion_y"), [(2.4, 0.0), (0.0, -3.3), (-1.7, 2.6), (4.25, 3.5)]
)
@pytest.mark.parametrize("pairs", [1, 3])
def test_translation_by_a_known_vector_is_recovered(motion_x, motion_y, pairs):
    x, y = grid()
    frames = np.stack([rain_like(x - motion_x * t, y - motion_y * t) for t in range(4)])
    motion = estimate_motion(frames, pairs)
    inside = motion[:, 16:-16, 16:-16]
    assert np.median(inside[0]) == pytest.approx(motion_x, abs=0.1)
    assert np.median(inside[1]) == pytest.approx(motion_y, abs=0.1)
    error = np.hypot(inside[0] - motion_x, inside[1] - motion_y)
    assert np.quantile(error, 0.9) < 0.3


def test_solid_body_rotation_is_recovered():
    x, y = grid()
    centre, angle = (SIDE - 1) / 2, 0.05
    frames = []
    for turned in (0.0, angle):
        back_x = centre + np.cos(turned) * (x - centre) + np.sin(turned) * (y - centre)
        back_y = centre - np.sin(turned) * (x - centre) + np.cos(turned) * (y - centre)
        frames.append(rain_like(back_x, back_y))
    motion = estimate_motion(np.stack(frames))
    # The motion is that of the air which has arrived: position now minus position before.
    true_x, true_y = x - back_x, y - back_y
    inside = np.s_[12:-12, 12:-12]
    error = np.hypot(motion[0] - true_x, motion[1] - true_y)[inside]
    assert np.median(error) < 0.1
    assert np.quantile(error, 0.95) < 0.4


def test_solid_body_rotation_is_extrapolated_along_circles():
    x, y = grid()
    centre, rate = (SIDE - 1) / 2, 0.06
    motion = np.stack([-rate * (y - centre), rate * (x - centre)])
    moved = extrapolate(rain_like(x, y), motion, 10)
    # The midpoint rule maps z to (1 - i w - w²/2) z: rotation by arctan(w / (1 - w²/2)) and
    # stretching by sqrt(1 + w⁴/4), with complex position z about the centre.
    back = (1 - 1j * rate - rate**2 / 2) ** 10 * (x - centre + 1j * (y - centre))
    expected = rain_like(back.real + centre, back.imag + centre)
    inside = np.hypot(x - centre, y - centre) < 40
    # What is left is bilinear interpolation: second derivative below 0.015 per pixel², over 8.
    assert np.abs(moved[-1] - expected)[inside].max() < 0.004


@given(
    speed_x=st.floats(-3, 3),
    speed_y=st.floats(-3, 3),
    slope_x=st.floats(-0.01, 0.01),
    slope_y=st.floats(-0.01, 0.01),
)
@settings(max_examples=30, deadline=None)
def test_a_linear_field_in_uniform_motion_is_exact(speed_x, speed_y, slope_x, slope_y):
    x, y = grid(40)
    field = 0.5 + slope_x * x + slope_y * y
    motion = np.stack([np.full_like(x, speed_x), np.full_like(x, speed_y)])
    moved = extrapolate(field, motion, 4)
    for lead in range(1, 5):
        expected = 0.5 + slope_x * (x - lead * speed_x) + slope_y * (y - lead * speed_y)
        np.testing.assert_allclose(
            moved[lead - 1, 13:-13, 13:-13], expected[13:-13, 13:-13], atol=2e-6
        )


def test_whole_pixel_motion_moves_the_field_and_lets_nothing_in():
    field = np.random.default_rng(3).random((30, 30), dtype=np.float32) + 0.1
    motion = np.zeros((2, 30, 30), np.float32)
    motion[0], motion[1] = 2.0, -1.0
    moved = extrapolate(field, motion, 20)
    for lead in (1, 5, 14):
        expected = np.zeros_like(field)
        expected[: 30 - lead, 2 * lead :] = field[lead:, : 30 - 2 * lead]
        np.testing.assert_array_equal(moved[lead - 1], expected)
    assert (moved[14:] == 0).all()


def test_still_air_is_persistence():
    still = torch.rand(1, 1, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    frames = still.repeat(1, 5, 1, 1, 1)
    for pairs in (1, 4):
        forecast = OpticalFlow(pairs).forecast(frames, 6)
        # To rain rate and back in single precision.
        torch.testing.assert_close(forecast, Persistence().forecast(frames, 6), atol=1e-6, rtol=0)


def test_no_rain_stays_no_rain():
    forecast = OpticalFlow(pairs=2).forecast(torch.zeros(2, 5, 1, 24, 36), 7)
    assert forecast.shape == (2, 7, 1, 24, 36)
    assert torch.equal(forecast, torch.zeros(2, 7, 1, 24, 36))


def test_noise_below_a_tenth_of_a_millimetre_per_hour_has_no_motion():
    noise = np.random.default_rng(5).random((2, 40, 40), dtype=np.float32)
    frames = noise * float(rain_rate_to_pixel(0.1))
    assert (estimate_motion(frames) == 0).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_batch_is_each_alone_and_no_value_leaves_the_range(seed):
    frames = torch.rand(3, 4, 1, 24, 32, generator=torch.Generator().manual_seed(seed))
    together = OpticalFlow(pairs=2).forecast(frames, 5)
    for index in range(3):
        alone = OpticalFlow(pairs=2).forecast(frames[index : index + 1], 5)
        assert torch.equal(together[index : index + 1], alone)
    assert together.min() >= 0
    # Bilinear weights sum to 1 within single precision.
    assert together.max() <= frames[:, -1].max() + 1e-6


def test_a_dry_pair_has_no_say():
    x, y = grid()
    wet = [rain_like(x - 3 * t, y) for t in range(3)]
    dry = np.zeros_like(wet[0])
    motion = estimate_motion(np.stack([dry, dry, dry, *wet]), pairs=5)
    np.testing.assert_array_equal(motion, estimate_motion(np.stack([dry, *wet]), pairs=3))


def test_of_fewer_frames_all_pairs_are_used():
    x, y = grid()
    frames = np.stack([rain_like(x - 2 * t, y + t) for t in range(3)])
    np.testing.assert_array_equal(estimate_motion(frames), estimate_motion(frames, pairs=2))


def shower(x, y, centre_x, centre_y, width=6.0):
    """Pixel values of one round shower, 0 beyond it."""
    distance = np.hypot(x - centre_x, y - centre_y) / width
    return np.where(distance < 2, 0.7 * np.exp(-0.5 * distance**2), 0.0).astype(np.float32)


def test_a_lone_shower_goes_on_through_dry_air():
    x, y = grid(240)
    frames = np.stack([shower(x, y, 40 + 4 * t, 60 + 3 * t) for t in range(5)])
    moved = extrapolate(frames[-1], estimate_motion(frames), 30)
    # 30 steps of 5 pixels: ten times as far as the Gaussian that a pixel's say is shared by.
    for lead, centre_x, centre_y in ((10, 96, 102), (30, 176, 162)):
        field = moved[lead - 1]
        assert (field * x).sum() / field.sum() == pytest.approx(centre_x, abs=lead / 10)
        assert (field * y).sum() / field.sum() == pytest.approx(centre_y, abs=lead / 10)
        assert field.sum() == pytest.approx(frames[-1].sum(), rel=0.1)


def test_showers_far_apart_keep_their_own_motion():
    x, y = grid(160)
    frames = np.stack(
        [np.maximum(shower(x, y, 30 + 3 * t, 40), shower(x, y, 130 - 3 * t, 120)) for t in range(5)]
    )
    motion = estimate_motion(frames)
    assert motion[:, 40, 42] == pytest.approx([3, 0], abs=0.3)
    assert motion[:, 120, 118] == pytest.approx([-3, 0], abs=0.3)


def test_rain_goes_on_where_coverage_ends():
    x, y = grid(160)
    frames = np.stack([rain_like(x - 3 * t, y) for t in range(5)])
    frames[:, :, 80:] = np.nan
    motion = estimate_motion(frames)[:, 16:-16]
    # Dry is what the images show there, an edge that stands still; DIS is held by it a little.
    assert np.median(np.abs(motion[0, :, 16:48] - 3)) < 0.1
    assert np.median(np.abs(motion[0, :, 72:] - 3)) < 0.4


def test_a_pair_without_coverage_has_no_say():
    x, y = grid(160)
    frames = np.stack([rain_like(x - 3 * t, y) for t in range(5)])
    frames[3:, :, 80:] = np.nan
    lost = np.s_[:, 16:-16, 100:-16]
    truth = np.array([3, 0])[:, None, None]
    error = np.abs(estimate_motion(frames) - truth)[lost]
    # The pair that lost it shows rain that vanishes: as dry, it counts and misleads.
    as_dry = np.abs(estimate_motion(np.nan_to_num(frames)) - truth)[lost]
    assert np.median(error) < 0.1
    assert np.median(error) < 0.5 * np.median(as_dry)


def test_rain_at_an_edge_keeps_coming_in_or_does_not():
    """Rain that has no end goes on for ever with inflow; without, dry air follows it."""
    x, y = grid()
    endless = np.broadcast_to((0.4 + 0.2 * np.sin(0.3 * y)).astype(np.float32), (5, SIDE, SIDE))
    moving = np.stack([rain_like(x - 3 * t, y) for t in range(5)])
    eastward = np.stack([np.full((SIDE, SIDE), 3.0), np.zeros((SIDE, SIDE))])
    with_inflow = extrapolate(endless[-1], eastward, 12, "edge")
    np.testing.assert_allclose(with_inflow, np.broadcast_to(endless[-1], (12, SIDE, SIDE)))
    without = extrapolate(endless[-1], eastward, 12)
    assert (without[-1, :, :36] == 0).all()
    np.testing.assert_array_equal(without[-1, :, 36:], with_inflow[-1, :, 36:])
    # The method passes its choice on: only what has come in differs.
    frames = as_batch(moving)
    dry, wet = (OpticalFlow(inflow=inflow).forecast(frames, 12) for inflow in ("dry", "edge"))
    inside = np.s_[..., 16:-16, 48:]
    assert torch.equal(dry[inside], wet[inside])
    assert (dry[0, -1, 0, 16:-16, :24] == 0).all()
    assert (wet > 0.1).all()


def test_what_is_not_observed_is_forecast_as_dry():
    x, y = grid()
    frames = as_batch([rain_like(x - t, y) for t in range(5)])
    frames[..., :30] = torch.nan
    forecast = OpticalFlow().forecast(frames, 8)
    assert torch.isfinite(forecast).all()
    torch.testing.assert_close(
        forecast[..., -1, :, :20], torch.zeros_like(forecast[..., -1, :, :20])
    )
    assert torch.equal(
        OpticalFlow().forecast(torch.full_like(frames, torch.nan), 3), torch.zeros(1, 3, 1, 96, 96)
    )


@given(
    frames=arrays.arrays(
        np.float32,
        st.tuples(st.just(1), st.integers(2, 6), st.just(1), st.integers(12, 60),
                  st.integers(12, 60)),
        elements=st.floats(-2, 2, width=32) | st.just(np.nan),
    )
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_whatever_comes_in_pixel_values_come_out(frames):
    forecast = OpticalFlow().forecast(torch.from_numpy(frames), 3)
    assert torch.isfinite(forecast).all()
    assert ((forecast >= 0) & (forecast <= 1)).all()


def test_rain_is_interpolated_as_water():
    x, y = grid()
    peaks = np.maximum(0.0, np.sin(0.8 * (x - 0.3)) * np.sin(0.8 * y)) * 0.7
    frames = [
        np.where(np.roll(peaks, t, 1) > 0.3, np.roll(peaks, t, 1), 0).astype(np.float32)
        for t in range(5)
    ]
    forecast = OpticalFlow().forecast(as_batch(frames), 3)[0, -1, 0].numpy()

    def water(pixels):
        inside = pixels[20:-20, 20:-20].astype(np.float64)
        return np.where(inside > 0, pixel_to_rain_rate(inside), 0.0).sum()

    motion = estimate_motion(np.stack(frames))
    assert water(forecast) == pytest.approx(water(frames[-1]), rel=0.03)
    assert water(extrapolate(frames[-1], motion, 3)[-1]) < water(forecast)


def test_dtype_is_kept_and_it_is_a_nowcast_method():
    x, y = grid(48)
    frames = as_batch([rain_like(x, y), rain_like(x - 1, y)]).to(torch.float64)
    assert OpticalFlow().forecast(frames, 1).dtype == torch.float64
    assert isinstance(OpticalFlow(), NowcastMethod)


@pytest.mark.parametrize(
    ("shape", "pairs"),
    [((1, 1, 1, 24, 24), 1), ((1, 3, 1, 8, 24), 1), ((1, 3, 2, 24, 24), 1),
     ((3, 1, 24, 24), 1), ((1, 3, 1, 24, 24), 0)],
)  # fmt: skip
def test_unfit_frames_are_refused_in_one_line(shape, pairs):
    with pytest.raises(InputError) as refused:
        OpticalFlow(pairs).forecast(torch.zeros(shape), 2)
    assert "\n" not in str(refused.value)
    assert str(shape[1:]) in str(refused.value) or str(pairs) in str(refused.value)


@pytest.mark.parametrize("shape", [(12, 12), (12, 65), (65, 12), (31, 120), (15, 700), (700, 15)])
def test_small_and_narrow_grids_have_motion_too(shape):
    # OpenCV's DIS crashes on images like these, or is another one.
    y, x = np.mgrid[: shape[0], : shape[1]]
    frames = np.stack([rain_like(x - t, y) for t in range(3)])
    motion = estimate_motion(frames)
    assert motion.shape == (2, *shape)
    assert np.median(np.hypot(motion[0] - 1, motion[1])) < 0.6


def test_an_inflow_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="found inflow 'Dry', expected dry or edge"):
        extrapolate(np.zeros((4, 5)), np.zeros((2, 4, 5)), 1, "Dry")


def test_motion_of_another_grid_is_refused():
    with pytest.raises(InputError, match=r"\(2, 5, 6\)"):
        extrapolate(np.zeros((6, 5)), np.zeros((2, 5, 6)), 1)


@pytest.mark.slow
def test_skill_on_a_real_rain_band_is_at_least_that_of_an_independent_prototype(shared):
    # FMI 2016-09-28 16:00 UTC, 20 lead times of 5 minutes, full grid; CSI as measured once with
    # an independent implementation of DIS, of the last pair alone, and semi-Lagrangian
    # extrapolation on rain rates; ours averages over pairs and may be better.
    with xr.open_dataset(shared / "real-radar/events/fmi_20160928.nc") as event:
        relation = ZRRelation(event.attrs["zr_a"], event.attrs["zr_b"])
        reflectivity_dbz = event["reflectivity"][11:36].values.astype(np.float64)
    rain_rate_mm_h = relation.dbz_to_rain_rate(reflectivity_dbz)
    observed = np.isfinite(rain_rate_mm_h)
    pixels = np.nan_to_num(rain_rate_to_pixel(np.where(observed, rain_rate_mm_h, 0.0)).clip(0, 1))
    pixels[rain_rate_mm_h < 0.1] = 0.0
    frames = torch.from_numpy(pixels[:5].astype(np.float32))[None, :, None]
    for method, expected in (
        (OpticalFlow(), (0.500, 0.205, 0.102)),
        (Persistence(), (0.418, 0.101, 0.034)),
    ):
        forecast = method.forecast(frames, 20)[0, :, 0].numpy().astype(np.float64)
        forecast_mm_h = np.where(forecast > 0, pixel_to_rain_rate(forecast), 0.0)
        for threshold, csi in zip((0.5, 2.0, 5.0), expected, strict=True):
            per_lead = []
            for predicted, truth, seen in zip(
                forecast_mm_h, rain_rate_mm_h[5:], observed[5:], strict=True
            ):
                yes, happened = predicted[seen] >= threshold, truth[seen] >= threshold
                per_lead.append((yes & happened).sum() / (yes | happened).sum())
            assert csi - 0.002 < np.mean(per_lead) < csi + 0.01
