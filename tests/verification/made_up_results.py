"""Results of several methods on a few events of random rain, with scores of every kind."""

import numpy as np

from nowcast.verification.ensembles import EnsembleScores
from nowcast.verification.fractions import FractionsSkill
from nowcast.verification.rain_rate import RainRateErrors
from nowcast.verification.results import MethodResult
from nowcast.verification.scores import Scores
from nowcast.verification.spectra import Spectra

LEAD_TIMES, SIDE, MEMBERS = 3, 12, 4
THRESHOLDS_MM_H = (0.5, 2.0, 30.0)
WINDOWS_PIXELS = (1, 3, 5)
SETTINGS = {
    "protocol": "offline",
    "split": "test",
    "step_minutes": 6,
    "store": "rain.h5",
    "region": None,
    "checkpoints": {"net": {"file": "run/last.ckpt", "sha256": "abc"}},
}


def empty(kind, members=MEMBERS):
    return {
        "benchmark": lambda: Scores(LEAD_TIMES, THRESHOLDS_MM_H),
        "rain rate": lambda: RainRateErrors(LEAD_TIMES),
        "fractions": lambda: FractionsSkill(LEAD_TIMES, THRESHOLDS_MM_H, WINDOWS_PIXELS),
        "spectra": lambda: Spectra(LEAD_TIMES, (SIDE, SIDE)),
        "ensemble": lambda: EnsembleScores(LEAD_TIMES, members, THRESHOLDS_MM_H),
    }[kind]()


def made_up_results(
    errors=None, events=4, kinds=("benchmark", "rain rate", "fractions", "spectra"), seed=0
):
    """Results by method; its forecasts are the truth with an error of a size.

    A method called "ensemble" has four members. Events have one clip, two, one, two and so on.
    """
    errors = {"near": 0.02, "far": 0.1} if errors is None else errors
    rng = np.random.default_rng(seed)
    results = {name: MethodResult(MEMBERS if name == "ensemble" else 1) for name in errors}
    for event in range(events):
        clips = 1 + event % 2
        truth = rng.uniform(0.1, 0.65, (clips, LEAD_TIMES, 1, SIDE, SIDE)).astype(np.float32)
        mask = rng.random(truth.shape) > 0.1
        for name, error in errors.items():
            noise = rng.normal(0, error, (MEMBERS, *truth.shape)).astype(np.float32)
            members = (truth + noise).swapaxes(0, 1)
            scores = {kind: empty(kind) for kind in kinds}
            for one in scores.values():
                one.update(members[:, 0], truth, mask)
            if name == "ensemble":
                scores["ensemble"] = empty("ensemble")
                scores["ensemble"].update(members, truth, mask)
            results[name].events[f"event {event}"] = scores
    return results
