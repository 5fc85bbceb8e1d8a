"""Where pysteps counts other events than the benchmark's scores, and by how much."""

import numpy as np
import pytest

from nowcast.errors import InputError
from nowcast.verification.scores import COUNT_NAMES, Scores

pysteps = pytest.importorskip(
    "pysteps.verification.detcatscores", reason="pysteps is not installed"
)

LEVEL = np.float32((10 * np.log10(58.53) + 15.6 * np.log10(5.0) + 10) / 70)
"""Pixel value of 5 mm/h by HKO-7's Z–R relation, in single precision."""

ABOVE, BELOW = LEVEL + np.float32(0.1), LEVEL - np.float32(0.1)


def test_pysteps_takes_values_above_the_threshold_for_events():
    # Forecast and observed: above, equal or below the threshold, 3, 2 and 1 times.
    pairs = [(ABOVE, ABOVE)] * 3 + [(LEVEL, ABOVE)] * 2 + [(LEVEL, LEVEL)] * 2 + [(BELOW, LEVEL)]
    prediction, truth = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    scores = Scores(1, (5.0,))
    scores.update(*(field.reshape(1, 1, 1, 2, 4) for field in (prediction, truth, truth > 0)))
    ours = scores.compute()
    theirs = pysteps.det_cat_fct_init(LEVEL)
    pysteps.det_cat_fct_accum(theirs, prediction, truth)
    assert [int(ours[name].item()) for name in COUNT_NAMES] == [7, 1, 0, 0]
    assert [int(theirs[name]) for name in COUNT_NAMES] == [3, 2, 0, 3]
    assert ours["csi"].item() == 7 / 8
    assert pysteps.det_cat_fct_compute(theirs, "CSI")["CSI"] == pytest.approx(3 / 5)
    # The threshold just below makes the two the same: values equal to it are all that differs.
    theirs = pysteps.det_cat_fct_init(np.nextafter(LEVEL, np.float32(0)))
    pysteps.det_cat_fct_accum(theirs, prediction, truth)
    assert [int(theirs[name]) for name in COUNT_NAMES] == [7, 1, 0, 0]


def test_pysteps_takes_nan_for_no_event_where_it_is_refused_or_masked_here():
    theirs = pysteps.det_cat_fct_init(LEVEL)
    pysteps.det_cat_fct_accum(theirs, np.array([np.nan, np.nan]), np.array([ABOVE, BELOW]))
    assert [int(theirs[name]) for name in COUNT_NAMES] == [0, 1, 0, 1]
    unknown = np.full((1, 1, 1, 1, 2), np.nan, np.float32)
    scores = Scores(1, (5.0,))
    with pytest.raises(InputError, match="NaN at lead time 1"):
        scores.update(unknown, np.full_like(unknown, ABOVE), np.isnan(unknown))
    scores.update(unknown, unknown, ~np.isnan(unknown))
    assert [int(scores.compute()[name].item()) for name in COUNT_NAMES] == [0, 0, 0, 0]
