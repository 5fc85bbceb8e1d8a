"""Large grids in tiles: the same forecast, and no seam where they meet."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nowcast
from nowcast.models import tiles
from nowcast.models.checkpoint import Description, TrainedNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.persistence import Persistence
from nowcast.models.settings import NetworkSettings
from nowcast.models.tiles import forecast_in_tiles
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel


@given(side=st.integers(1, 9000), largest=st.integers(30, 1500), overlap=st.integers(0, 29))
def test_tiles_are_alike_fit_and_overlap(side, largest, overlap):
    spans = tiles._spans(side, largest, overlap)
    assert spans[0].start == 0
    assert spans[-1].stop == side
    lengths = {span.stop - span.start for span in spans}
    assert len(lengths) == 1
    assert lengths.pop() <= max(largest, min(side, largest))
    for before, after in pairwise(spans):
        # Rounding to whole pixels may take one.
        assert before.stop - after.start >= overlap - 1


def test_a_grid_that_fits_is_forecast_as_it_is():
    frames = torch.rand(1, 3, 1, 40, 50)
    seen = []

    def forecast(part, lead_times):
        seen.append(part)
        return part[:, -1:]

    assert forecast_in_tiles(forecast, frames, 1, 50, 10) is not None
    assert seen[0] is frames


def test_a_method_that_looks_at_each_pixel_alone_gives_the_same_in_tiles():
    frames = torch.rand(2, 3, 1, 130, 210)
    frames[frames < 0.3] = 0
    whole = Persistence().forecast(frames, 2)
    found = forecast_in_tiles(Persistence().forecast, frames, 2, 60, 20)
    assert found.shape == whole.shape
    torch.testing.assert_close(found, whole, rtol=0, atol=2e-6)


def test_from_one_tile_to_the_next_it_goes_in_even_steps():
    """Two tiles of 60 columns on 100: 1 mm/h and 3 mm/h, linear over the 20 that they share."""
    rates = iter([1.0, 3.0])

    def constant(frames, lead_times):
        pixel = float(rain_rate_to_pixel(next(rates)))
        return frames.new_full((1, lead_times, *frames.shape[2:]), pixel)

    found = forecast_in_tiles(constant, torch.zeros(1, 2, 1, 30, 100), 1, 60, 20)
    rain = pixel_to_rain_rate(found[0, 0, 0].double()).numpy()
    expected = np.interp(np.arange(100) + 0.5, [40, 60], [1.0, 3.0])
    np.testing.assert_allclose(rain, np.broadcast_to(expected, (30, 100)), rtol=1e-4)


def trained(coordinates):
    torch.manual_seed(1)
    shape = NetworkSettings(
        hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6), coordinates=coordinates
    )
    about = {"step_minutes": 6, "input_frames": 5, "lead_times": 20, "frame_shape": (60, 90)}
    return TrainedNetwork(
        EncoderForecaster(shape).eval(), Description(shape, **about, inhibition=None, run={})
    )


@pytest.mark.parametrize("coordinates", [False, True])
def test_trained_networks_cut_large_grids_unless_coordinates_forbid_it(monkeypatch, coordinates):
    monkeypatch.setattr(tiles.forecast_in_tiles, "__defaults__", (60, 30))
    model, shapes = trained(coordinates), []
    frames = torch.rand(1, 5, 1, 60, 90)

    def remember(module, inputs):
        shapes.append(tuple(inputs[0].shape[-2:]))

    model.network.register_forward_pre_hook(remember)
    assert model.forecast(frames, 2).shape == (1, 2, 1, 60, 90)
    assert shapes == ([(60, 90)] if coordinates else [(60, 60), (60, 60)])


def seam(rain, borders, axis):
    """How much rain changes over a border, beside what it does from line to line near it."""
    change = np.abs(np.diff(rain, axis=axis)).mean(axis=1 - axis)
    near = [change[border - 25 : border + 25].mean() for border in borders]
    return np.array([change[border - 1] for border in borders]) / near


def test_on_real_rain_there_is_no_seam(shared):
    """Over a tile's border rain changes no more than elsewhere; cut without overlap it does."""
    frames = nowcast.read_frames(shared / "real-radar/events/fmi_20160928.nc")[10:15]
    rates = frames[:, 200:1000, 30:730].coarsen(y=2, x=2).mean().to_numpy()
    pixels = np.where(rates > 0, rain_rate_to_pixel(np.where(rates > 0, rates, 1)), 0).clip(0, 1)
    clip = torch.from_numpy(pixels.astype(np.float32))[None, :, None]
    network = nowcast.load("convgru-5min").network

    def forecast(side, overlap):
        made = forecast_in_tiles(network.forecast, clip, 20, side, overlap)[0, :, 0].numpy()
        return np.where(made > 0, pixel_to_rain_rate(made), 0)

    whole, blended, cut = forecast(400, 0), forecast(240, 80), forecast(200, 0)
    rows = [span.stop for span in tiles._spans(400, 240, 80)[:-1]]
    rows += [span.start for span in tiles._spans(400, 240, 80)[1:]]
    columns = [span.stop for span in tiles._spans(350, 240, 80)[:-1]]
    columns += [span.start for span in tiles._spans(350, 240, 80)[1:]]

    def worst(made, leads, rows, columns):
        found = [seam(made[lead], rows, 0) for lead in leads]
        return np.mean([*found, *(seam(made[lead], columns, 1) for lead in leads)], axis=0)

    leads = (5, 9, 14, 19)
    ours = worst(blended, leads, rows, columns)
    usual = worst(whole, leads, rows, columns)
    hard = worst(cut, leads, [200], [175])
    assert (ours < 1.15 * usual).all(), (ours, usual)
    assert (hard > 1.3).all(), hard
    # And the forecast is the one of the whole grid, but for what a tile cannot know.
    for lead, least in ((0, 0.95), (5, 0.85), (19, 0.6)):
        both = (blended[lead] >= 0.5) & (whole[lead] >= 0.5)
        either = (blended[lead] >= 0.5) | (whole[lead] >= 0.5)
        assert both.sum() > least * either.sum()
