"""Power spectra against pysteps and closed forms."""

import numpy as np
import pytest
import torch

from nowcast.errors import InputError
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
from nowcast.verification.fields import rain_rates
from nowcast.verification.spectra import Spectra

SIZES = [(16, 16), (15, 15), (16, 23), (23, 16), (17, 32), (32, 17), (12, 30), (3, 3)]


def fields(size, batch=1, lead_times=1, seed=0):
    generator = np.random.default_rng(seed)
    shape = (batch, lead_times, 1, *size)
    forecast, truth = generator.random((2, *shape), dtype=np.float32)
    forecast[forecast < 0.3] = 0.0
    truth[truth < 0.5] = 0.0
    return forecast, truth, np.ones(shape, bool)


def accumulated(forecast, truth, mask):
    spectra = Spectra(forecast.shape[1], forecast.shape[3:])
    spectra.update(torch.from_numpy(forecast), torch.from_numpy(truth), torch.from_numpy(mask))
    return spectra


def rates_of(pixels):
    """In double precision, by the room's definition; pixel value 0 is dry."""
    return np.where(pixels > 0, pixel_to_rain_rate(pixels.astype(np.float64)), 0.0)


@pytest.mark.parametrize("size", SIZES)
def test_pysteps_gives_the_same(size):
    spectral = pytest.importorskip("pysteps.utils.spectral", reason="pysteps is the reference")
    forecast, truth, mask = fields(size, batch=2, lead_times=2)
    mask[:, :, :, 2:5, 1:3] = False
    spectra = accumulated(forecast, truth, mask)
    found = spectra.compute()
    for lead_time in range(2):
        expected = []
        for field in (forecast, truth):
            each = [
                spectral.rapsd(
                    rates_of(np.where(mask, field, 0.0)[clip, lead_time, 0]),
                    fft_method=np.fft,
                    return_freq=True,
                    d=1.0,
                )
                for clip in range(2)
            ]
            expected.append(np.mean([power for power, _ in each], axis=0)[1:])
        frequency = each[0][1][1:]
        np.testing.assert_allclose(found["power_forecast"][lead_time], expected[0], rtol=1e-9)
        np.testing.assert_allclose(found["power_observed"][lead_time], expected[1], rtol=1e-9)
        np.testing.assert_allclose(
            found["power_ratio"][lead_time], expected[0] / expected[1], rtol=1e-9
        )
    np.testing.assert_allclose(
        spectra.coordinates["wavelength_pixels"], 1.0 / frequency, rtol=1e-12
    )


