"""Verification: scores of nowcasts, the benchmark's two protocols, and reports of both."""

from nowcast.verification.accumulator import Accumulator
from nowcast.verification.cases import Cases
from nowcast.verification.comparison import Scope, check_comparable, side_by_side
from nowcast.verification.ensembles import EnsembleScores
from nowcast.verification.fractions import FractionsSkill
from nowcast.verification.offline import evaluate
from nowcast.verification.online import evaluate_online
from nowcast.verification.online_rule import online_steps
from nowcast.verification.rain_rate import RainRateErrors
from nowcast.verification.report import make_report
from nowcast.verification.report_contents import Report
from nowcast.verification.report_files import read_json, write_csv, write_json
from nowcast.verification.resampling import bootstrap_intervals, paired_test, resample_weights
from nowcast.verification.results import MethodResult, ScoreKinds
from nowcast.verification.running import central_region
from nowcast.verification.scores import THRESHOLDS_MM_H, Scores, skill_scores
from nowcast.verification.spectra import Spectra
from nowcast.verification.table import format_table
from nowcast.verification.target_masks import target_mask_of
from nowcast.verification.weights import balanced_weights

__all__ = [
    "THRESHOLDS_MM_H",
    "Accumulator",
    "Cases",
    "EnsembleScores",
    "FractionsSkill",
    "MethodResult",
    "RainRateErrors",
    "Report",
    "Scope",
    "ScoreKinds",
    "Scores",
    "Spectra",
    "balanced_weights",
    "bootstrap_intervals",
    "central_region",
    "check_comparable",
    "evaluate",
    "evaluate_online",
    "format_table",
    "make_report",
    "online_steps",
    "paired_test",
    "read_json",
    "resample_weights",
    "side_by_side",
    "skill_scores",
    "target_mask_of",
    "write_csv",
    "write_json",
]
