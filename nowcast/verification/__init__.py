"""Scores of nowcasts: the benchmark's scores, its offline protocol, and reports of them."""

from nowcast.verification.offline import evaluate
from nowcast.verification.report import (
    Report,
    make_report,
    read_json,
    side_by_side,
    write_csv,
    write_json,
)
from nowcast.verification.scores import THRESHOLDS_MM_H, Scores, skill_scores
from nowcast.verification.table import format_table
from nowcast.verification.weights import balanced_weights

__all__ = [
    "THRESHOLDS_MM_H",
    "Report",
    "Scores",
    "balanced_weights",
    "evaluate",
    "format_table",
    "make_report",
    "read_json",
    "side_by_side",
    "skill_scores",
    "write_csv",
    "write_json",
]