@pytest.mark.parametrize("waves", [1, 3, 7])
def test_a_plane_wave_has_one_wavelength(waves):
    """A wave of amplitude b has |F|² / N = N b² / 4 at each of its two wavenumbers."""
    size, amplitude = 24, 1.5
    rate = 4.0 + amplitude * np.cos(2 * np.pi * waves * np.arange(size) / size)
    truth = np.broadcast_to(rain_rate_to_pixel(rate), (1, 1, 1, size, size)).astype(np.float32)
    spectra = accumulated(truth, truth, np.ones(truth.shape, bool))
    ring = [
        1
        for y in range(-size // 2, size // 2)
        for x in range(-size // 2, size // 2)
        if round(np.hypot(x, y)) == waves
    ]
    power = spectra.compute()["power_observed"][0]
    assert power[waves - 1] == pytest.approx(size**2 * amplitude**2 / 2 / len(ring), rel=1e-5)
    assert np.delete(power, waves - 1).max() < 1e-8
    assert spectra.coordinates["wavelength_pixels"][waves - 1] == size / waves


def test_a_blurred_forecast_lacks_short_wavelengths():
    _, truth, mask = fields((64, 64), batch=2)
    rates = rates_of(truth)
    blurred = sum(np.roll(rates, (y, x), (-2, -1)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
    forecast = np.where(blurred > 0.02, rain_rate_to_pixel(np.maximum(blurred, 0.02)), 0.0)
    ratio = accumulated(forecast.astype(np.float32), truth, mask).compute()["power_ratio"][0]
    # A boxcar of 3 is (1 + 2 cos k) / 3 along an axis, 1/9 of the amplitude at its zero's far side.
    assert ratio[0] > 0.95
    assert ratio[-5:].max() < 0.1


def test_masked_pixels_are_dry_in_both():
    forecast, truth, mask = fields((15, 20), lead_times=2)
    mask[..., 3:9, 4:11] = False
    hidden = forecast.copy(), truth.copy()
    for field in hidden:
        field[~mask] = np.nan
    found = accumulated(*hidden, mask).compute()
    dry = [np.where(mask, field, np.float32(0)) for field in (forecast, truth)]
    expected = accumulated(*dry, np.ones_like(mask)).compute()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_parts_merge():
    forecast, truth, mask = fields((16, 17), batch=3, lead_times=2)
    whole = accumulated(forecast, truth, mask)
    parts = [
        accumulated(*(field[part] for field in (forecast, truth, mask)))
        for part in (slice(0, 1), slice(1, 3))
    ]
    merged = parts[0].merge(parts[1])
    assert merged.clips == whole.clips == 3
    for name, values in whole.compute().items():
        np.testing.assert_allclose(merged.compute()[name], values, rtol=1e-12)
    with pytest.raises(InputError, match="wavelength_pixels"):
        whole.merge(Spectra(2, (16, 19)))
    # As many rings of the same wavelengths, of which each holds others.
    with pytest.raises(InputError, match=r"frames of \(20, 20\).* expected .*frames of \(12, 20\)"):
        Spectra(2, (12, 20)).merge(Spectra(2, (20, 20)))


def test_many_small_clips_are_taken_a_few_at_a_time(monkeypatch):
    forecast, truth, mask = fields((8, 9), batch=7)
    whole = accumulated(forecast, truth, mask)
    monkeypatch.setattr("nowcast.verification.spectra.PIXELS_AT_A_TIME", 3 * 8 * 9)
    in_threes = accumulated(forecast, truth, mask)
    for name, values in whole.sums.items():
        np.testing.assert_allclose(in_threes.sums[name], values, rtol=1e-12)


def test_ratio_of_nothing_is_undefined():
    forecast, _, mask = fields((9, 9))
    dry = np.zeros_like(forecast)
    assert np.isnan(accumulated(dry, dry, mask).compute()["power_ratio"]).all()
    assert np.isnan(accumulated(forecast, dry, mask).compute()["power_ratio"]).all()
    assert (accumulated(dry, forecast, mask).compute()["power_ratio"] == 0).all()
    assert np.isnan(Spectra(1, (9, 9)).compute()["power_forecast"]).all()


def test_scores_of_several_sums_at_once():
    sums = [accumulated(*fields((9, 12), lead_times=2, seed=seed)).sums for seed in range(3)]
    spectra = Spectra(2, (9, 12))
    together = spectra.summary_from(
        {name: np.stack([one[name] for one in sums]) for name in sums[0]}
    )
    for name, values in together.items():
        expected = np.stack([spectra.summary_from(one)[name] for one in sums])
        np.testing.assert_array_equal(values, expected)
        assert values.shape == (3, len(spectra.coordinates["wavelength_pixels"]))


def test_rain_rates_are_those_of_the_units_and_0_at_pixel_value_0():
    pixels = torch.linspace(0.0, 1.0, 256, dtype=torch.float64)
    found = rain_rates(pixels).numpy()
    assert found[0] == 0.0
    np.testing.assert_allclose(found[1:], pixel_to_rain_rate(pixels).numpy()[1:], rtol=1e-13)
    single = rain_rates(pixels.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), found, rtol=3e-6)


def test_bad_input_is_refused():
    forecast, truth, mask = fields((9, 12), lead_times=2)
    spectra = Spectra(2, (9, 12))
    with pytest.raises(InputError, match=r"found frames of \(9, 11\), expected \(9, 12\)"):
        spectra.update(forecast[..., :11], truth[..., :11], mask[..., :11])
    forecast[0, 1, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN at lead time 2"):
        spectra.update(forecast, truth, mask)
    assert spectra.clips == 0
    assert all((values == 0).all() for values in spectra.sums.values())
    with pytest.raises(InputError, match="at least 3"):
        Spectra(2, (2, 9))
