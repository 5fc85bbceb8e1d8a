"""Part flow: our optical flow beside pysteps' Lucas–Kanade extrapolation, in seconds and skill.

Scores are in rain rate on an event's whole grid. Pixels count where the observation is finite; a
forecast's NaN counts as dry; an event is a rate that reaches the threshold (≥); rates below
0.1 mm/h are 0. CSI is averaged over lead times and starts, where it is defined.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.benchmarks.report import Report, Row
from nowcast.errors import InputError
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.pysteps_calls import called, interfaces
from nowcast.progress import progress
from nowcast.radar.event_sources import open_event
from nowcast.radar.events import Event, rain_rates
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel
from nowcast.verification.accumulator import mean_of_defined

OURS, THEIRS = "optical flow", "pysteps"

FAINTEST_MM_H = 0.1
"""Lower rates count as dry, for both."""

TOLERANCE = 0.01
"""A mean CSI that is lower than pysteps' by more is a miss."""

Rates = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass
class _Found:
    """What the starts of one event gave; per method, seconds and CSI `(threshold,)` of each."""

    times: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], THEIRS: []})
    csi: dict[str, list[Scores]] = field(default_factory=lambda: {OURS: [], THEIRS: []})


def measure_flow(
    events: tuple[Path, ...],
    input_frames: int = 5,
    lead_times: int = 20,
    thresholds_mm_h: tuple[float, ...] = (0.5, 2.0, 5.0),
    at_most: int | None = None,
) -> Report:
    """Time and score optical flow beside pysteps' Lucas–Kanade motion with its extrapolation.

    A round is a start: a frame with enough frames before and after it. Both forecast from the same
    frames, one after the other, in one thread; timed are motion and nowcast, from what a method
    takes to what it gives: pixel values for ours, rain rates for pysteps, which makes decibels of
    them for the motion.

    Args:
        events: files of radar events, as `prepare_data events` takes them.
        input_frames: observed frames that both see, the start the last of them.
        lead_times: frames that both forecast.
        thresholds_mm_h: rain rates that CSI is computed for.
        at_most: starts of an event that are taken, spread evenly over it; None takes all.

    Raises:
        InputError: for settings that make no sense, an event that cannot be read or is too short,
            or if pysteps is not installed.
    """
    settings = {**locals(), "events": [str(path) for path in events]}
    fewest = lead_times if at_most is None else min(lead_times, at_most)
    if not events or not thresholds_mm_h or input_frames < 2 or fewest < 1:
        raise InputError(
            f"flow: found {len(events)} events, {len(thresholds_mm_h)} thresholds, "
            f"input_frames={input_frames}, lead_times={lead_times} and at_most={at_most}, "
            "expected at least 1, and 2 input frames"
        )
    opened = [open_event(path) for path in events]
    starts = [_starts(event, input_frames, lead_times, at_most) for event in opened]
    interfaces()
    rows: list[Row] = []
    facts: dict[str, Any] = {"thresholds, mm/h": list(thresholds_mm_h)}
    with _one_thread():
        # Whatever is loaded and set up at the first call is not what a forecast costs.
        observed, _ = _clip(opened[0], starts[0][0], input_frames, lead_times)
        _our_forecast(observed, lead_times)
        _their_forecast(observed, lead_times)
        for event, own in zip(opened, starts, strict=True):
            found = _Found()
            name = f"{event.path.stem}, {len(own)} starts"
            for start in progress(own, name, unit="starts"):
                observed, truth = _clip(event, start, input_frames, lead_times)
                found.times.append(str(event.times[start].astype("datetime64[m]")))
                for method, forecast in ((THEIRS, _their_forecast), (OURS, _our_forecast)):
                    rates, seconds = forecast(observed, lead_times)
                    found.seconds[method].append(seconds)
                    found.csi[method].append(mean_csi(rates, truth, thresholds_mm_h))
            base = f"{name}: {THEIRS}"
            for method in (THEIRS, OURS):
                compared_with = None if method == THEIRS else base
                row = (f"{name}: {method}", tuple(found.seconds[method]), lead_times, "frames")
                rows.append(Row(*row, compared_with=compared_with))
            facts |= _facts(event.path.stem, found, thresholds_mm_h)
    return Report("flow", settings, tuple(rows), facts)


