"""Real rain and the network of the package, for pysteps' tests."""

import numpy as np
import pytest

import nowcast


@pytest.fixture(scope="package")
def observed(shared):
    """Rain over Finland, 160 × 160 pixels of 1 km, without gaps, 17 frames of 5 minutes."""
    frames = nowcast.read_frames(shared / "real-radar/events/fmi_20160928.nc", last=26)
    frames = frames[:17, 740:900, 300:460].load()
    assert np.isfinite(frames).all()
    assert (frames[4] > 0.5).mean() > 0.2
    return frames


@pytest.fixture(scope="package")
def network():
    return nowcast.load("convgru-5min")
