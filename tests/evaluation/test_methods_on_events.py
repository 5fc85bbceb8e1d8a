"""Every method on every real event that is long enough for it."""

from collections import Counter

import numpy as np
import pytest
import torch

from nowcast.evaluation.methods import MethodSettings
from nowcast.radar.event_sources import open_event
from nowcast.radar.store import FrameStore, Sequence
from nowcast.radar.store_writing import write_store
from nowcast.radar.units import rain_rate_to_pixel
from nowcast.training.data import DataSettings
from nowcast.verification.running import forecast_members

pytest.importorskip("pysteps", reason="pysteps is not installed: pip install 'nowcast[pysteps]'")

SIDE, INPUTS = 96, 5
OURS = ("persistence", "optical flow", "ROVER", "ROVER linear")
THEIRS = ("pysteps extrapolation", "S-PROG", "S-PROG mean", "ANVIL", "STEPS")
# OPERA's 13 frames leave 8 to forecast.
EVENTS = {
    "fmi_20160928": 20,
    "fmi_20170509": 20,
    "knmi_20100826": 20,
    "mrms_20190610_crop": 20,
    "opera_cirrus_20241126_crop": 8,
}


def wettest(frame):
    """Row and column of the square with most rain among those half a side apart."""
    rainy = np.nan_to_num(frame) >= 1
    corners = [
        (row, column)
        for row in range(0, frame.shape[0] - SIDE + 1, SIDE // 2)
        for column in range(0, frame.shape[1] - SIDE + 1, SIDE // 2)
    ]
    return max(corners, key=lambda c: rainy[c[0] : c[0] + SIDE, c[1] : c[1] + SIDE].sum())


class Crop:
    """Frames of a square of an event, read when the store is written."""

    def __init__(self, event, last):
        self.event = event
        (frame,) = event.reader.taken(range(last, last + 1)).rain_rates(Counter())
        self.row, self.column = wettest(frame)

    def __call__(self, numbers):
        rates = self.event.reader.taken(numbers).rain_rates(Counter())
        square = np.stack(
            [r[self.row : self.row + SIDE, self.column : self.column + SIDE] for r in rates]
        )
        with np.errstate(divide="ignore"):
            pixels = np.clip(rain_rate_to_pixel(np.nan_to_num(square).astype(np.float64)), 0, 1)
        return np.rint(255 * pixels).astype(np.uint8), np.isfinite(square)


@pytest.fixture(params=list(EVENTS))
def clip(request, shared, tmp_path):
    """Settings and one clip of an event, cut out of it without coarsening."""
    lead_times = EVENTS[request.param]
    event = open_event(shared / "real-radar/events" / f"{request.param}.nc")
    length = INPUTS + lead_times
    place = Sequence(request.param, "test", event.times[:length], {"grid_spacing_km": 1.0})
    write_store(
        tmp_path / "crop.h5", [place], list(range(length)), Crop(event, INPUTS - 1),
        frame_shape=(SIDE, SIDE), step_minutes=event.step_minutes, preparation={},
        fingerprint=request.param, workers=1,
    )  # fmt: skip
    data = DataSettings(
        tmp_path / "crop.h5", step_minutes=event.step_minutes, lead_times=lead_times
    )
    store = FrameStore(data.store)
    frames, _, times = store.read(store.sequences[0], store.sequences[0].times[0], length)
    return data, torch.from_numpy(frames / np.float32(255))[None, :, None], times


@pytest.mark.slow
def test_every_method_forecasts_every_event(clip):
    data, pixels, times = clip
    inputs, truth = pixels[:, :INPUTS], pixels[:, INPUTS:]
    assert (truth > 0.3).any()
    methods = MethodSettings((*OURS, *THEIRS), members=3, device="cpu").open(data, "test")
    assert list(methods) == [*OURS, *THEIRS]
    for name, method in methods.items():
        found = forecast_members(
            name, method, inputs, ("over here",), times[INPUTS - 1 : INPUTS], data.lead_times
        )
        members = 3 if name == "STEPS" else 1
        assert found.shape == (1, members, data.lead_times, 1, SIDE, SIDE)
        assert found.min() >= 0
        assert found.max() <= 1
        # The first forecast has rain, and is nearer to what came than a dry one.
        first = found[:, 0, 0]
        assert (first > 0.3).any(), name
        assert (first - truth[:, 0]).abs().mean() < truth[:, 0].abs().mean(), name