def mean_csi(forecast: Rates, truth: Rates, thresholds_mm_h: tuple[float, ...]) -> Scores:
    """CSI at each threshold, averaged over the lead times at which it is defined.

    Args:
        forecast: mm/h, `(lead_time, y, x)`; NaN counts as dry.
        truth: mm/h, likewise; NaN does not count.
        thresholds_mm_h: an event is a rate that reaches it.

    Returns:
        `(threshold,)`; NaN where neither reaches the threshold at any lead time.
    """
    scores = np.full((len(truth), len(thresholds_mm_h)), np.nan)
    for own, said, was in zip(scores, forecast, truth, strict=True):
        counts = np.isfinite(was)
        for number, threshold in enumerate(thresholds_mm_h):
            said_event, event = (said >= threshold) & counts, was >= threshold
            hits = np.count_nonzero(said_event & event)
            either = np.count_nonzero(said_event | event)
            if either:
                own[number] = hits / either
    return mean_of_defined(scores)


def _starts(event: Event, input_frames: int, lead_times: int, at_most: int | None) -> list[int]:
    """Places of the frames that end a past and begin a future without a gap."""
    length = input_frames + lead_times
    seconds = event.times.astype("datetime64[s]").astype(np.int64)
    firsts = np.arange(len(seconds) - length + 1)
    spans = seconds[firsts + length - 1] - seconds[firsts]
    whole = firsts[spans == round((length - 1) * event.step_minutes * 60)]
    if not whole.size:
        raise InputError(
            f"{event.path}: found {len(seconds)} frames, expected {length} without a gap"
        )
    if at_most is not None and at_most < whole.size:
        whole = whole[np.linspace(0, whole.size - 1, at_most).round().astype(int)]
    return [int(first) + input_frames - 1 for first in whole]


def _clip(event: Event, start: int, input_frames: int, lead_times: int) -> tuple[Rates, Rates]:
    """Observed frames up to the start and those that follow, in mm/h."""
    frames = rain_rates(event, start - input_frames + 1, input_frames + lead_times)
    rates = np.stack([rate.astype(np.float32) for rate in frames])
    rates[rates < FAINTEST_MM_H] = 0.0
    return rates[:input_frames], rates[input_frames:]


def _our_forecast(observed: Rates, lead_times: int) -> tuple[Rates, float]:
    """Forecast (lead_time, y, x) in mm/h, and seconds."""
    pixels = rain_rate_to_pixel(observed).clip(0.0, 1.0)
    frames = torch.from_numpy(pixels)[None, :, None]
    started = time.perf_counter()
    forecast = OpticalFlow().forecast(frames, lead_times)
    seconds = time.perf_counter() - started
    rates = pixel_to_rain_rate(forecast[0, :, 0].numpy())
    rates[rates < FAINTEST_MM_H] = 0.0
    return rates, seconds


def _their_forecast(observed: Rates, lead_times: int) -> tuple[Rates, float]:
    motion, nowcasts = interfaces()
    with called("pysteps Lucas–Kanade extrapolation"):
        from pysteps.utils.transformation import dB_transform

        latest = observed[-1].astype(np.float64)
        started = time.perf_counter()
        decibels, _ = dB_transform(observed, threshold=FAINTEST_MM_H, zerovalue=-15.0)
        velocity = motion.get_method("LK")(decibels)
        rates = nowcasts.get_method("extrapolation")(latest, velocity, lead_times)
        seconds = time.perf_counter() - started
    return rates.astype(np.float32), seconds


def _facts(event: str, found: _Found, thresholds_mm_h: tuple[float, ...]) -> dict[str, Any]:
    """A line for every start, and one for their mean with what it says."""
    facts = {
        f"{event} {when}": _compared(ours, theirs)
        for when, ours, theirs in zip(found.times, found.csi[OURS], found.csi[THEIRS], strict=True)
    }
    ours, theirs = (mean_of_defined(np.stack(found.csi[method])) for method in (OURS, THEIRS))
    misses = [
        f"{threshold:g} mm/h"
        for threshold, own, other in zip(thresholds_mm_h, ours, theirs, strict=True)
        if own < other - TOLERANCE
    ]
    verdict = f"worse by more than {TOLERANCE:g}: " + (", ".join(misses) or "nowhere")
    facts[f"{event}, mean of {len(found.times)} starts"] = {
        **_compared(ours, theirs),
        "verdict": f"MISS, {verdict}" if misses else verdict,
    }
    return facts


def _compared(ours: Scores, theirs: Scores) -> dict[str, Any]:
    """CSI by threshold; None where it is not defined."""

    def plain(values: Scores) -> list[float | None]:
        return [round(float(value), 4) if np.isfinite(value) else None for value in values]

    return {OURS: plain(ours), THEIRS: plain(theirs), "difference": plain(ours - theirs)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV and torch compute with one thread; what else pysteps uses here has no more."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
