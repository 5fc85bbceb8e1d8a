"""The benchmark's offline ("fixed") protocol: every clip is forecast and scored on its own.

What a clip is and where it comes from is not decided here; forecasting and scoring one is
`running`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from nowcast.errors import InputError
from nowcast.verification.cases import Cases
from nowcast.verification.results import MethodResult, ScoreKinds
from nowcast.verification.resuming import (
    SECONDS_BETWEEN_SAVES,
    SavedEvaluation,
    go_through,
    number_of,
    sizes_of,
)
from nowcast.verification.running import Method, Region, Scoring


def evaluate(
    methods: Mapping[str, Method],
    batches: Iterable[Cases],
    *,
    lead_times: int,
    kinds: ScoreKinds,
    region: Region | None = None,
    save_to: Path | None = None,
    fingerprint: str = "",
    save_every_s: float = SECONDS_BETWEEN_SAVES,
) -> dict[str, MethodResult]:
    """Score several methods on the same clips.

    An evaluation that was stopped goes on from `save_to`, and its scores are bit for bit those of
    one that was not, if the methods' forecasts follow from what they are given alone.

    Args:
        methods: what forecasts, by the name that reports show. Methods see the inputs, places and
            times of clips, never a target or a mask.
        batches: the clips, gone through once.
        lead_times: number of frames to forecast.
        kinds: the scores to accumulate.
        region: rows and columns to score: see `running.Region` and `running.central_region`.
        save_to: file to save the state to from time to time, when asked to stop by Ctrl-C or
            SIGTERM, and at the end, so that nothing is lost until the scores are kept: the caller
            removes it then. The state of an evaluation that is done gives its results at once.
            None saves nothing.
        fingerprint: what decides the outcome besides the methods' names, lead times, region and
            sizes of batches: clips, weights, settings. The state of another evaluation that is
            found at `save_to` is refused.
        save_every_s: seconds of work between two savings, at least.

    Returns:
        What was found of every method, by name, in their order.

    Raises:
        InputError: no methods or no clips, or fewer or more than the batches said; a forecast of
            wrong shape or with values that are not finite (names the method); a state that does not
            fit.
        Stopped: asked to stop, with the state saved.
    """
    scoring = Scoring(methods, lead_times, kinds, region)
    saved = SavedEvaluation(
        save_to, described("offline", scoring, batches, fingerprint), save_every_s
    )
    go_through(batches, scoring.add, {"scores": scoring}, saved, unit="batch")
    return complete(scoring, batches)


def described(protocol: str, scoring: Scoring, batches: Iterable[Cases], fingerprint: str) -> str:
    """What tells an evaluation from others.

    Args:
        protocol: its protocol.
        scoring: its methods and what is scored.
        batches: its clips.
        fingerprint: what the caller adds.
    """
    sizes = sizes_of(batches)
    size = number_of(batches), None if sizes is None else sum(sizes)
    return repr(
        (protocol, list(scoring.methods), scoring.lead_times, scoring.region, size, fingerprint)
    )


def complete(scoring: Scoring, batches: Iterable[Cases]) -> dict[str, MethodResult]:
    """What was found, if it was found of all clips that the batches say they have.

    Raises:
        InputError: a method was scored on fewer or more.
    """
    sizes = sizes_of(batches)
    for name, result in scoring.results.items():
        if sizes is not None and result.clips != sum(sizes):
            raise InputError(
                f"evaluation of {name!r}: found {result.clips:,} clips, expected {sum(sizes):,}"
            )
    return scoring.results
