"""An evaluation as a user runs it: methods, clips, protocol and scores in, a report out.

What the files look like that are written of it is `outputs`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nowcast.errors import InputError
from nowcast.evaluation.methods import Method, MethodSettings, grid_spacing_km
from nowcast.evaluation.outputs import write_outputs
from nowcast.evaluation.settings import ClipSettings, ScoreSettings
from nowcast.evaluation.shown_clips import show, wettest_by_event
from nowcast.files import check_place
from nowcast.models.checkpoint import TrainedNetwork
from nowcast.progress import progress
from nowcast.radar.store import FrameStore
from nowcast.training.clips import SequentialClips
from nowcast.training.data import BatchesToScore, DataSettings
from nowcast.training.online import OnlineFinetuning
from nowcast.verification import (
    Report,
    Scope,
    check_comparable,
    evaluate,
    evaluate_online,
    make_report,
    read_json,
    side_by_side,
    target_mask_of,
)
from nowcast.verification.provenance import commit, versions
from nowcast.verification.report_contents import plain_settings

STATE = "evaluation.state"
"""File of what an unfinished evaluation has summed up."""


def evaluate_into(
    data: DataSettings,
    out: Path,
    methods: MethodSettings,
    clips: ClipSettings,
    scores: ScoreSettings,
    animations: int = 3,
    beside: tuple[Path, ...] = (),
) -> Report:
    """Score methods on all clips of a split, and write what `outputs.write_outputs` names.

    Interrupted, it goes on when it is started again.

    Args:
        data: where clips come from.
        out: folder for what is written.
        methods: what is compared.
        clips: which clips, and by which protocol.
        scores: what is scored.
        animations: how many events to animate on the page, the wettest clip of each.
        beside: scores.json of earlier evaluations of the same clips, or their folders, to show in
            one table with this one's; a method that is in several is shown with the folder's name.

    Returns:
        The scores, beside those of earlier evaluations.

    Raises:
        InputError: if a method, the store or an earlier evaluation does not fit, or `out` cannot be
            written.
        Stopped: asked to stop, with the state saved.
    """
    check_place(out, folder=True)
    if animations < 0:
        raise InputError(f"animations: found {animations}, expected at least 0")
    if clips.protocol == "online" and clips.stride != data.input_frames:
        raise InputError(
            f"stride: found {clips.stride} with the online protocol, expected {data.input_frames}, "
            "the number of input frames that each clip brings"
        )
    others = _earlier(out, beside)
    opened = methods.open(data, clips.split)
    chosen = SequentialClips(data.open(), clips.split, data.length, clips.stride, clips.at_most)
    kinds = scores.kinds(data.lead_times, chosen.store.shape)
    settings = _settings(data, methods, clips, scores, chosen.store)
    minutes = [chosen.store.step_minutes * (step + 1) for step in range(data.lead_times)]
    axes = {
        axis: list(values)
        for kind in kinds.forecast().values()
        for axis, values in kind.coordinates.items()
    }
    scope = Scope(settings, minutes, list(scores.thresholds_mm_h), len(chosen), axes)
    check_comparable(out.absolute().name, scope, others)
    state = out / STATE
    # What computes the scores is what is there now, not what stands in the checkout at the end.
    stamp = commit()
    shared: dict[str, Any] = {
        "lead_times": data.lead_times,
        "kinds": kinds,
        "region": scores.region(chosen.store.shape),
        "save_to": state,
        "fingerprint": _fingerprint(settings, data, methods, scores, chosen.store),
    }
    if clips.protocol == "offline":
        results = evaluate(opened, BatchesToScore(chosen, data), **shared)
    else:
        results = evaluate_online(
            opened,
            BatchesToScore(chosen, data, one_by_one=True),
            adapts=_learning(opened, clips.online_learning_rate),
            step_minutes=chosen.store.step_minutes,
            target_mask=target_mask_of(chosen.store),
            **shared,
        )
    report = make_report(results, settings, resamples=scores.resamples, seed=scores.resampling_seed)
    report["commit"] = stamp
    compared = side_by_side({out.absolute().name: report, **others}) if others else report
    notes = []
    if clips.protocol == "online" and animations:
        # They have seen what came after the clips that are shown.
        opened = methods.open(data, clips.split)
        notes.append("Animations show networks as they were before they learned on the way.")
    wettest = wettest_by_event(chosen, animations) if animations else []
    shown = [
        show(data, *clip, opened)
        for clip in (progress(wettest, "animating", unit="clips") if wettest else ())
    ]
    title = f"{data.store.stem}, {clips.split} clips, {clips.protocol}"
    write_outputs(out, report, compared, shown, title, notes)
    state.unlink(missing_ok=True)
    return compared


def evaluated(
    data: DataSettings,
    out: Path,
    methods: MethodSettings,
    clips: ClipSettings,
    scores: ScoreSettings,
) -> Report | None:
    """The report that `evaluate_into` left in `out`, None if it has not, or of something else.

    Raises:
        InputError: if a checkpoint or the store is missing, or the report is damaged.
    """
    path = out / "scores.json"
    if not path.exists():
        return None
    report = read_json(path)
    found = {
        "settings": report["settings"],
        # What a network is shown as with its layers on follows from its checkpoint.
        "methods": [name for name in report["methods"] if not name.endswith("-T")],
        "lead_times": len(report["lead_minutes"]),
        "thresholds_mm_h": report["thresholds_mm_h"],
    }
    return report if found == identity(data, methods, clips, scores) else None


def identity(
    data: DataSettings, methods: MethodSettings, clips: ClipSettings, scores: ScoreSettings
) -> dict[str, Any]:
    """What tells an evaluation from others, as JSON has it: store, clips, methods, thresholds.

    A checkpoint is told by its bytes.

    Raises:
        InputError: if a checkpoint or the store is missing.
    """
    found = {
        "settings": plain_settings(_settings(data, methods, clips, scores, data.open())),
        "methods": [*methods.baselines, *(methods.checkpoints or {}), *(methods.forecasts or {})],
        "lead_times": data.lead_times,
        "thresholds_mm_h": scores.thresholds_mm_h,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _earlier(out: Path, paths: Sequence[Path]) -> dict[str, Report]:
    """Earlier evaluations, each told by the name of its folder, or by its path where that is taken.

    Raises:
        InputError: a file is no report.
    """
    reports: dict[str, Report] = {}
    for given in paths:
        path = given / "scores.json" if given.is_dir() else given
        label = path.absolute().parent.name
        taken = label in reports or label == out.absolute().name
        reports[str(path) if taken else label] = read_json(path)
    return reports


def _settings(
    data: DataSettings,
    methods: MethodSettings,
    clips: ClipSettings,
    scores: ScoreSettings,
    store: FrameStore,
) -> dict[str, Any]:
    """What the report is stamped with."""
    settings: dict[str, Any] = {
        "protocol": clips.protocol,
        "split": clips.split,
        "step_minutes": store.step_minutes,
        "store": data.store,
        "fingerprint": store.fingerprint,
        "frame_shape": store.shape,
        "grid_spacing_km": grid_spacing_km(store),
        "region": scores.region(store.shape),
        "input_frames": data.input_frames,
        "stride": clips.stride,
        "at_most": clips.at_most,
        **methods.described(),
    }
    if clips.protocol == "online":
        settings["online"] = {"optimizer": "AdaGrad", "learning_rate": clips.online_learning_rate}
    return settings


def _fingerprint(
    settings: Mapping[str, Any],
    data: DataSettings,
    methods: MethodSettings,
    scores: ScoreSettings,
    store: FrameStore,
) -> str:
    """All that decides the sums of an evaluation, in text: only the same one goes on from a state.

    How sure the scores are is worked out at the end, so that settings of the resampling are none of
    it.
    """
    scored = replace(scores, resamples=0, resampling_seed=0)
    mask = store.exclude_mask
    excluded = None if mask is None else hashlib.sha256(mask.tobytes()).hexdigest()
    decisive = (asdict(scored), data.batch_size, methods.device, excluded, commit(), versions())
    return json.dumps([settings, decisive], default=str, sort_keys=True)


def _learning(methods: Mapping[str, Method], learning_rate: float) -> dict[str, OnlineFinetuning]:
    """What lets the networks learn, each in place: they were loaded for this evaluation alone."""
    return {
        name: OnlineFinetuning(method.network, learning_rate=learning_rate)
        for name, method in methods.items()
        if isinstance(method, TrainedNetwork)
    }
