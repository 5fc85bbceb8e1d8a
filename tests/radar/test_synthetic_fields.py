"""What synthetic rain is made of has its closed forms: field, cells, flow, interpolation."""

import numpy as np
import pytest

from nowcast.radar.synthetic_fields import Cells, Flow, GaussianField, sample_periodic


def test_gaussian_field_has_variance_one_and_the_stated_slopes():
    fields = [
        GaussianField(256, 2.0, 6.0, 120.0, 1.0, 0.0, np.random.default_rng(seed)).values()
        for seed in range(60)
    ]
    assert np.mean(np.square(fields)) == pytest.approx(1.0, abs=0.08)
    assert np.abs(np.mean(fields, axis=(1, 2))).max() < 1e-5
    index = np.fft.fftfreq(256, 2.0)
    cycles_km = np.hypot(index, index[:, None])
    power = np.mean(np.abs(np.fft.fft2(fields)) ** 2, axis=0)
    stated = (cycles_km**2 + 300.0**-2) ** -1.3 * (1 + (30 * cycles_km) ** 2) ** -0.3
    stated[0, 0] = 0
    stated *= 256**4 / stated.sum()
    # Rows and columns of every kind, the unpaired ones of a half spectrum among them.
    for part in (np.s_[1:, 0], np.s_[0, 1:], np.s_[:, 128], np.s_[128, :], np.s_[1:, 1:]):
        ratio = (power[part] / stated[part]).mean()
        assert ratio == pytest.approx(1.0, abs=0.05)


def test_correlation_in_time_follows_the_closed_form_and_small_scales_forget_first():
    step, lifetime, side, pixel_km = 6.0, 60.0, 256, 2.0
    field = GaussianField(side, pixel_km, step, lifetime, 1.0, 0.0, np.random.default_rng(8))
    spectra = []
    for _ in range(11):
        spectra.append(np.fft.fft2(field.values()))
        field.advance()
    index = np.fft.fftfreq(side, pixel_km)
    wavelength_km = 1 / np.maximum(np.hypot(index, index[:, None]), 1e-9)
    found = []
    for centre_km in (8.0, 16.0, 32.0, 64.0):
        ring = np.abs(np.log(wavelength_km / centre_km)) < 0.15
        first, last = spectra[0][ring], spectra[10][ring]
        correlation = np.real(first * last.conj()).sum() / np.sqrt(
            (np.abs(first) ** 2).sum() * (np.abs(last) ** 2).sum()
        )
        # Ten steps of an auto-regression with double root r: (1 + n (1-r²)/(1+r²)) rⁿ.
        root = np.exp(-step * 2.1462 / (lifetime * (centre_km / 32.0) ** 0.8))
        closed = (1 + 10 * (1 - root**2) / (1 + root**2)) * root**10
        # Half of the ring's coefficients are independent; three standard errors.
        assert correlation == pytest.approx(closed, abs=3 / np.sqrt(ring.sum() / 2) + 0.02)
        found.append(correlation)
    assert found == sorted(found)
    assert found[2] == pytest.approx(np.exp(-1), abs=0.2)


class OneCell:
    """In place of random numbers: one birth, then none, of a cell that is known."""

    def __init__(self):
        self.births = [1]
        self.drawn = iter([4.0, 0.5, 0.7, 60.0])

    def poisson(self, mean):
        return self.births.pop() if self.births else 0

    def integers(self, high, size):
        return np.zeros(size, int)

    def normal(self, mean, deviation, size):
        return np.full(size, 45.0)

    def uniform(self, low, high, size):
        return np.full(size, next(self.drawn))


def test_a_cell_near_a_corner_has_its_closed_form_at_birth_in_life_and_none_in_death():
    side, row, column = 64, 1, 62
    suitable = np.zeros((side, side), bool)
    suitable[row, column] = True
    cells = Cells(side, 1.0, 6.0, 1.0, (60.0, 60.0), OneCell())
    assert (cells.reflectivity_dbz() == -60).all()
    # Distances the short way round the periodic square; axes of 4 and 2 km, turned by 0.7.
    south, east = np.indices((side, side))
    south, east = ((d + side // 2) % side - side // 2 for d in (south - row, east - column))
    along = np.cos(0.7) * east + np.sin(0.7) * south
    across = np.cos(0.7) * south - np.sin(0.7) * east
    for advances in range(11):
        cells.advance(suitable)
        found = cells.reflectivity_dbz()
        if advances == 10:
            assert (found == -60).all(), "gone at the age of 60 minutes"
            break
        stage = np.sin(np.pi * (advances / 10) ** 0.7)
        long_px, short_px = (np.hypot(km * (0.6 + 0.4 * stage), 0.5) for km in (4.0, 2.0))
        form = np.exp(-((along / long_px) ** 2 + (across / short_px) ** 2) / 2)
        with np.errstate(divide="ignore"):
            expected = 45.0 - 25.0 * (1 - stage) + 10 * np.log10(form)
        seen = expected >= -5
        assert {seen[0, 0], seen[0, -1], seen[-1, -1]} == {True} or advances == 0
        np.testing.assert_allclose(found[seen], expected[seen], rtol=0, atol=1e-3)
        assert found[~seen].max() < -5 + 1e-3


def test_flow_without_shear_is_a_shift_by_wind_and_time():
    random = np.random.default_rng(3)
    flow = Flow(40, 2.0, speed_km_h=30.0, direction=0.5, turning=0.0, shear=0.0, random=random)
    rows, columns = np.indices((40, 40))
    for hours in (0.0, 1.0, 7.5):
        x, y = flow.origin(hours)
        np.testing.assert_allclose(columns - x, 15 * hours * np.cos(0.5), atol=1e-4)
        np.testing.assert_allclose(rows - y, 15 * hours * np.sin(0.5), atol=1e-4)


def test_a_turning_wind_leads_round_a_circle():
    random = np.random.default_rng(3)
    flow = Flow(8, 1.0, 20.0, direction=0.3, turning=2 * np.pi / 10, shear=0.0, random=random)
    start, half, whole = (flow.origin(hours) for hours in (0.0, 5.0, 10.0))
    np.testing.assert_allclose(whole, start, atol=1e-4)
    # Half way round it is a diameter away: speed × time / π × 2.
    away = np.hypot(*(half - start))
    np.testing.assert_allclose(away, 20 * 10 / np.pi, rtol=1e-5)


def test_the_flow_never_folds():
    for seed in range(20):
        random = np.random.default_rng(seed)
        flow = Flow(64, 8.0, 60.0, 0.0, 0.1, shear=0.15, random=random)
        for hours in (0.0, 12.0, 24.0):
            x, y = flow.origin(hours).astype(np.float64)
            (x_down, x_right), (y_down, y_right) = np.gradient(x), np.gradient(y)
            assert (x_right * y_down - x_down * y_right).min() > 0.2


def test_periodic_sampling_is_exact_on_the_grid_and_across_the_edges():
    field = np.random.default_rng(4).random((20, 20), dtype=np.float32)
    rows, columns = np.indices((20, 20), dtype=np.float32)
    sampled = sample_periodic(field, np.stack([columns - 27, rows + 46]))
    np.testing.assert_array_equal(sampled, np.roll(field, (-46, 27), axis=(0, 1)))
